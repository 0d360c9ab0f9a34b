"""`python -m jtorch`: scripts run as Python runs them, with `torch` meaning jtorch; info; the disk cache."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jtorch
from jtorch.runtime.cache import Cache

ROOT = Path(__file__).parents[1]


def run(*arguments, cwd=ROOT, **environment):
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True,
                          timeout=120)


def jtorch_run(*arguments, **options):
    return run("-m", "jtorch", *arguments, **options)


@pytest.fixture
def script(tmp_path):
    def write(text, name="script.py"):
        path = tmp_path / name
        path.write_text(text)
        return path
    return write


def test_names_are_jtorch_s_modules(script):
    path = script("""
import importlib.util, sys
import torch, torch.nn.functional
import torch.nn as nn
from torch import optim
from torch.utils.data import DataLoader, TensorDataset
import jtorch, jtorch.nn.functional
assert torch is jtorch and nn is jtorch.nn and torch.nn.functional is jtorch.nn.functional and optim is jtorch.optim
assert torch.__spec__.name == "jtorch" and nn.__name__ == "jtorch.nn" and sys.modules["torch.nn"] is nn
assert importlib.util.find_spec("torch.optim") is not None
print(torch.__version__)
for name in "torch.nothing_of_the_kind", "torch._C":
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert error.name == name and "torch is jtorch here" in str(error)
    else:
        raise AssertionError(name)
""")
    done = jtorch_run(path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{jtorch.version.pytorch}+jtorch{jtorch.__version__}\n"


def test_real_pytorch_is_not_displaced(script):
    path = script("import sys, types\nsys.modules['torch'] = types.ModuleType('torch')\n"
                  "import jtorch.stand_in\njtorch.stand_in.install()")
    done = run(path)
    assert done.returncode == 1 and "PyTorch is imported already" in done.stderr


OUTWARD = """
import sys, os, __main__
print(sys.argv[1:], sys.argv[0] == __file__, __name__, os.path.dirname(__file__) == sys.path[0], __main__.sys is sys)
def print_it(n):
    if sys.argv[1:] == ["exit"]:
        sys.exit(7)
    if sys.argv[1:] == ["raise"]:
        raise ValueError(n)
    if sys.argv[1:] == ["hook"]:
        sys.excepthook = lambda kind, error, traceback: print("hook", kind, traceback.tb_lineno)
        1 / 0
print_it(3)
"""


@pytest.mark.parametrize("argument", ["plain --epochs=3", "exit", "raise", "hook"])
def test_runs_as_python_does(script, argument):
    path = script(OUTWARD)
    ours, usual = jtorch_run(path, *argument.split()), run(path, *argument.split())
    assert (ours.returncode, ours.stdout, ours.stderr) == (usual.returncode, usual.stdout, usual.stderr)


def test_runs_modules_as_python_does(script):
    path = script(OUTWARD, "some_module.py")
    for argument in "plain", "raise":
        ours = jtorch_run("-m", "some_module", argument, cwd=path.parent)
        usual = run("-m", "some_module", argument, cwd=path.parent)
        assert (ours.returncode, ours.stdout) == (usual.returncode, usual.stdout)
        assert ours.stderr == re.sub(r'  File "<frozen runpy>".*\n', "", usual.stderr)


def test_errors_before_the_script(script, tmp_path):
    done = jtorch_run(tmp_path / "missing.py")
    assert done.returncode == 2 and "No such file" in done.stderr and "Traceback" not in done.stderr
    done = jtorch_run("-m", "missing_module")
    assert done.returncode == 1 and done.stderr.endswith("No module named missing_module\n")
    path = script("def f(:\n")
    assert jtorch_run(path).stderr == run(path).stderr


def test_interrupt(script):
    path = script("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    child = subprocess.Popen([sys.executable, "-m", "jtorch", str(path)], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT
    assert errors.splitlines()[-1] == "KeyboardInterrupt" and "__main__.py" not in errors


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_started_processes_find_jtorch_too(script, method):
    path = script(f"""
import multiprocessing
import torch
class Thing:
    def __init__(self):
        self.weight = torch.ones(2, 3)
def work(thing, queue):
    queue.put((torch.__name__, torch.__version__, (thing.weight + 1).sum().item()))
if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    queue = context.Queue()
    process = context.Process(target=work, args=(Thing(), queue))
    process.start()
    print(*queue.get(timeout=60))
    process.join()
""")
    done = jtorch_run(path)
    assert done.stdout == f"jtorch {jtorch.version.pytorch}+jtorch{jtorch.__version__} 12.0\n", done.stderr


def test_info():
    done = jtorch_run("info", JTORCH_CACHE_DIR="")
    assert done.returncode == 0, done.stderr
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines())
    assert rows["jtorch"].startswith(jtorch.__version__) and rows["Python"].startswith(sys.version.split()[0])
    assert rows["threads"].startswith(str(jtorch.get_num_threads())) and "kernels" in rows["BLAS"]
    assert rows["cache"].startswith("none") and {"CPU", "CPU features", "numba", "CUDA"} <= set(rows)


def test_cache_is_shown_bounded_and_cleared(tmp_path):
    kept = Cache(tmp_path)
    for k in range(20):
        kept.put(str(k), bytes(1000))
        os.utime(kept.path(str(k)), (k, k))
    place = {"JTORCH_CACHE_DIR": str(tmp_path), "JTORCH_CACHE_SIZE": ""}
    shown = jtorch_run("cache", **place).stdout
    assert str(tmp_path) in shown and "20.3 KiB in 20 entries, at most 512.0 MiB" in shown
    assert "in 8 entries, at most 10.0 KiB" in jtorch_run("cache", "--limit", "10K", **place).stdout
    assert kept.get("19") is not None and kept.get("0") is None, "what was used last is kept"
    cleared = jtorch_run("cache", "--clear", **place).stdout
    assert "removed 8 entries" in cleared and "0 bytes in 0 entries, at most 10.0 KiB" in cleared
    refused = jtorch_run("cache", "--limit", "many", **place)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
