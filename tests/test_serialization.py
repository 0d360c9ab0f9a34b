"""Checkpoints: against PyTorch both ways, and against files that are damaged or mean harm."""
from __future__ import annotations

import collections
import copy
import io
import os
import pickle
import random
import signal
import stat
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

import jtorch
from jtorch import nn
from jtorch.serialization import (
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    get_unsafe_globals_in_checkpoint,
    safe_globals,
)

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]
needs_torch = pytest.mark.skipif(torch is None, reason="compares with PyTorch, which is not installed")

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64",
          "complex128")


def optimizer_state(t):
    model = t.nn.Sequential(t.nn.Linear(4, 3), t.nn.BatchNorm1d(3))
    optimizer = t.optim.Adam(model.parameters(), lr=0.1)
    for p in model.parameters():
        p.data.copy_(t.arange(p.numel()).reshape(p.shape) / 8)
        p.grad = t.ones(p.shape)
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}


def with_attribute(t):
    a = t.ones(2)
    a.foo = {"k": 1}
    return a


def matrix(t):
    return t.arange(12.0).reshape(3, 4).clone()


def views(t):
    x = matrix(t)
    return [x, x.t(), x[1:, ::2], x[2], x.view(-1), x[0].expand(2, 4)]


OBJECTS = {
    "views": views,
    "views first": lambda t: list(reversed(views(t))),
    "permuted": lambda t: [t.ones(2, 3).t(), t.arange(24).reshape(2, 3, 4).permute(2, 0, 1)],
    "optimizer": optimizer_state,
    "dtypes": lambda t: {d: t.ones(3, dtype=getattr(t, d)) for d in DTYPES},
    "plain": lambda t: {"a": 1, "b": [2.5, None, True, "s", b"xyz", (1, 2), {3, 4}, bytearray(b"q"), 1 << 80, -5, 3j],
                        ("t", 1): collections.OrderedDict(z=1), "c": collections.Counter("aab"), "long": "é" * 300},
    "torch's own": lambda t: [t.float32, t.device("cpu"), t.Size([1, 2]), t.strided],
    "parameters": lambda t: [t.nn.Parameter(matrix(t)), t.nn.Parameter(matrix(t), requires_grad=False)],
    "odd": lambda t: [t.tensor(3.0), t.zeros(0, 3), with_attribute(t), t.ones(3).expand(4, 3),
                      t.nn.Buffer(t.ones(2)), t.ones(2, requires_grad=True) * 2],
}


def described(x):
    """Everything that two frameworks' objects should have in common."""
    if hasattr(x, "untyped_storage"):
        return ("tensor", type(x).__name__.replace("Buffer", "Tensor"), str(x.dtype), list(x.shape),
                list(x.stride()) if x.numel() else None, x.storage_offset(), x.requires_grad,
                x.detach().tolist(), {k: v for k, v in x.__dict__.items() if k == "foo"})
    if isinstance(x, dict):
        items = [(described(k), described(v)) for k, v in x.items()]
        return type(x).__name__, sorted(items, key=lambda item: str(item[0])) if type(x) is dict else items
    if isinstance(x, (list, tuple)) and type(x).__name__ != "Size":
        return type(x).__name__, [described(v) for v in x]
    return type(x).__name__.lower(), str(x)


def storages(x):
    """Numbers of the storages in an object's tensors, in order."""
    seen: dict[int, int] = {}
    out: list = []

    def walk(x) -> None:
        if hasattr(x, "untyped_storage"):
            if x.numel():
                out.append(seen.setdefault(x.untyped_storage()._cdata, len(seen)))
        elif isinstance(x, dict):
            for v in x.values():
                walk(v)
        elif isinstance(x, (list, tuple)):
            for v in x:
                walk(v)
    walk(x)
    return out


def saved(x, save=None, **options) -> io.BytesIO:
    file = io.BytesIO()
    (save or jtorch.save)(x, file, **options)
    file.seek(0)
    return file


