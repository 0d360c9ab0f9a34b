"""DataLoader with worker processes: PyTorch's batches and errors, and what is left when processes end."""
from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import loader_datasets as samples
import numpy as np
import pytest

import jtorch
from jtorch.utils import data

torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
import torch.utils.data as torch_data  # noqa: E402

PAIRS = ((jtorch, data), (torch, torch_data))
SOON = 20
"""Seconds, on a busy machine. What is meant is that nothing hangs."""


@pytest.fixture(autouse=True)
def nothing_left():
    """No segment of shared memory is left after any of these tests; segments have no name, so here is where to look."""
    yield
    gc.collect()
    assert "memfd:jtorch" not in Path("/proc/self/maps").read_text()


def gone(pid: int) -> bool:
    """Has the process ended (it may wait to be buried)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def plain(x):
    if hasattr(x, "tolist"):
        return x.tolist()
    return [plain(y) for y in x] if isinstance(x, (list, tuple)) else x


def both(run) -> None:
    ours, theirs = (run(t, d) for t, d in PAIRS)
    assert ours == theirs


# --- batches ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_what_pytorchs_draw(persistent: bool) -> None:
    def run(t, d):
        t.manual_seed(5)
        loader = d.DataLoader(samples.Draws(t, d), batch_size=4, shuffle=True, num_workers=2,
                              persistent_workers=persistent, multiprocessing_context="fork")
        return [plain(list(loader)) for _ in range(2)], t.rand(2).tolist()
    both(run)


def test_generator_seeds_the_workers() -> None:
    def run(t, d):
        g = t.Generator()
        g.manual_seed(11)
        loader = d.DataLoader(samples.Draws(t, d, 7), batch_size=None, num_workers=2, generator=g, shuffle=True,
                              worker_init_fn=lambda i: random.seed(i), prefetch_factor=1)
        return plain(list(loader)), t.rand(1, generator=g).tolist()
    both(run)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_ways_to_start(method: str) -> None:
    def epoch(method):
        jtorch.manual_seed(3)
        return plain(list(data.DataLoader(samples.OwnDraws(), batch_size=6, num_workers=1, shuffle=True,
                                          worker_init_fn=samples.initialise, multiprocessing_context=method)))
    assert epoch(method) == epoch("fork")


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"batch_size": 4, "drop_last": True}, {"batch_size": None}])
def test_streams(options: dict) -> None:
    def run(t, d):
        class Stream(d.IterableDataset):
            def __iter__(self):
                info = d.get_worker_info()
                yield from range(info.id, 20 + 5 * info.id, info.num_workers)
        loader = d.DataLoader(Stream(), num_workers=2, persistent_workers=True, **options)
        return [plain(list(loader)) for _ in range(2)]
    both(run)


def test_a_stream_longer_than_it_says_is_warned_of() -> None:
    def run(t, d):
        class Stream(d.IterableDataset):
            def __len__(self):
                return 3

            def __iter__(self):
                yield from range(3)
        texts = []
        for workers in (0, 2):
            loader = d.DataLoader(Stream(), num_workers=workers)
            assert len(loader) == 3
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert len(list(loader)) == 3 * max(1, workers)
            texts.append([str(w.message).split("<")[0] for w in caught if "Length" in str(w.message)])
        return texts
    both(run)


def test_batches_stay_as_they_are_and_their_memory_is_used_again() -> None:
    loader = data.DataLoader(samples.Rows(), batch_size=4, num_workers=2, persistent_workers=True)
    kept = list(loader)
    assert all((rows == i.reshape(-1, 1)).all() for rows, i, _ in kept)
    assert len({int(p) for _, _, pids in kept for p in pids} | {os.getpid()}) == 3
    kept[0][0].mul_(2)  # ours to write
    iterator = iter(loader)
    made = [w.receiver for w in iterator._workers]
    before = sum(len(r.segments) for r in made)
    for rows, i, _ in iterator:
        assert (rows == i.reshape(-1, 1)).all()
    del rows, i
    assert all((rows == i.reshape(-1, 1) * (2 if k == 0 else 1)).all() for k, (rows, i, _) in enumerate(kept))
    del kept
    for _ in range(3):
        for _ in loader:
            pass
    assert sum(len(r.segments) for r in made) <= before + 6, "segments that came back are used again"
    del iterator, loader, made


def test_a_batch_that_a_forked_process_sees_is_not_written_again() -> None:
    iterator = iter(data.DataLoader(samples.Rows(), batch_size=4, num_workers=1))
    rows, _, _ = next(iterator)
    read, write = os.pipe()
    go, start = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover
        try:
            os.read(go, 1)
            os.write(write, b"same" if (rows[1] == 1).all() else b"changed")
        finally:
            os._exit(0)
    del rows
    rest = [plain(i) for _, i, _ in iterator]
    os.write(start, b"x")
    assert os.read(read, 10) == b"same" and len(rest) == 5
    os.waitpid(pid, 0)
    for descriptor in (read, write, go, start):
        os.close(descriptor)


class Others:
    """Batches of things that are no tensors."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"array": np.arange(5000.0) + i, "name": f"n{i}", "empty": jtorch.zeros(0, 3), "list": [i, (i, None)],
                "half": jtorch.full((9999,), float(i), dtype=jtorch.bfloat16),
                "ro": np.broadcast_to(np.float32(i), (9999,))}


