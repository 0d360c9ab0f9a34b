"""What scripts use around training: checkpoint, hub, profiler, benchmark, tensorboard, pytrees, Variable."""
from __future__ import annotations

import gc
import gzip
import importlib.util
import json
import operator
import warnings
import zipfile
from collections import OrderedDict, namedtuple
from pathlib import Path

import pytest

import jtorch
from jtorch import hub, nn
from jtorch.profiler import ProfilerAction, ProfilerActivity, profile, record_function, schedule
from jtorch.runtime.memory import allocator
from jtorch.utils import _pytree as pytree
from jtorch.utils import benchmark
from jtorch.utils.checkpoint import checkpoint, checkpoint_sequential
from tests.test_examples import needs

torch = pytest.importorskip("torch") if importlib.util.find_spec("torch") else None
with_torch = pytest.mark.skipif(torch is None, reason="compares with PyTorch, which is not installed")


# --- checkpoint ------------------------------------------------------------------------------------------------------


def network(T):
    return T.nn.Sequential(T.nn.Linear(8, 16), T.nn.ReLU(), T.nn.Dropout(0.5), T.nn.Linear(16, 4), T.nn.Tanh())


def gradients(T, run) -> list:
    """Loss and gradients of `run(model, x)` with the same seed."""
    T.manual_seed(3)
    model, x = network(T), T.randn(6, 8, requires_grad=True)
    loss = (run(model, x * 2) * T.randn(6, 4)).sum()
    loss.backward()
    return [loss.item(), x.grad.tolist(), *[p.grad.tolist() for p in model.parameters()]]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_changes_nothing(reentrant: bool) -> None:
    plain = gradients(jtorch, lambda m, x: m(x))
    for run in (lambda m, x: checkpoint(m, x, use_reentrant=reentrant),
                lambda m, x: checkpoint_sequential(m, 2, x, use_reentrant=reentrant)):
        for ours, expected in zip(gradients(jtorch, run), plain):
            jtorch.testing.assert_close(jtorch.tensor(ours), jtorch.tensor(expected))


@with_torch
def test_checkpoint_as_in_pytorch() -> None:
    from torch.utils.checkpoint import checkpoint as theirs
    expected = gradients(torch, lambda m, x: theirs(m, x, use_reentrant=False))
    for ours, wanted in zip(gradients(jtorch, lambda m, x: checkpoint(m, x, use_reentrant=False)), expected):
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(wanted), rtol=1e-5, atol=1e-6)


def test_checkpoint_runs_the_function_again_in_the_backward() -> None:
    runs = []

    def function(a, extra):
        runs.append(jtorch.is_autocast_enabled("cpu"))
        return {"y": a * extra["b"], "n": 3}
    a, b = jtorch.tensor([1.0, 2.0], requires_grad=True), jtorch.tensor(5.0, requires_grad=True)
    with jtorch.autocast("cpu", dtype=jtorch.bfloat16):
        found = checkpoint(function, a, {"b": b}, use_reentrant=False)
    assert found["n"] == 3
    assert runs == [True]
    found["y"].sum().backward()
    assert runs == [True, True], "once more, under the same autocast"
    assert (a.grad.tolist(), b.grad.item()) == ([5, 5], 3)


def test_checkpoint_gives_second_derivatives() -> None:
    x = jtorch.tensor([1.0, 2.0], requires_grad=True)
    first, = jtorch.autograd.grad(checkpoint(lambda a: (a ** 3).sum(), x, use_reentrant=False), x, create_graph=True)
    second, = jtorch.autograd.grad(first.sum(), x)
    assert (first.tolist(), second.tolist()) == ([3, 12], [6, 12])


