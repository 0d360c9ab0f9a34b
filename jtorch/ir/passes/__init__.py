"""Graph -> Graph, one file each; a pipeline is a tuple of functions."""