# --- with PyTorch ----------------------------------------------------------------------------------------------------

@needs_torch
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", OBJECTS)
def test_with_pytorch(name, zipped) -> None:
    theirs, ours = OBJECTS[name](torch), OBJECTS[name](jtorch)
    assert described(theirs) == described(ours)
    options = {"_use_new_zipfile_serialization": zipped}
    read = jtorch.load(saved(theirs, torch.save, **options))
    assert described(read) == described(theirs) and storages(read) == storages(theirs)
    read = torch.load(saved(ours, **options))
    assert described(read) == described(ours) and storages(read) == storages(ours)
    read = jtorch.load(saved(ours, **options))
    assert described(read) == described(ours) and storages(read) == storages(ours)


@needs_torch
def test_pytorch_reads_files_by_path(tmp_path) -> None:
    path = tmp_path / "weights ä.pt"
    jtorch.save({"x": matrix(jtorch)}, path)
    for options in ({}, {"mmap": True}):
        assert torch.load(path, **options)["x"].tolist() == matrix(jtorch).tolist()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            header = 30 + len(entry.filename.encode()) + len(entry.extra)
            assert (entry.header_offset + header) % 64 == 0, entry.filename


@needs_torch
def test_conjugates_and_missing_checksums() -> None:
    z = torch.tensor([1 + 2j, 3 - 1j])
    assert jtorch.load(saved(z.conj(), torch.save)).tolist() == [1 - 2j, 3 + 1j]
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        assert jtorch.load(saved(torch.ones(3), torch.save)).tolist() == [1, 1, 1]
    finally:
        torch.serialization.set_crc32_options(before)


@needs_torch
def test_a_pickled_module_of_pytorch() -> None:
    """Names of PyTorch's classes mean ours."""
    file = saved(torch.nn.Linear(3, 2), torch.save)
    with pytest.raises(pickle.UnpicklingError, match=r"Unsupported global: GLOBAL torch.nn.modules.linear.Linear"):
        jtorch.load(file)
    file.seek(0)
    layer = jtorch.load(file, weights_only=False)
    assert type(layer) is nn.Linear and layer(jtorch.ones(1, 3)).shape == (1, 2)


@needs_torch
@pytest.mark.parametrize("make,text", [
    (lambda: torch.ones(2, 2).to_sparse(), "sparse"),
    (lambda: torch.ones(3, dtype=torch.float8_e4m3fn), "float8_e4m3fn|not an allowed global"),
    (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8), "QUInt8Storage"),
    (lambda: torch.ones(2, device="meta"), "without memory")], ids=["sparse", "float8", "quantized", "meta"])
def test_what_is_not_there_is_named(make, text) -> None:
    with pytest.raises((RuntimeError, pickle.UnpicklingError), match=text):
        jtorch.load(saved(make(), torch.save))


# --- saving and loading ----------------------------------------------------------------------------------------------

def test_sharing_is_kept() -> None:
    x, t, row = jtorch.load(saved((lambda m: [m, m.t(), m[1]])(matrix(jtorch))))
    x[1, 2] = 100
    assert t[2, 1] == 100 and row[2] == 100
    t.mul_(2)
    assert row[2] == 200 and x._view is None  # a whole tensor is no view


def test_by_path(tmp_path) -> None:
    path = tmp_path / "a.pt"
    for name in (path, str(path)):
        jtorch.save([1, matrix(jtorch)], name)
        assert jtorch.load(name)[1].tolist() == matrix(jtorch).tolist()
    with open(path, "rb") as file:
        assert jtorch.load(file)[0] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    with pytest.raises(RuntimeError, match="Parent directory .* does not exist"):
        jtorch.save(1, tmp_path / "no" / "a.pt")
    with pytest.raises(AttributeError, match="'write' attribute"):
        jtorch.save(1, 3)
    with pytest.raises(FileNotFoundError):
        jtorch.load(tmp_path / "b.pt")
    with pytest.raises(EOFError, match="Ran out of input"):
        jtorch.load(io.BytesIO())


