"""jtorch.multiprocessing: tensors in shared memory between processes, and what is left when processes end."""
from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import jtorch as torch
import jtorch.multiprocessing as mp
from jtorch import nn

ROOT = Path(__file__).parents[1]
METHODS = ("fork", "spawn", "forkserver")
SOON = 60
"""Seconds, on a busy machine."""


def shared_files() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("jtorch_")}


def check_that_no_more_than(before: set[str]) -> None:
    """None of the files that are there now and were not before stays (another test may be running beside this one)."""
    new, deadline = shared_files() - before, time.monotonic() + SOON
    while new & shared_files():
        assert time.monotonic() < deadline, new & shared_files()
        time.sleep(0.05)


@pytest.fixture(params=["file_descriptor", "file_system"])
def strategy(request):
    """Each strategy; nothing is left in shared memory."""
    before = shared_files()
    mp.set_sharing_strategy(request.param)
    yield request.param
    mp.set_sharing_strategy("file_descriptor")
    gc.collect()
    check_that_no_more_than(before)


def exchange(inbox, outbox, shared):
    """Adds to what it was started with, doubles what it is sent, and sends two views of one tensor."""
    shared.add_(1)
    inbox.get(timeout=SOON).mul_(2)
    y = torch.arange(5.0)
    outbox.put((y, y[1:3], torch.nn.Parameter(torch.ones(2))))
    inbox.get(timeout=SOON)


@pytest.mark.parametrize("method", METHODS)
def test_queues_share_memory(method, strategy):
    context = mp.get_context(method)
    inbox, outbox = context.Queue(), context.Queue()
    shared, sent = torch.zeros(3).share_memory_(), torch.ones(2, 2)
    assert shared.is_shared() and not sent.is_shared()
    process = context.Process(target=exchange, args=(inbox, outbox, shared))
    process.start()
    inbox.put(sent)
    y, part, parameter = outbox.get(timeout=SOON)
    y[1] = 9
    assert part.tolist() == [9, 2] and y.is_shared(), "views of one storage stay views of it"
    assert isinstance(parameter, nn.Parameter) and parameter.requires_grad
    assert shared.tolist() == [1, 1, 1] and sent.tolist() == [[2, 2], [2, 2]] and sent.is_shared()
    inbox.put(None)
    process.join(SOON)
    assert process.exitcode == 0


def answer(connection):
    x = connection.recv()
    x += 1
    connection.send({"same": x, "other": torch.tensor([7], dtype=torch.bfloat16), "none": torch.zeros(0, 2)})
    connection.recv()


def test_pipes(strategy):
    ours, theirs = mp.Pipe()
    process = mp.Process(target=answer, args=(theirs,))
    process.start()
    x = torch.arange(6).reshape(2, 3).t()
    ours.send(x)
    back = ours.recv()
    assert x.tolist() == back["same"].tolist() == [[1, 4], [2, 5], [3, 6]]
    x[0, 0] = 50
    assert back["same"][0, 0] == 50 and back["other"].dtype is torch.bfloat16 and back["none"].shape == (0, 2)
    ours.send(None)
    process.join(SOON)


def square(x):
    return x * x


def test_pool():
    with mp.get_context("fork").Pool(2) as pool:
        results = pool.map(square, [torch.full((2,), float(i)) for i in range(6)])
    assert [r.tolist() for r in results] == [[i * i] * 2 for i in range(6)]


def count(index, counter, lock, sums):
    for _ in range(50):
        with lock:
            counter += 1
            sums.value += index


def test_spawn_and_locks():
    counter = torch.zeros(1, dtype=torch.int64).share_memory_()
    context = mp.get_context("spawn")
    sums = context.Value("i", 0, lock=False)
    mp.spawn(count, args=(counter, context.Lock(), sums), nprocs=2)
    assert counter.item() == 100 and sums.value == 50