def test_checkpoint_keeps_nothing_of_the_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jtorch.config.config, "eager_compile", "sync")
    monkeypatch.setattr(jtorch.config.config, "compile_after", 1)  # interpreted results may be NumPy's memory
    gc.collect()
    layers = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(12)])
    x = jtorch.randn(512, 64, requires_grad=True)

    def held(run) -> int:
        jtorch.synchronize()
        before = allocator.stats()["allocated"]
        y = run()
        jtorch.synchronize()
        kept = allocator.stats()["allocated"] - before
        y.sum().backward()
        return kept
    whole = held(lambda: layers(x))
    part = held(lambda: checkpoint(layers, x, use_reentrant=False))
    one = 512 * 64 * 4
    assert whole > 10 * one, whole / one
    assert part < 4 * one, part / one


def test_checkpoint_without_a_choice_warns() -> None:
    with pytest.warns(UserWarning, match="use_reentrant parameter should be passed explicitly"):
        checkpoint(lambda a: a * 2, jtorch.ones(2, requires_grad=True))
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad=True"):
        assert not checkpoint(lambda a: a * 2, jtorch.ones(2), use_reentrant=True).requires_grad


# --- hub -------------------------------------------------------------------------------------------------------------


HUBCONF = '''
dependencies = ["math"]
from inner import make
def net(width, scale=1):
    """A layer."""
    return make(width, scale)
'''


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "someone-repo-1234"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    (folder / "inner.py").write_text("def make(width, scale):\n    return width * scale\n")
    return folder


@pytest.fixture
def hub_folder(tmp_path: Path):
    before = hub._directory
    hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub"
    hub._directory = before


def test_hub_local(repository: Path) -> None:
    assert hub.load(str(repository), "net", 4, scale=3, source="local") == 12
    with pytest.raises(RuntimeError, match="Cannot find callable nothing in hubconf"):
        hub.load(str(repository), "nothing", source="local")
    with pytest.raises(ValueError, match="Unknown source"):
        hub.load(str(repository), "net", source="cloud")