def test_objects_that_only_write() -> None:
    class Sink:
        def __init__(self):
            self.parts = []

        def write(self, data):
            self.parts.append(bytes(data))
            return len(data)

        def flush(self):
            pass

    sink = Sink()
    jtorch.save(matrix(jtorch), sink)
    assert jtorch.load(io.BytesIO(b"".join(sink.parts))).tolist() == matrix(jtorch).tolist()


def test_objects_that_cannot_seek() -> None:
    reader, writer = os.pipe()
    with open(reader, "rb") as source, open(writer, "wb") as sink:
        sink.write(b"x")
        sink.flush()
        with pytest.raises(io.UnsupportedOperation, match="only torch.load from a file that is seekable"):
            jtorch.load(source)


def test_files_that_hold_more() -> None:
    """A checkpoint behind something else, and several of the old format in one file."""
    file = io.BytesIO(b"head")
    file.seek(4)
    jtorch.save([1, jtorch.ones(2)], file)
    file.seek(4)
    assert jtorch.load(file)[0] == 1
    file = io.BytesIO()
    for i in range(3):
        jtorch.save([i, jtorch.ones(2) * i], file, _use_new_zipfile_serialization=False)
    file.seek(0)
    assert [jtorch.load(file)[1].tolist() for _ in range(3)] == [[0, 0], [1, 1], [2, 2]]


def test_deflated_archives() -> None:
    """What unzipping and zipping again gives."""
    source, target = zipfile.ZipFile(saved(matrix(jtorch))), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    target.seek(0)
    assert jtorch.load(target).tolist() == matrix(jtorch).tolist()


def test_the_other_order_of_bytes() -> None:
    source, target = zipfile.ZipFile(saved({d: jtorch.ones(3, dtype=getattr(jtorch, d)) for d in DTYPES})), io.BytesIO()
    sizes = [jtorch.ones(1, dtype=getattr(jtorch, d)).element_size() // (2 if d[0] == "c" else 1) for d in DTYPES]
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            data, (_, _, last) = source.read(name), name.rpartition("/")
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name and "serialization" not in name:
                data = np.frombuffer(data, f"u{sizes[int(last)]}").byteswap().tobytes()
            archive.writestr(name, data)
    target.seek(0)
    assert all(v.tolist() == [1, 1, 1] for v in jtorch.load(target).values())


def test_mmap(tmp_path) -> None:
    path = tmp_path / "a.pt"
    x = jtorch.arange(1000.0).clone()
    jtorch.save({"x": x, "y": jtorch.ones(3)}, path)
    before = path.read_bytes()
    loaded = jtorch.load(path, mmap=True)
    assert loaded["x"].tolist() == x.tolist()
    loaded["x"].mul_(2)
    assert (loaded["x"] - 2 * x).abs().max() == 0 and path.read_bytes() == before
    with pytest.raises(ValueError, match="f must be a file path"):
        jtorch.load(io.BytesIO(), mmap=True)
    jtorch.save(x, path, _use_new_zipfile_serialization=False)
    with pytest.raises(RuntimeError, match="mmap can only be used"):
        jtorch.load(path, mmap=True)


def moved(location: str) -> io.BytesIO:
    """A checkpoint of a tensor on another device."""
    source, target = zipfile.ZipFile(saved(jtorch.ones(2))), io.BytesIO()
    size = struct.pack("<I", len(location))
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X" + size + location.encode())
            archive.writestr(name, data)
    target.seek(0)
    return target


def test_map_location() -> None:
    with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
        jtorch.load(moved("cuda:0"))
    with pytest.raises(RuntimeError, match="don't know how to restore data location"):
        jtorch.load(moved("xla"))
    seen = []

    def remember(storage, location):
        seen.append((storage.nbytes(), location))
        return storage

    for place in ("cpu", jtorch.device("cpu"), {"cuda:0": "cpu"}, remember):
        assert jtorch.load(moved("cuda:0"), map_location=place).tolist() == [1, 1]
    assert seen == [(8, "cuda:0")]
    with pytest.raises(RuntimeError, match="CUDA device"):
        jtorch.load(moved("cpu"), map_location="cuda")


class Point:
    """Something of the user's."""

    def __init__(self, x):
        self.x = x


def test_safe_globals() -> None:
    file = saved({"p": Point(jtorch.ones(1))})
    name = f"{__name__}.Point"
    assert get_unsafe_globals_in_checkpoint(file) == [name]
    with pytest.raises(pickle.UnpicklingError, match=f"Unsupported global: GLOBAL {name} was not an allowed global"):
        jtorch.load(file)
    for scope in (safe_globals([Point]), safe_globals([(Point, name)])):
        with scope:
            file.seek(0)
            assert jtorch.load(file)["p"].x.tolist() == [1] and get_safe_globals() == [Point]
            file.seek(0)
            assert get_unsafe_globals_in_checkpoint(file) == []
        assert get_safe_globals() == []
    add_safe_globals([Point])
    file.seek(0)
    assert jtorch.load(file)["p"].x.tolist() == [1]
    clear_safe_globals()
    file.seek(0)
    assert jtorch.load(file, weights_only=False)["p"].x.tolist() == [1]
    with pytest.raises(ValueError, match="checkpoint returned by torch.save"):
        get_unsafe_globals_in_checkpoint(io.BytesIO(b"1234"))


def test_whole_modules() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LSTM(3, 4))
    again = jtorch.load(saved(model), weights_only=False)
    assert repr(again) == repr(model)
    for (name, p), (other, q) in zip(model.state_dict().items(), again.state_dict().items()):
        assert name == other and jtorch.equal(p, q)


