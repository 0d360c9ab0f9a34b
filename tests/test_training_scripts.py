"""The training scripts in `examples/` print the same numbers under `python -m jtorch` as with PyTorch, and draw
pictures."""
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
}


def losses(text: str) -> list[float]:
    """The numbers of the lines that tell of training."""
    lines = [line for line in text.splitlines() if re.search(r"\b(epoch|step)\b", line)]
    return [float(n) for line in lines for n in NUMBER.findall(line)]


@needs("torch", "matplotlib", "sklearn", "tqdm")
@pytest.mark.parametrize("name", SCRIPTS)
def test_same_numbers_as_pytorch(name: str, tmp_path: Path, capsys, monkeypatch) -> None:
    settings, tolerance = SCRIPTS[name]
    script = str(EXAMPLES / f"{name}.py")
    arguments = [*settings.split(), "--out"]
    ours = subprocess.run([sys.executable, "-m", "jtorch", script, *arguments, str(tmp_path / "ours")],
                          cwd=EXAMPLES.parent, env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
                          capture_output=True, text=True, timeout=300)
    assert ours.returncode == 0, ours.stderr
    monkeypatch.setattr(sys, "argv", [script, *arguments, str(tmp_path / "theirs")])
    runpy.run_path(script, run_name="__main__")
    expected = losses(capsys.readouterr().out)
    assert len(expected) >= 4
    assert losses(ours.stdout) == pytest.approx(expected, rel=tolerance)
    assert (tmp_path / "ours" / f"{name}.png").stat().st_size > 5000