def train(index, model, x):
    """One process of two that train a shared model."""
    torch.set_num_threads(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (model(x) - 3 * x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()


def test_a_shared_model_is_trained_by_others():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 1)), torch.rand(20, 3)
    assert model.share_memory() is model
    assert all(p.is_shared() for p in model.parameters())
    before = (model(x) - 3 * x.sum(1, keepdim=True)).square().mean()
    mp.start_processes(train, args=(model, x), nprocs=2, start_method="fork")
    assert (model(x) - 3 * x.sum(1, keepdim=True)).square().mean() < 0.01 * before
    assert model[0].weight.is_shared(), "it was written in place"


def fail(index, shared):
    shared += 1
    if index == 1:
        raise ValueError("number one fails")
    time.sleep(600)


def die(index):
    if index == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def leave(index):
    sys.exit(5)


def test_spawn_reports_what_fails():
    start = time.monotonic()
    with pytest.raises(mp.ProcessRaisedException, match=r"(?s)^\n\n-- Process 1 terminated with the following error:\n"
                       "Traceback .*in fail.*ValueError: number one fails") as raised:
        mp.start_processes(fail, args=(torch.zeros(2).share_memory_(),), nprocs=2, start_method="fork")
    assert raised.value.error_index == 1
    with pytest.raises(mp.ProcessExitedException, match="process 0 terminated with signal SIGKILL") as killed:
        mp.start_processes(die, nprocs=2, start_method="fork")
    assert killed.value.exit_code == -signal.SIGKILL and killed.value.signal_name == "SIGKILL"
    with pytest.raises(mp.ProcessExitedException, match="process 0 terminated with exit code 5"):
        mp.start_processes(leave, nprocs=1, start_method="fork")
    assert time.monotonic() - start < SOON and not mp.active_children()


def test_what_needs_a_gradient_of_elsewhere_is_not_sent():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="Cowardly refusing to serialize non-leaf tensor which requires_grad"):
        mp.reductions.reduce_tensor(x * 2)


def test_settings():
    assert mp.get_all_sharing_strategies() == {"file_descriptor", "file_system"}
    assert mp.get_sharing_strategy() == "file_descriptor"
    with pytest.raises(AssertionError):
        mp.set_sharing_strategy("pigeon")


# --- processes that end in the middle --------------------------------------------------------------------------------

SCRIPT = """
    import os, signal, sys, time
    import jtorch as torch
    import jtorch.multiprocessing as mp

    def hold(queue, ready):
        kept = [queue.get(), torch.ones(1000).share_memory_()]
        ready.put(1)
        time.sleep(600)

    if __name__ == "__main__":
        mp.set_sharing_strategy({strategy!r})
        context = mp.get_context("fork")
        queue, ready = context.Queue(), context.Queue()
        x = torch.zeros(1000).share_memory_()
        process = context.Process(target=hold, args=(queue, ready), daemon=True)
        process.start()
        queue.put(x)
        ready.get()
        print(process.pid, flush=True)
        {then}
"""


@pytest.mark.parametrize("strategy", ["file_descriptor", "file_system"])
@pytest.mark.parametrize("then", ["os.kill(process.pid, signal.SIGKILL); process.join()", "time.sleep(600)",
                                  "os.kill(os.getpid(), signal.SIGKILL)"], ids=["child", "interrupted", "parent"])
def test_nothing_is_left_by_processes_that_are_killed(tmp_path, strategy, then):
    before = shared_files()
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT).format(strategy=strategy, then=then))
    main = subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    child = int(main.stdout.readline())
    if then.startswith("time"):
        time.sleep(0.1)
        os.killpg(main.pid, signal.SIGINT)
    main.wait(SOON)
    if "getpid" in then:
        os.kill(child, signal.SIGKILL)  # nobody else ends it: it is not waiting for anything
    main.stdout.close()
    check_that_no_more_than(before)


def test_hogwild_example():
    done = subprocess.run([sys.executable, "-m", "jtorch", str(ROOT / "examples" / "hogwild.py"), "--epochs", "4"],
                          capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    losses = [float(x) for x in re.findall(r"loss ([\d.]+)", done.stdout)]
    assert losses[1] < 0.6 * losses[0], done.stdout
