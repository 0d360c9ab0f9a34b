"""Random programs agree eagerly cold, eagerly warm, traced and in PyTorch; so do those that once did not."""
from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import run
from tests.fuzz.generate import generate

PROGRAMS, CHUNK, LENGTH = 2000, 25, 8
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
