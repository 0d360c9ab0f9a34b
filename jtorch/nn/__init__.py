"""Neural networks: modules, parameters, functions and initialisation."""
from jtorch.nn import attention, functional, init, modules, parallel, parameter, utils
from jtorch.nn.modules import *  # noqa: F403
from jtorch.nn.modules import __all__ as _modules
from jtorch.nn.parallel import DataParallel
from jtorch.nn.parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

__all__ = ["Buffer", "DataParallel", "Parameter", "UninitializedBuffer", "UninitializedParameter", "attention",
           "functional", "init", "modules", "parallel", "parameter", "utils", *_modules]