def test_hub_repository(repository: Path, hub_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archive = tmp_path / "main.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in repository.iterdir():
            file.write(path, f"{repository.name}/{path.name}")
    monkeypatch.setattr(hub, "ARCHIVE", archive.as_uri() + "?{}{}{}")
    monkeypatch.setattr("builtins.input", lambda question: "n")
    with pytest.raises(Exception, match="Untrusted repository"):
        hub.list("someone/repo", verbose=False)
    monkeypatch.setattr(hub, "ARCHIVE", archive.as_uri())
    assert hub.list("someone/repo", trust_repo=True, verbose=False) == ["make", "net"]
    archive.unlink()  # it is there now, and trusted
    assert hub.help("someone/repo", "net") == "A layer."
    assert hub.load("someone/repo", "net", 5, verbose=False) == 5
    with pytest.raises(ValueError, match="owner/name"):
        hub.load("repo", "net")


def test_hub_checkpoint(hub_folder: Path, tmp_path: Path) -> None:
    jtorch.save({"w": jtorch.arange(3)}, tmp_path / "w-00000000.pth")
    url = (tmp_path / "w-00000000.pth").as_uri()
    with pytest.raises(RuntimeError, match="invalid hash value"):
        hub.load_state_dict_from_url(url, check_hash=True, progress=False)
    assert not list((hub_folder / "checkpoints").iterdir()), "what is not right is not kept"
    assert hub.load_state_dict_from_url(url, progress=False)["w"].tolist() == [0, 1, 2]
    (tmp_path / "w-00000000.pth").unlink()
    from jtorch.utils.model_zoo import load_url
    assert load_url(url)["w"].tolist() == [0, 1, 2]


# --- profiler --------------------------------------------------------------------------------------------------------


def test_profile_of_operations_and_ranges(tmp_path: Path) -> None:
    model = nn.Linear(7, 5)
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        with record_function("mine"):
            model(jtorch.ones(3, 7)).relu()  # nobody keeps it
    sums = {e.key: e for e in watched.key_averages()}
    assert {"mine", "linear", "relu"} <= set(sums)
    assert sums["mine"].count == 1
    assert 0 < sums["linear"].cpu_time_total <= sums["mine"].cpu_time_total
    inside = [e for e in watched.events() if e.cpu_parent is not None]
    assert {e.cpu_parent.name for e in inside} == {"mine"}
    table = watched.key_averages().table(sort_by="cpu_time_total", row_limit=1)
    assert "mine" in table
    assert "linear" not in table
    watched.export_chrome_trace(str(tmp_path / "trace.json.gz"))
    traced = json.loads(gzip.open(tmp_path / "trace.json.gz").read())["traceEvents"]
    assert {t["name"] for t in traced} >= {"mine", "linear"}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        watched.key_averages().table(sort_by="nonsense")


def test_profile_of_a_traced_function() -> None:
    f = jtorch.jit.trace(lambda x: (x @ x).softmax(0).sum())
    x = jtorch.ones(40, 40) / 40
    expected = f(x).item()
    with jtorch.autograd.profiler.profile() as watched:
        assert f(x).item() == expected
    names = [e.key for e in watched.key_averages()]
    assert any("matmul" in n for n in names), names
    assert watched.self_cpu_time_total > 0


def test_profiler_schedule() -> None:
    plan = schedule(skip_first=1, wait=1, warmup=1, active=2, repeat=2)
    none, warm, record, save = ProfilerAction
    assert [plan(i) for i in range(10)] == [none, none, warm, record, save, none, warm, record, save, none]
    ready = []
    with profile(schedule=plan, on_trace_ready=lambda p: ready.append(
            [e.name for e in p.events() if e.name.startswith("ProfilerStep")])) as watched:
        for _ in range(10):
            jtorch.ones(3).sum().item()
            watched.step()
    assert ready == [["ProfilerStep#3", "ProfilerStep#4"], ["ProfilerStep#7", "ProfilerStep#8"]]


@with_torch
@pytest.mark.parametrize("wait,warmup,active,repeat,skip_first", [(1, 1, 3, 0, 0), (0, 2, 1, 3, 0), (2, 0, 2, 1, 3)])
def test_schedules_as_in_pytorch(wait: int, warmup: int, active: int, repeat: int, skip_first: int) -> None:
    arguments = {"wait": wait, "warmup": warmup, "active": active, "repeat": repeat, "skip_first": skip_first}
    ours = schedule(**arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of warmup=0
        theirs = torch.profiler.schedule(**arguments)
    assert [ours(i).name for i in range(20)] == [theirs(i).name for i in range(20)]


# --- the rest --------------------------------------------------------------------------------------------------------


Point = namedtuple("Point", "x y")
TREE = {"a": [1, (2, 3)], "b": Point(4, {"c": 5}), "d": OrderedDict(z=6, y=None)}


def test_pytree() -> None:
    leaves, spec = pytree.tree_flatten(TREE)
    assert leaves == [1, 2, 3, 4, 5, 6, None]
    assert pytree.tree_unflatten(leaves, spec) == TREE
    assert spec == pytree.tree_structure(TREE) != pytree.tree_structure([1])
    assert pytree.tree_map(operator.add, [1, {"k": 2}], [10, {"k": 20}]) == [11, {"k": 22}]
    assert pytree.tree_map_only(int, lambda x: -x, (1, "s")) == (-1, "s")
    with pytest.raises(ValueError, match="`leaves` has length 1"):
        pytree.tree_unflatten([1], spec)


@with_torch
def test_pytree_leaves_as_in_pytorch() -> None:
    from torch.utils import _pytree as theirs
    assert pytree.tree_leaves(TREE) == theirs.tree_leaves(TREE)


def test_benchmark_timer() -> None:
    threads = jtorch.get_num_threads()
    x = jtorch.ones(10)
    found = benchmark.Timer("x + y", setup="y = 1", globals={"x": x}, label="add", description="ours").timeit(20)
    assert found.number_per_run == 20
    assert 0 < found.median == found.mean < 1
    assert jtorch.get_num_threads() == threads
    assert "add" in repr(found)
    several = benchmark.Timer("pass", label="none").blocked_autorange(min_run_time=0.01)
    assert sum(several.raw_times) >= 0.01
    assert "ours" in str(benchmark.Compare([found, several]))


def test_variable() -> None:
    from jtorch.autograd import Variable
    x = jtorch.ones(2)
    v = Variable(x, requires_grad=True)
    assert isinstance(x, Variable)
    assert isinstance(v, jtorch.Tensor)
    assert v.requires_grad
    assert not x.requires_grad
    v.data[0] = 7
    assert x[0] == 7, "the same memory"
    assert not isinstance(3, Variable)


def test_config() -> None:
    assert "BLAS" in jtorch.__config__.show()
    assert "threads" in jtorch.__config__.parallel_info()


@needs("tensorboard", "PIL", "matplotlib")
def test_tensorboard(tmp_path: Path) -> None:
    import matplotlib
    import numpy as np
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from jtorch.utils.tensorboard import SummaryWriter
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    with SummaryWriter(tmp_path / "run") as writer:
        for step in range(3):
            writer.add_scalar("loss", jtorch.tensor(1.0 / (step + 1)), step)
        writer.add_scalars("both", {"a": 1.0, "b": 2}, 0)
        writer.add_histogram("weights", jtorch.arange(10.0), 1)
        writer.add_image("image", jtorch.rand(3, 4, 5), 0)
        writer.add_images("images", np.zeros((3, 1, 2, 2), np.uint8), 0)
        writer.add_figure("figure", plt.figure(figsize=(1, 1)), 0)
        writer.add_text("note", "hello", 0)
        writer.add_audio("sound", jtorch.zeros(100), 0, sample_rate=8000)
        writer.add_pr_curve("curve", jtorch.tensor([0, 1, 1]), jtorch.tensor([0.1, 0.9, 0.4]), 0)
        writer.add_hparams({"lr": 0.1, "name": "x", "on": True}, {"best": 1.0}, run_name="hp")
        writer.add_embedding(jtorch.rand(3, 2), metadata=["a", "b", "c"])
        writer.add_custom_scalars({"all": {"loss": ["Multiline", ["loss"]]}})
        with pytest.raises(NotImplementedError, match="jit.trace"):
            writer.add_graph(nn.Linear(1, 1))
    read = EventAccumulator(str(tmp_path / "run"))
    read.Reload()
    assert [(e.step, round(e.value, 4)) for e in read.Scalars("loss")] == [(0, 1.0), (1, 0.5), (2, 0.3333)]
    assert set(read.Tags()["images"]) == {"image", "images", "figure"}
    (entry,) = read.Images("image")
    assert (entry.height, entry.width) == (4, 5)
    histogram = read.Histograms("weights")[0].histogram_value
    assert (histogram.num, histogram.min, histogram.max, histogram.sum) == (10, 0, 9, 45)
    assert sum(histogram.bucket) == 10
    assert read.Audio("sound")[0].sample_rate == 8000
    assert read.Tensors("note/text_summary")[0].tensor_proto.string_val == [b"hello"]
    beside = EventAccumulator(str(tmp_path / "run" / "both_b"))
    beside.Reload()
    assert beside.Scalars("both")[0].value == 2
    assert (tmp_path / "run" / "00000" / "default" / "metadata.tsv").read_text() == "a\nb\nc\n"


@needs("torch", "tensorboard")
@pytest.mark.parametrize("values", [[1.0, 2, 3, -4, 100], [0.0], list(range(50))], ids=["few", "zero", "many"])
def test_tensorboard_histograms_as_in_pytorch(values: list) -> None:
    import numpy as np
    from torch.utils.tensorboard.summary import histogram as theirs

    from jtorch.utils.tensorboard.summary import histogram
    bins = [-5.0, 0, 1, 2, 50, 200]
    expected, ours = (h("t", np.array(values), bins).value[0].histo for h in (theirs, histogram))
    for name in ("min", "max", "num", "sum", "sum_squares"):
        assert getattr(ours, name) == getattr(expected, name), name
    counts = [dict(zip(h.bucket_limit, h.bucket)) for h in (ours, expected)]
    for limit in set(counts[0]) | set(counts[1]):
        assert counts[0].get(limit, 0) == counts[1].get(limit, 0), limit
