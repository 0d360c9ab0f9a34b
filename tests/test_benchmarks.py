"""The benchmark harness: its arithmetic, and that the cases run."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import jtorch
from benchmarks import optimizers
from benchmarks.case import Case
from benchmarks.cases import CASES
from benchmarks.machine import Copies, describe
from benchmarks.measure import MemoryMark, seconds_per_call
from benchmarks.ops import neural, numeric, pointwise, rearranging, reducing
from benchmarks.ops.__main__ import markdown as operator_table
from benchmarks.ops.__main__ import read
from benchmarks.ops.cases import OPERATORS
from benchmarks.ops.inputs import INPUTS, tensors
from benchmarks.ops.operator import resolve
from benchmarks.report import geometric_mean, markdown, ratio, summarise
from benchmarks.turns import END, Peer, take_turns


def test_summary_keeps_cold_and_warm_apart():
    rounds = [{"seconds": s, "first_call_seconds": f} for s, f in ((4.0, 9.0), (2.0, 1.0), (3.0, 2.0))]
    summary = summarise(rounds, least=False)
    assert (summary["seconds"], summary["first_call_cold_seconds"], summary["first_call_warm_seconds"]) == (
        3.0,
        9.0,
        1.5,
    )
    assert summarise(rounds, least=True)["seconds"] == 2.0
    assert summarise([{"unavailable": "not installed"}], least=False) == {"unavailable": "not installed"}


def test_report_shows_ratios_and_reasons():
    row = {
        "torch": {"seconds": 4e-6, "peak_mib": 300.0, "peak_above_import_mib": 10.0},
        "jax": {"unavailable": "ModuleNotFoundError: No module named 'jax'"},
        "jtorch": {"seconds": 8e-6},
        "jtorch.trace": {"seconds": 2e-6, "first_call_cold_seconds": 0.5, "first_call_warm_seconds": 0.1},
    }
    assert ratio(row) == 2.0
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1.0)
    cases = {"chain": Case("chain", lambda torch: None, traffic=8)}
    text = markdown({"chain": row}, cases, {"chain": 1e-6}, describe(), list(row))
    assert "| chain | 4.00 |  | 8.00 | 2.00 | 2.00× | jtorch 50%, best peer 25% |" in text
    assert "over 1 cases: 2.00×" in text
    assert "- jax: ModuleNotFoundError: No module named 'jax' (chain)" in text
    assert "0.5 / 0.1" in text
    assert "10 / 300" in text


def test_clocks():
    assert 0 < seconds_per_call(lambda: None) < 1e-4
    waiting = list(range(9))
    seconds_per_call(lambda: None, 0.001, 0, lambda: len(waiting) and waiting.pop() + 1)
    assert not waiting  # what is still compiled is not measured
    copies = Copies(1 << 20)
    copies()
    assert copies.times >= 10 and all((source == target).all() for source, target in copies.pairs)
    assert MemoryMark().peak().keys() == {"peak_mib", "peak_above_import_mib"}


SIDE = """
from benchmarks.measure import Samples
from benchmarks.turns import answer, serve
print("hello")
samples = Samples(lambda: None, 0.0)
serve(samples.take)
answer({"samples": len(samples.seconds)})
"""


def test_processes_are_measured_in_turn():
    run = [sys.executable, "-c"]
    peers = [Peer([*run, SIDE], os.environ, 60) for _ in range(2)]
    lost = Peer([*run, "raise ValueError('no such case')"], os.environ, 60)
    late = Peer([*run, "import time; time.sleep(60)"], os.environ, 0.1)
    assert [peer.hear() for peer in peers] == [{}, {}]
    take_turns([*peers, lost], 0.2)
    assert all(peer.ask(END)["samples"] >= 2 for peer in peers)
    assert lost.hear() == {"unavailable": "exit code 1: ValueError: no such case"}
    assert late.hear() == {"unavailable": "still running after 0 s"}
    for peer in (*peers, lost, late):
        peer.end()


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="runs the cases on PyTorch, which is not installed"
)
@pytest.mark.parametrize("name", [name for name in CASES if "1e7" not in name])
def test_cases_run_on_pytorch(name):
    import torch

    program = CASES[name].build(torch)
    program.fn(*program.inputs)


@pytest.mark.parametrize("side", optimizers.SIDES)
def test_optimizer_steps_run(side):
    if side in ("torch", "foreach", "fused"):
        pytest.importorskip("torch", reason="runs PyTorch's optimizers, which is not installed")
    optimizers.step_of(side, "Adam", "1M")()


# --- operators one by one ---------------------------------------------------------------------------------------------

def test_operators_are_named_once_and_their_inputs_exist() -> None:
    modules = (neural, numeric, pointwise, rearranging, reducing)
    assert len(OPERATORS) == sum(len(module.CASES) for module in modules)
    for operator in OPERATORS.values():
        assert set(operator.inputs) <= set(INPUTS), operator.name
        resolve(jtorch, operator.covers)


@pytest.mark.parametrize("name", ["add", "softmax dim 1 backward", "sort vector int64", "linalg.det 64 of 32 backward"])
def test_an_operator_gives_pytorchs_results(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    operator = OPERATORS[name]
    ours, theirs = (operator.prepare(module, tensors(module, operator.inputs))() for module in (jtorch, torch))
    for got, want in zip(*(found if isinstance(found, tuple) else (found,) for found in (ours, theirs)), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-3, atol=1e-5)


def test_operator_table_is_sorted_by_ratio(tmp_path: Path) -> None:
    lines = [{"operator": "a", "failed": {}, "torch": 1e-3, "jtorch": 1e-3},
             {"operator": "b", "failed": {}, "torch": 1e-3, "jtorch": 2e-3},
             {"operator": "c", "failed": {"jtorch": "TypeError"}, "torch": 1e-3},
             {"operator": "a", "failed": {}, "jtorch": 5e-4}]
    path = tmp_path / "ops.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    rows = read(path)
    assert rows["a"]["torch"] == 1e-3 and rows["a"]["jtorch"] == 5e-4  # the latest of either side
    machine = {"processor": "P", "threads": 2, "python": "3", "versions": {}}
    text = operator_table(list(rows.values()), machine)
    assert text.index("| b | 1,000 | 2,000 | 2.00 |") < text.index("| a | 1,000 | 500 | 0.50 |")
    assert "2 operators: median of jtorch / PyTorch 1.25, 1 beyond 1.3" in text and "- c: jtorch: TypeError" in text
