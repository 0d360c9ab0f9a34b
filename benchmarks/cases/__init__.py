"""The cases, one file per kind of work. No case imports its implementation before it is built."""

from benchmarks.case import Case

from . import cnn, elementwise, gpt, lengths, loader, lstm, matmul, mlp, overhead, resnet, rows

CASES: dict[str, Case] = {
    case.name: case
    for module in (elementwise, rows, matmul, mlp, cnn, resnet, gpt, lstm, lengths, loader, overhead)
    for case in module.CASES
}