def test_pickle_modules() -> None:
    file = saved([matrix(jtorch), nn.Parameter(jtorch.ones(2))], pickle_module=pickle, pickle_protocol=4)
    assert jtorch.load(file)[0].tolist() == matrix(jtorch).tolist()
    with pytest.raises(RuntimeError, match="explicit pickle_module"):
        jtorch.load(file, pickle_module=pickle, weights_only=True)
    file.seek(0)
    assert jtorch.load(file, pickle_module=pickle)[1].requires_grad


# --- a save that does not come to its end ----------------------------------------------------------------------------

class Unpicklable:
    def __reduce__(self):
        raise ValueError("no")


def test_an_error_keeps_the_previous_file(tmp_path) -> None:
    path = tmp_path / "a.pt"
    jtorch.save("first", path)
    path.chmod(0o640)
    with pytest.raises(ValueError, match="no"):
        jtorch.save([jtorch.ones(3), Unpicklable()], path)
    assert jtorch.load(path) == "first" and os.listdir(tmp_path) == ["a.pt"]
    link = tmp_path / "link.pt"
    link.symlink_to(path)
    jtorch.save("second", link)
    assert link.is_symlink() and jtorch.load(path) == "second" and stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_killed_process_keeps_the_previous_file(tmp_path) -> None:
    path = tmp_path / "a.pt"
    jtorch.save("first", path)
    code = f"""
import os, signal, jtorch
from jtorch.serialization import archive
write = archive.Writer.write
def killing(self, name, data):
    write(self, name, data)
    if name == "data/0":
        self.zip.fp.flush()
        os.kill(os.getpid(), signal.SIGKILL)
archive.Writer.write = killing
jtorch.save([jtorch.ones(100000), jtorch.ones(3)], {str(path)!r})
"""
    ended = subprocess.run([sys.executable, "-c", code], timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert jtorch.load(path) == "first"


def test_pipes_and_devices(tmp_path) -> None:
    jtorch.save(matrix(jtorch), "/dev/null")
    path, got = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    jtorch.save(matrix(jtorch), path)
    reader.join(30)
    assert jtorch.load(io.BytesIO(got[0])).tolist() == matrix(jtorch).tolist() and stat.S_ISFIFO(path.stat().st_mode)


# --- files that are damaged or mean harm -----------------------------------------------------------------------------

REFUSALS = (RuntimeError, pickle.UnpicklingError, EOFError)


def refused(data: bytes, tmp_path: Path | None = None) -> bool:
    """Is this data refused, with an error of those that `load` documents?"""
    try:
        jtorch.load(io.BytesIO(data))
    except REFUSALS:
        return True
    return False


def a_checkpoint(zipped: bool) -> bytes:
    return saved({"w": matrix(jtorch), "n": [1, "two", (3.0, None)], "v": views(jtorch)[2]},
                 _use_new_zipfile_serialization=zipped).getvalue()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_truncated_files(zipped) -> None:
    data = a_checkpoint(zipped)
    for end in range(0, len(data) - 1, 3 if zipped else 1):
        assert refused(data[:end]), end


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_garbled_files(zipped) -> None:
    """Bytes changed, runs of bytes overwritten, parts cut out: an error of the documented kinds, or a harmless read."""
    data, choose = a_checkpoint(zipped), random.Random(0)
    count = 0
    for _ in range(1500):
        broken = bytearray(data)
        for _ in range(choose.choice((1, 1, 2, 8))):
            broken[choose.randrange(len(data))] = choose.randrange(256)
        if choose.random() < 0.2:
            start = choose.randrange(len(data))
            del broken[start:start + choose.randrange(40)]
        count += refused(bytes(broken))
    assert count > (400 if zipped else 300)


def test_garbled_elements_are_noticed() -> None:
    data = bytearray(saved(jtorch.arange(1000.0)).getvalue())
    at = bytes(data).index(np.arange(1000, dtype=np.float32).tobytes())
    data[at + 777] ^= 1
    with pytest.raises(RuntimeError, match="record data/0 does not have its checksum"):
        jtorch.load(io.BytesIO(bytes(data)))


def test_noise() -> None:
    choose = random.Random(1)
    for start in (b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", saved(1).getvalue()[:60]):
        for _ in range(100):
            assert refused(start + choose.randbytes(choose.randrange(200)))


def archive_of(pickled: bytes, **records: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in records.items():
            archive.writestr("archive/" + name.replace("_", "/"), data)
        archive.writestr("archive/version", b"3\n")
    return target.getvalue()


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def text(s: str) -> bytes:
    return b"X" + struct.pack("<I", len(s.encode())) + s.encode()


def storage(kind: str, key: bytes, numel: bytes) -> bytes:
    return b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + key + text("cpu") + numel + b"tQ"


def tensor(store: bytes, offset: bytes, size: bytes, stride: bytes) -> bytes:
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + store + offset + size + stride
            + b"\x89ccollections\nOrderedDict\n)RtR")


ONE = text("0")
GOOD = storage("FloatStorage", ONE, b"K\x04")
P = b"\x80\x02"
HUGE = b"\x8a\x08" + struct.pack("<q", 1 << 60)
MARK = "/tmp/jtorch-was-here"
HOSTILE = {
    "system": pickle.dumps(Calls(os.system, f"touch {MARK}"), 2),
    "eval": pickle.dumps(Calls(eval, f"open('{MARK}', 'w')"), 2),
    "eval, protocol 4": pickle.dumps(Calls(eval, f"open('{MARK}', 'w')"), 4),
    "getattr": pickle.dumps(Calls(getattr, "x", "upper"), 2),
    "import": pickle.dumps(Calls(__import__, "os"), 2),
    "partial": P + b"cfunctools\npartial\n(cos\nsystem\n" + text(f"touch {MARK}") + b"tR.",
    "numpy": P + b"cnumpy\nload\n(" + text("x") + b"tR.",
    "torch.load": P + b"ctorch\nload\n(" + text("x") + b"tR.",
    "torch.hub": P + b"ctorch.hub\nload\n(" + text("x") + b"tR.",
    "attributes of a name": P + b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
    "builtins by another name": P + b"c__builtin__\neval\n.",
    "jtorch by its own name": P + b"cjtorch.serialization.names\nimportlib\n.",
    "instance": P + b"(ios\nsystem\n" + text(f"touch {MARK}") + b".",
    "object": P + b"(cos\nsystem\n" + text(f"touch {MARK}") + b"o.",
    "extension code": P + b"\x82\x01.",
    "extended new": b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
    "new of a function": P + b"ctorch._utils\n_rebuild_tensor_v2\n)\x81.",
    "new tensor": P + b"ctorch\nTensor\n)\x81.",
    "tensor by its class": P + b"ctorch\nTensor\n(" + HUGE + HUGE + b"tR.",
    "state of a function": P + b"ctorch._utils\n_rebuild_tensor_v2\n}" + text("__defaults__") + b"Nsb.",
    "state of a class": P + b"ctorch.nn.parameter\nParameter\n}" + text("__reduce__") + b"Nsb.",
    "state of a dtype": P + b"ctorch\nfloat32\n}" + text("itemsize") + b"K\x01sb.",
    "call of a dtype": P + b"ctorch\nfloat32\n)R.",
    "call of a list": P + b"])R.",
    "arguments that are none": P + b"ccollections\nOrderedDict\nK\x01R.",
    "persistent text": P + text("storage") + b"Q.",
    "persistent module": P + b"(" + text("module") + b"cos\nsystem\ntQ.",
    "persistent id of nothing": P + b")Q.",
    "append to a tuple": P + b")K\x01a.",
    "set an item of a list": P + b"]K\x00K\x01s.",
    "set an item of a storage": P + GOOD + b"K\x00K\x01s.",
    "an unhashable key": P + b"}]K\x01s.",
    "a key of a thousand tuples": P + b"}" + b")" + b"\x85" * 30_000 + b"K\x01s.",
    "a set of a thousand tuples": P + b"c__builtin__\nset\n(](" + b")" + b"\x85" * 30_000 + b"etR.",
    "an ordered dict of such": P + b"ccollections\nOrderedDict\n(]()" + b"\x85" * 30_000 + b"K\x01\x86etR.",
    "a set through a subclass": P + (b"ctorch._tensor\n_rebuild_from_type_v2\n(c__builtin__\nset\nctorch\nTensor\n(](" +
                                     b")" + b"\x85" * 30_000 + b"et}tR."),
    "no stop": P + b"K\x01",
    "nothing on the stack": P + b".",
    "an empty stack": P + b"\x85.",
    "a mark that is not there": P + b"t.",
    "a memo that is not there": P + b"h\x05.",
    "text beyond the end": P + b"X\xff\xff\xff\x7fabc.",
    "text that is none": P + b"X\x02\x00\x00\x00\xff\xfe.",
    "bytes beyond the end": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    "negative length": P + b"\x8b\xff\xff\xff\xff.",
    "a large bytearray": P + b"c__builtin__\nbytearray\n" + HUGE + b"\x85R.",
    "an odd codec": P + b"c_codecs\nencode\n" + text("x") + text("rot13") + b"\x86R.",
    "storage of no type": P + b"(" + text("storage") + b"ccollections\nOrderedDict\n" + ONE + text("cpu") + b"K\x04tQ.",
    "storage of five elements": P + storage("FloatStorage", ONE, b"K\x05") + b".",
    "storage of two types": P + b"(" + GOOD + storage("IntStorage", ONE, b"K\x04") + b"t.",
    "storage that is not there": P + storage("FloatStorage", text("7"), b"K\x04") + b".",
    "storage outside": P + storage("FloatStorage", text("../version"), b"K\x04") + b".",
    "storage with a number for a key": P + storage("FloatStorage", b"K\x00", b"K\x04") + b".",
    "negative storage": P + storage("FloatStorage", ONE, b"J\xff\xff\xff\xff") + b".",
    "huge storage": P + storage("FloatStorage", ONE, HUGE) + b".",
    "tensor beyond its storage": P + tensor(GOOD, b"K\x00", b"K\x05\x85", b"K\x01\x85") + b".",
    "tensor behind its storage": P + tensor(GOOD, b"K\x04", b"K\x01\x85", b"K\x01\x85") + b".",
    "tensor before its storage": P + tensor(GOOD, b"J\xff\xff\xff\xff", b"K\x01\x85", b"K\x01\x85") + b".",
    "negative stride": P + tensor(GOOD, b"K\x03", b"K\x02\x85", b"J\xff\xff\xff\xff\x85") + b".",
    "huge strides": P + tensor(GOOD, b"K\x00", b"K\x02\x85", HUGE + b"\x85") + b".",
    "huge sizes": P + tensor(GOOD, b"K\x00", HUGE + HUGE + b"\x86", b"K\x01K\x01\x86") + b".",
    "sizes without strides": P + tensor(GOOD, b"K\x00", b"K\x02\x85", b")") + b".",
    "sizes of text": P + tensor(GOOD, b"K\x00", text("x") + b"\x85", b"K\x01\x85") + b".",
    "a size of half": P + tensor(GOOD, b"K\x00", b"G?\xe0\x00\x00\x00\x00\x00\x00\x85", b"K\x01\x85") + b".",
    "sizes that are none": P + tensor(GOOD, b"K\x00", b"N", b"N") + b".",
    "tensor of a list": P + tensor(b"]", b"K\x00", b"K\x02\x85", b"K\x01\x85") + b".",
    "parameter of a list": P + b"ctorch._utils\n_rebuild_parameter\n(]\x88NtR.",
    "subclass that is none": P + b"ctorch._tensor\n_rebuild_from_type_v2\n(c__builtin__\nset\nc__builtin__\nset\n)}tR.",
    "layout": P + b"ctorch.serialization\n_get_layout\n" + text("torch.sparse_coo") + b"\x85R.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(name) -> None:
    Path(MARK).unlink(missing_ok=True)
    data = archive_of(HOSTILE[name], data_0=bytes(16))
    assert refused(data), name
    system = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    assert refused(b"".join([*system, HOSTILE[name], pickle.dumps(["0"], 2), struct.pack("<q", 4), bytes(16)]))
    assert refused(HOSTILE[name])
    assert not Path(MARK).exists()


def test_the_refusal_names_what_it_refused() -> None:
    for function, name in ((os.system, "posix.system"), (eval, "__builtin__.eval")):
        with pytest.raises(pickle.UnpicklingError, match=f"Unsupported global: GLOBAL {name}"):
            jtorch.load(io.BytesIO(archive_of(pickle.dumps(Calls(function, "x"), 2))))
    with safe_globals([os.system]), pytest.raises(pickle.UnpicklingError, match="module posix is blocked"):
        jtorch.load(io.BytesIO(archive_of(pickle.dumps(Calls(os.system, "x"), 2))))


def test_hostile_archives() -> None:
    good = pickle.dumps(1, 2)
    assert jtorch.load(io.BytesIO(archive_of(good))) == 1
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", P + storage("FloatStorage", ONE, b"K\x04") + b".")
        archive.writestr("archive/data/0", bytes(1 << 24))
    with pytest.raises(RuntimeError, match="holds 16777216 bytes instead of 16"):
        jtorch.load(io.BytesIO(bomb.getvalue()))
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    nothing = io.BytesIO()
    with zipfile.ZipFile(nothing, "w") as archive:
        archive.writestr("archive/other", b"")
    assert refused(empty.getvalue()) and refused(b"PK\x03\x04" + empty.getvalue()) and refused(nothing.getvalue())
    data = bytearray(archive_of(good))  # the directory points elsewhere
    at = data.index(b"PK\x01\x02")
    for offset in (1, len(data) - 10, (1 << 32) - 2):
        broken = bytearray(data)
        broken[at + 42:at + 46] = struct.pack("<I", offset)
        assert refused(bytes(broken)), offset
    order = archive_of(good, byteorder=b"middle")
    with pytest.raises(RuntimeError, match="Unknown endianness"):
        jtorch.load(io.BytesIO(order))
    with pytest.raises(RuntimeError, match="TorchScript archive"):
        jtorch.load(io.BytesIO(archive_of(good, **{"constants.pkl": b""})))


# --- pickle and copy -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol) -> None:
    for name in ("views", "permuted", "dtypes", "parameters", "optimizer"):
        x = OBJECTS[name](jtorch)
        again = pickle.loads(pickle.dumps(x, protocol))
        assert described(again) == described(x) and storages(again) == storages(x)


def test_pickle_out_of_band() -> None:
    x, buffers = matrix(jtorch), []
    data = pickle.dumps([x, x.t()], 5, buffer_callback=buffers.append)
    assert len(buffers) == 1 and len(data) < 1000
    again, turned = pickle.loads(data, buffers=[bytearray(b) for b in buffers])
    again[0, 1] = 50
    assert turned[1, 0] == 50 and x[0, 1] == 1


def test_deepcopy() -> None:
    x = views(jtorch)
    again = copy.deepcopy(x)
    assert described(again) == described(x) and storages(again) == storages(x)
    again[0][2, 0] = 70
    assert again[3][0] == 70 and x[3][0] == 8
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model(jtorch.ones(1, 2)).sum().backward()
    twin = copy.deepcopy(model)
    assert twin[1].weight is twin[0].weight and twin[0].weight is not model[0].weight
    assert jtorch.equal(twin[0].weight.grad, model[0].weight.grad)
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(model[0].weight * 2)


# --- safetensors -----------------------------------------------------------------------------------------------------

def test_safetensors(tmp_path) -> None:
    pytest.importorskip("safetensors", reason="the package safetensors is not installed")
    from jtorch.serialization import safetensors

    names = [d for d in DTYPES if d != "complex128"]
    tensors = {d: jtorch.arange(6).reshape(2, 3).to(getattr(jtorch, d)).clone() for d in names}
    tensors |= {"empty": jtorch.zeros(0, 3), "scalar": jtorch.tensor(2.0)}
    again = safetensors.load(safetensors.save(tensors, {"k": "v"}))
    assert {k: described(v) for k, v in again.items()} == {k: described(v) for k, v in tensors.items()}
    model, other = (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)) for _ in range(2))
    for m in (model, other):
        m[1].weight = m[0].weight
    safetensors.save_model(model, tmp_path / "m.safetensors")
    assert sorted(safetensors.load_file(tmp_path / "m.safetensors")) == ["0.bias", "0.weight", "1.bias"]
    assert safetensors.load_model(other, tmp_path / "m.safetensors") == (set(), [])
    assert jtorch.equal(other[1].weight, model[1].weight)
    for bad, error in (({"a": matrix(jtorch).t()}, ValueError), ([1], ValueError), ({"a": 1}, ValueError),
                       ({"a": model[0].weight, "b": model[0].weight}, RuntimeError)):
        with pytest.raises(error):
            safetensors.save(bad)
    if torch is not None:
        import safetensors.torch as theirs
        read = theirs.load(safetensors.save(tensors))
        assert {k: described(v) for k, v in read.items()} == {k: described(v) for k, v in tensors.items()}
        back = safetensors.load(theirs.save(read))
        assert {k: described(v) for k, v in back.items()} == {k: described(v) for k, v in tensors.items()}
