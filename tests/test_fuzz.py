"""Random programs agree eagerly cold, eagerly warm, traced and in PyTorch; so do those that once did not."""
from __future__ import annotations

from pathlib import Path

import pytest

import jtorch
from jtorch.capture.record import current
from jtorch.config import config
from jtorch.ir.primitive import REGISTRY
from tests.fuzz import menu, run
from tests.fuzz.generate import generate

PROGRAMS, CHUNK, LENGTH = 2000, 25, 6
KEPT = sorted(Path(__file__).parent.joinpath("fuzz", "kept").glob("*.py"))


@pytest.mark.parametrize("path", KEPT, ids=lambda p: p.stem)
def test_kept(path):
    assert run.check(path.read_text()) == []


@pytest.mark.parametrize("start", range(0, PROGRAMS, CHUNK))
def test_random(start):
    for seed in range(start, start + CHUNK):
        source = generate(seed, LENGTH)
        problems = run.check(source)
        assert not problems, f"seed {seed}\n{source}\n" + "\n".join(problems)


def test_the_menu_has_every_operation():
    assert not set(REGISTRY) - set(menu.menu()) - set(menu.NOT_DRAWN) - {"call"}


@pytest.mark.parametrize("name", [n for n in menu.menu() if n not in menu.NOT_RECORDED])
def test_what_is_drawn_records_the_operation(name, monkeypatch):
    monkeypatch.setattr(config, "eager_compile", "never")
    current.recorder.reset()
    for entry in menu.entries(name):
        given = [jtorch.ones(3, dtype=jtorch.float64, requires_grad=True) for _ in entry.free]
        for result in menu.sampled(jtorch, name, entry.number, *given):
            if result.requires_grad:
                result.sum().backward(retain_graph=True)
            else:
                result.numpy()
    recorded = [v for found in current.recorder.builder.table.values()
                for v in (found if isinstance(found, tuple) else (found,))]
    assert name in {v.op.name for v in recorded}