def test_any_batch_travels() -> None:
    for i, (sample,) in enumerate(data.DataLoader(Others(), num_workers=1, collate_fn=list)):
        assert (sample["array"] == np.arange(5000.0) + i).all() and sample["name"] == f"n{i}"
        assert sample["empty"].shape == (0, 3) and sample["list"] == [i, (i, None)]
        assert sample["half"].dtype is jtorch.bfloat16 and (sample["half"] == i).all()
        assert (sample["ro"] == i).all()
        sample["half"].add_(1)
        assert (sample["half"] == i + 1).all()
    del sample


def test_persistent_workers_go_on_after_a_break() -> None:
    loader = data.DataLoader(samples.Rows(), batch_size=4, num_workers=2, persistent_workers=True)
    pids = set()
    for _ in range(3):
        for _, i, pid in loader:
            pids |= set(plain(pid))
            if i[0] == 4:
                break
        indices = []
        for _, i, pid in loader:
            indices += plain(i)
            pids |= set(plain(pid))
        assert indices == list(range(24))
    assert len(pids) == 2
    del loader
    gc.collect()
    wait_for(lambda: all(gone(p) for p in pids))


class Uneven:
    def __len__(self):
        return 8

    def __getitem__(self, i):
        time.sleep(1.0 if i == 0 else 0.01)
        return i


def test_in_order_or_as_they_come() -> None:
    ordered = [int(x) for x in data.DataLoader(Uneven(), batch_size=None, num_workers=2)]
    free = [int(x) for x in data.DataLoader(Uneven(), batch_size=None, num_workers=2, in_order=False)]
    assert ordered == list(range(8))
    assert sorted(free) == ordered and free[0] != 0


def test_workers_compute_after_the_parent_did(tmp_path: Path) -> None:
    """Kernels that are loaded, threads and compile processes of the parent: a worker has its own."""
    def transform(x):
        return (x - 0.13).exp().cumsum(0) / 0.31

    x = jtorch.linspace(0, 1, 40_000).reshape(8, 5000)
    wanted = [transform(x[i % 8]).sum().item() for i in range(24)]
    traced = jtorch.jit.trace(lambda a: (a * 3).cosh().sum())
    traced(x)

    class Computing:
        def __len__(self):
            return 24

        def __getitem__(self, i):
            return transform(x[i % 8]), traced(x).item(), jtorch.get_num_threads()
    found = list(data.DataLoader(Computing(), batch_size=4, num_workers=2))
    assert [s for rows, _, _ in found for s in rows.sum(1).tolist()] == pytest.approx(wanted, rel=1e-5)
    assert {n for _, _, threads in found for n in plain(threads)} == {1}
    assert found[0][1][0].item() == pytest.approx(traced(x).item(), rel=1e-6)


def test_options() -> None:
    def text(d, **options):
        with pytest.raises((ValueError, TypeError)) as error:
            d.DataLoader([1, 2], **options)
        return str(error.value)

    def run(t, d):
        texts = [text(d, **o) for o in ({"multiprocessing_context": "fork"}, {"num_workers": 1, "prefetch_factor": -1},
                                        {"num_workers": 1, "multiprocessing_context": "thread"},
                                        {"num_workers": 1, "multiprocessing_context": 5})]
        loader = d.DataLoader([1, 2], num_workers=1)
        assert loader.prefetch_factor == 2 and d.DataLoader([1]).prefetch_factor is None
        with pytest.raises(ValueError) as error:
            loader.batch_size = 3
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            d.DataLoader([1], num_workers=99)
            next(iter(d.DataLoader([1], pin_memory=True)))
        return [*texts, str(error.value), [str(w.message) for w in caught], d.get_worker_info()]
    both(run)


# --- errors ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("deed, kind", [("value_error", ValueError), ("key_error", KeyError),
                                        ("odd_error", RuntimeError)])
def test_an_exception_comes_with_its_traceback(deed: str, kind: type) -> None:
    loader = data.DataLoader(samples.Misbehaving(deed), batch_size=2, num_workers=2)
    iterator = iter(loader)
    assert [next(iterator)[0, 0].item() for _ in range(2)] == [0.0, 2.0]
    with pytest.raises(kind) as error:
        next(iterator)
    text = str(error.value)
    name = "OddError" if deed == "odd_error" else kind.__name__
    assert text.startswith(f"Caught {name} in DataLoader worker process 0.\nOriginal Traceback (most recent call last)")
    assert f"in {deed}" in text and "loader_datasets.py" in text
    assert next(iterator)[0, 0].item() == 6.0, "the other batches still come"
    del iterator


