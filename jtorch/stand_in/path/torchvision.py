"""`torchvision` in a process that a script run by `python -m jtorch` has started."""
import importlib
import sys

from jtorch.stand_in import install

install()
sys.modules[__name__] = importlib.import_module("jtorch.vision")
