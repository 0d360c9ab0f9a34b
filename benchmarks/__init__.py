"""Side-by-side timing of jtorch and its peers: `python -m benchmarks --help`."""
