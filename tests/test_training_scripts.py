"""The training scripts in `examples/` print the same numbers under `python -m jtorch` as with PyTorch, and draw
pictures. Checkpoints that one writes continue in the other."""
from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_examples import needs

EXAMPLES = Path(__file__).parents[1] / "examples"
NUMBER = re.compile(r"-?\d+\.\d+|-?\d+")

# Short settings, and how far apart printed losses may be after so many float32 steps.
SCRIPTS = {
    "regression": ("--epochs 2 --points 320", 1e-4),
    "cnn": ("--epochs 1 --batch-size 256 --lr 0.1", 1e-3),
    "vae": ("--epochs 2 --batch 128", 1e-4),
    "dcgan": ("--epochs 2 --images 256 --width 8", 1e-3),
    "char_lstm": ("--steps 5 --hidden 32 --length 16 --sample 40", 1e-4),
    "char_gpt": ("--steps 3 --width 16 --heads 2 --layers 2 --length 16 --dropout 0.1 --sample 20", 1e-4),
    "reinforce": ("--episodes 4", 1e-3),
    "matrix_factorization": ("--epochs 2 --ratings 3000", 1e-4),
    "siamese": ("--epochs 2 --pairs 256", 1e-3),
    "time_series": ("--steps 2 --waves 8 --length 20 --hidden 6 --max-iter 4", 1e-5),
}
NEEDS = needs("torch", "matplotlib", "sklearn", "tqdm", "h5py")


def numbers(text: str) -> list[float]:
    """The numbers of the lines that tell of training."""
    lines = [line for line in text.splitlines() if re.search(r"\b(epoch|step|episode)\b", line)]
    return [float(n) for line in lines for n in NUMBER.findall(line)]


class Ours:
    """The script under jtorch, in a process that runs beside PyTorch's until its output is asked for."""

    def __init__(self, name: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jtorch", str(EXAMPLES / f"{name}.py"), *map(str, arguments)], cwd=EXAMPLES.parent,
            env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)

    def output(self) -> str:
        try:
            out, errors = self.process.communicate(timeout=300)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, errors
        return out


@pytest.fixture
def theirs(capsys, monkeypatch):
    """What a script prints with PyTorch, on one thread: its threads spin, and starve each other on a busy machine."""
    import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(name: str, *arguments: object) -> str:
        script = str(EXAMPLES / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        runpy.run_path(script, run_name="__main__")
        return capsys.readouterr().out
    yield run
    torch.set_num_threads(threads)


@NEEDS
@pytest.mark.parametrize("name", SCRIPTS)
def test_same_numbers_as_pytorch(name: str, tmp_path: Path, theirs) -> None:
    settings, tolerance = SCRIPTS[name]
    beside = Ours(name, *settings.split(), "--out", tmp_path / "ours")
    expected = numbers(theirs(name, *settings.split(), "--out", tmp_path / "theirs"))
    assert len(expected) >= 4
    assert numbers(beside.output()) == pytest.approx(expected, rel=tolerance)
    assert (tmp_path / "ours" / f"{name}.png").stat().st_size > 5000


@NEEDS
def test_checkpoints_continue_in_the_other(tmp_path: Path, theirs) -> None:
    arguments = ("finetune", "--epochs", 1, "--out")
    beside = Ours(*arguments, tmp_path / "ours")
    expected = numbers(theirs(*arguments, tmp_path / "theirs"))
    assert numbers(beside.output()) == pytest.approx(expected, rel=1e-3)
    assert (tmp_path / "ours" / "finetune.png").stat().st_size > 5000
    checkpoint = "digits_0_to_4.pt"
    beside = Ours(*arguments, tmp_path / "more", "--checkpoint", tmp_path / "theirs" / checkpoint)
    there = theirs(*arguments, tmp_path, "--checkpoint", tmp_path / "ours" / checkpoint)
    assert numbers(beside.output()) == pytest.approx(numbers(there), rel=1e-3)
