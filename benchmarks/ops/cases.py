"""All operators that are measured."""

from . import neural, numeric, pointwise, rearranging, reducing
from .operator import Operator

OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for module in (pointwise, reducing, rearranging, neural, numeric)
    for operator in module.CASES
}
