"""Neural networks: modules, parameters, functions and initialisation."""
from jtorch.nn import functional, init, modules, parameter, utils
from jtorch.nn.modules import *  # noqa: F403
from jtorch.nn.modules import __all__ as _modules
from jtorch.nn.parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "functional", "init", "modules",
           "parameter", "utils", *_modules]
