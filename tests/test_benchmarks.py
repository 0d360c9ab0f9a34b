"""The benchmark harness: its arithmetic, and that the cases run."""

import importlib.util

import pytest

from benchmarks.case import Case
from benchmarks.cases import CASES
from benchmarks.machine import copy_seconds, describe
from benchmarks.measure import MemoryMark, seconds_per_call
from benchmarks.report import geometric_mean, markdown, ratio, summarise


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
    assert copy_seconds(1 << 20) > 0
    assert MemoryMark().peak().keys() == {"peak_mib", "peak_above_import_mib"}


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="runs the cases on PyTorch, which is not installed"
)
@pytest.mark.parametrize("name", [name for name in CASES if "1e7" not in name])
def test_cases_run_on_pytorch(name):
    import torch

    program = CASES[name].build(torch)
    program.fn(*program.inputs)