def test_errors_before_and_after_the_samples() -> None:
    loader = data.DataLoader([1, 2], num_workers=1, worker_init_fn=samples.fail_to_initialise)
    with pytest.raises(RuntimeError, match="no start for 0"):
        list(loader)
    loader = data.DataLoader([1, 2], num_workers=1, collate_fn=lambda batch: lambda: batch)
    with pytest.raises(Exception, match="(?s)in DataLoader worker process 0.*pickle"):
        list(loader)


@pytest.mark.parametrize("deed, how", [("killed", "is killed by signal: Killed. "),
                                       ("leaves", "exited unexpectedly with exit code 3. ")])
def test_a_worker_that_dies_is_reported(deed: str, how: str) -> None:
    def run(t, d):
        iterator = iter(d.DataLoader(samples.Misbehaving(deed), batch_size=2, num_workers=2, collate_fn=len))
        workers = iterator._workers if t is torch else [w.process for w in iterator._workers]
        pids = [w.pid for w in workers]
        start = time.monotonic()
        with pytest.raises(RuntimeError, match=r"^DataLoader worker \(pid\(s\) \d+\) exited unexpectedly$") as error:
            list(iterator)
        assert time.monotonic() - start < SOON
        assert f"(pid {pids[0]}) {how}" in str(error.value.__cause__)
        del iterator, workers
        error = None
        gc.collect()
        wait_for(lambda: all(gone(p) for p in pids))
        return True
    if deed == "killed":
        both(run)
    else:
        run(jtorch, data)


def test_a_worker_killed_between_batches_is_reported() -> None:
    loader = data.DataLoader(samples.Rows(), batch_size=1, num_workers=2, persistent_workers=True)
    iterator = iter(loader)
    next(iterator)
    os.kill(iterator._workers[1].process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(iterator)
    assert next(iterator, None) is None, "it is at its end"
    assert len(list(loader)) == 24, "a new epoch has new workers"
    del iterator, loader


def test_timeout() -> None:
    loader = data.DataLoader(samples.Misbehaving("slow"), batch_size=2, num_workers=1, timeout=2)
    iterator = iter(loader)
    for _ in range(2):
        next(iterator)
    worker = iterator._workers[0].process
    with pytest.raises(RuntimeError, match="^DataLoader timed out after 2 seconds$"):
        next(iterator)
    os.kill(worker.pid, signal.SIGTERM)  # not to wait for its end
    del iterator, worker
    with pytest.raises(AssertionError):
        iter(data.DataLoader([1], timeout=1))


# --- the end ---------------------------------------------------------------------------------------------------------

SCRIPT = """
    import os, sys, time
    sys.path.insert(0, {tests!r})
    import loader_datasets as samples
    from jtorch.utils import data

    if __name__ == "__main__":
        loader = data.DataLoader(samples.Rows(200), batch_size=4, num_workers=2, persistent_workers=True,
                                 multiprocessing_context={method!r})
        for epoch in range(1000):
            for n, batch in enumerate(loader):
                if epoch == 0 and n == 3:
                    print(*[w.process.pid for w in loader._iterator._workers], flush=True)
                    {at}
"""


def start(tmp_path: Path, at: str = "pass", method: str = "fork") -> subprocess.Popen:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), method=method, at=at))
    root = str(Path(__file__).parents[1])
    return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, env={**os.environ, "PYTHONPATH": root})


@pytest.mark.parametrize("at", ["pass", "time.sleep(60)"], ids=["waiting", "elsewhere"])
def test_ctrl_c_ends_all_workers(tmp_path: Path, at: str) -> None:
    main = start(tmp_path, at)
    pids = [int(p) for p in main.stdout.readline().split()]
    time.sleep(0.2)
    os.killpg(main.pid, signal.SIGINT)
    _, errors = main.communicate(timeout=SOON)
    assert main.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert len(pids) == 2
    wait_for(lambda: all(gone(p) for p in pids))


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_leave_when_their_loaders_process_is_killed(tmp_path: Path, method: str) -> None:
    main = start(tmp_path, method=method)
    pids = [int(p) for p in main.stdout.readline().split()]
    main.kill()
    main.wait(SOON)
    assert len(pids) == 2
    wait_for(lambda: all(gone(p) for p in pids))
    main.stdout.close()
    main.stderr.close()


@pytest.mark.parametrize("end", ["break", "sys.exit(0)", "raise ValueError('enough')"])
def test_a_loop_left_early(tmp_path: Path, end: str) -> None:
    main = start(tmp_path, f"break\n            {end}" if end == "break" else end)
    out, errors = main.communicate(timeout=SOON)
    assert main.returncode == (1 if "ValueError" in end else 0), errors
    assert errors.count("Traceback") == ("ValueError" in end) and "Exception ignored" not in errors
    wait_for(lambda: all(gone(int(p)) for p in out.split()))


def test_batches_lie_in_shared_memory() -> None:
    for package, module in PAIRS:
        rows = module.TensorDataset(package.ones(64, 400), package.arange(64))
        batches = list(module.DataLoader(rows, batch_size=32, num_workers=1))
        assert [x.is_shared() for x, _ in batches] == [True, True]
        assert not (batches[0][0] + 1).is_shared()
    del batches
    jtorch.synchronize()  # what is pending refers to them
