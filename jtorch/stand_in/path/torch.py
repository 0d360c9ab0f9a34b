"""`torch` in a process that a script run by `python -m jtorch` has started."""
from jtorch.stand_in import install

install()
