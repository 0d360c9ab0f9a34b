"""The examples run: the demo with few epochs, the notebook from top to bottom."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def needs(*modules):
    """Skip where one of these modules is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}, not installed")


@needs("matplotlib", "sklearn", "tqdm")
def test_demo(tmp_path):
    command = [sys.executable, str(EXAMPLES / "digits.py"), "--epochs", "2", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "eager  test accuracy" in done.stdout
    assert "traced test accuracy" in done.stdout
    assert "Fused into" in done.stdout
    assert re.search(r"# sqrt +digits.py:\d+", done.stdout), "a kernel with the lines of the example"
    for picture in ("loss.png", "misclassified.png"):
        assert (tmp_path / picture).stat().st_size > 1000


@needs("matplotlib", "sklearn", "nbclient", "nbformat", "ipykernel")
def test_notebook():
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    resources = {"metadata": {"path": str(EXAMPLES.parent)}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources)
    client.execute()
    texts = [output.text for cell in notebook.cells for output in cell.get("outputs", ()) if "text" in output]
    accuracies = [float(text.split("%")[0].split()[-1]) for text in texts if text.startswith("test accuracy")]
    assert len(accuracies) == 2
    assert min(accuracies) >= 97
    assert any(text.startswith("def step(") for text in texts), "the graph"
    assert any("def kernel(" in text for text in texts)
    kinds = [kind for cell in notebook.cells for output in cell.get("outputs", ()) for kind in output.get("data", ())]
    assert "image/png" in kinds
    assert kinds.count("text/plain") >= 4, "values of cells"
