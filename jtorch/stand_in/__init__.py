"""jtorch under the name of torch: `import torch`, `import torch.nn` and `import torchvision` give jtorch's modules.

    from jtorch.stand_in import install
    install()
    import torch                      # the module jtorch
    from torch.utils.data import Dataset

`python -m jtorch script.py` does this before it runs the script. Processes that the script starts by `multiprocessing`
(spawn, forkserver) import its main module again with the parent's `sys.path`; the folder `path`, which `install` puts
there, has a `torch` and a `torchvision` that do the same for them.
"""
from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import jtorch
from jtorch import version

STANDS_FOR = {"torch": "jtorch", "torchvision": "jtorch.vision"}
IN_OTHER_PACKAGES = {"safetensors.torch": "jtorch.serialization.safetensors"}
CHILDREN_PATH = str(Path(__file__).parent / "path")


def own_name(name: str) -> str | None:
    """The jtorch module that the module `name` means, None if it is not of torch's."""
    top, dot, rest = name.partition(".")
    return STANDS_FOR[top] + dot + rest if top in STANDS_FOR else IN_OTHER_PACKAGES.get(name)


class Loader:
    """Gives the jtorch module as it is: one module object under two names."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # the import system has put the other name's there

    def get_code(self, name: str) -> CodeType | None:
        """For `-m torch.something`."""
        spec: Any = importlib.util.find_spec(self.name)
        return spec.loader.get_code(self.name)


class Finder:
    """Knows torch's modules."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        own = own_name(name)
        if own is None:
            return None
        try:
            spec = importlib.util.find_spec(own)
        except ModuleNotFoundError:
            spec = None
        if spec is None:
            raise ModuleNotFoundError(f"No module named '{name}' (torch is jtorch here, and there is no '{own}')",
                                      name=name)
        return ModuleSpec(name, Loader(own), origin=spec.origin,  # type: ignore[arg-type]
                          is_package=spec.submodule_search_locations is not None)


def install() -> None:
    """From now on `torch` and `torchvision` are jtorch in this process and in those that multiprocessing starts.

    `torch.__version__` becomes that of the PyTorch whose interface jtorch follows, jtorch's own behind a plus sign.
    RuntimeError if the real PyTorch was imported before.
    """
    present = sys.modules.get("torch")
    if present is jtorch:
        return
    if present is not None and getattr(present, "__file__", None) != str(Path(CHILDREN_PATH) / "torch.py"):
        raise RuntimeError("jtorch cannot stand in for torch: PyTorch is imported already")
    sys.meta_path.insert(0, Finder)
    sys.modules["torch"] = jtorch
    if CHILDREN_PATH not in sys.path:
        sys.path.insert(1, CHILDREN_PATH)
    jtorch.__version__ = version.__version__ = f"{version.pytorch}+jtorch{version.__version__}"
