"""An unpickler that can do nothing but put data together.

It knows the instructions that data needs, the names of `names.MEANING` and those that the user has allowed, and calls
nothing else. No name is imported, no attribute of a module, class or function is read or written. Source of the
instruction set: Python's `pickletools`, protocols 2 to 5.
"""
from __future__ import annotations

import pickle
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from pickle import UnpicklingError
from typing import Any

from jtorch._tensor import Tensor
from jtorch.serialization.names import MEANING

_BLOCKED = frozenset(["sys", "os", "posix", "nt", "builtins", "subprocess", "importlib", "ctypes"])
"""Modules of which nothing can be allowed."""

_ATOMS = (str, int, float, complex, bytes, bool, type(None))
_DICTS = (dict, OrderedDict, Counter)
KEY_DEPTH = 50

_allowed: dict[str, Any] = {}


def _names_of(x: Any) -> list[str]:
    if isinstance(x, tuple):
        if len(x) != 2:
            raise ValueError("Expected tuple of length 2 (global, str of callable full path), but got tuple of length: "
                             f"{len(x)}")
        if type(x[1]) is not str:
            raise TypeError(f"Expected second item in tuple to be str of callable full path, but got: {type(x[1])}")
        return [x[1]]
    name = f"{x.__module__}.{x.__qualname__}"
    return [name, "torch" + name.removeprefix("jtorch")] if name.startswith("jtorch.") else [name]


def add_safe_globals(safe_globals: Iterable[Any]) -> None:
    """Let `load` use these functions and classes: each by its own name, or given as (thing, name in files)."""
    _allowed.update({name: x[0] if isinstance(x, tuple) else x for x in safe_globals for name in _names_of(x)})


def get_safe_globals() -> list[Any]:
    """What `add_safe_globals` was given."""
    return list(dict.fromkeys(_allowed.values()))


def allowed_names() -> Iterable[str]:
    """The names in files that `add_safe_globals` has allowed."""
    return _allowed.keys()


def clear_safe_globals() -> None:
    """Forget what `add_safe_globals` was given."""
    _allowed.clear()


class safe_globals:
    """`with safe_globals([...])`: allowed inside of the block."""

    def __init__(self, safe_globals: list[Any]) -> None:
        self.safe_globals = safe_globals

    def __enter__(self) -> None:
        self.before = dict(_allowed)
        add_safe_globals(self.safe_globals)

    def __exit__(self, *error: object) -> None:
        _allowed.clear()
        _allowed.update(self.before)


def meaning(module: str, name: str) -> Any:
    """What an allowed name means. UnpicklingError for others."""
    full = f"{module}.{name}"
    found = MEANING.get(full)
    if found is None:
        found = _allowed.get(full)
    if found is None:
        raise UnpicklingError(f"Unsupported global: GLOBAL {full} was not an allowed global by default. Please use "
                              f"`torch.serialization.add_safe_globals([{full}])` or the "
                              f"`torch.serialization.safe_globals([{full}])` context manager to allowlist this global "
                              "if you trust this class/function.")
    if module.partition(".")[0] in _BLOCKED and full not in MEANING:
        raise UnpicklingError(f"Trying to load unsupported GLOBAL {full} whose module {module} is blocked.")
    return found


def check_key(key: Any, depth: int = KEY_DEPTH) -> Any:
    """A key that can be hashed without surprises: hashing a deeply nested tuple would exhaust the stack."""
    if isinstance(key, tuple):
        if not depth:
            raise UnpicklingError(f"a key of more than {KEY_DEPTH} nested tuples")
        for x in key:
            check_key(x, depth - 1)
    return key


class Machine:
    """Runs one pickle. `data` holds it from `position` on; after `run`, `position` is behind it.

    `storage(id)` gives the storage for a persistent id. With `names`, globals are only collected: nothing is called.
    """

    def __init__(self, data: bytes | memoryview, storage: Callable[[tuple], Any], position: int = 0,
                 names: dict[str, None] | None = None, encoding: str = "utf-8") -> None:
        self.data, self.position, self.storage, self.names = memoryview(data), position, storage, names
        self.encoding = encoding
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The pickled object. UnpicklingError for what is not allowed, or is no pickle."""
        data, handlers = self.data, _HANDLERS
        try:
            while True:
                code = data[self.position]
                self.position += 1
                if code == _STOP:
                    return self.stack.pop()
                handler = handlers[code]
                if handler is None:
                    raise UnpicklingError(f"Unsupported operand {code}")
                handler(self)
        except (LookupError, TypeError, ValueError, AttributeError, struct.error, OverflowError, RecursionError) as e:
            raise UnpicklingError(f"invalid or truncated pickle data at byte {self.position}: "
                                  f"{type(e).__name__}: {e}") from None

    # --- reading -----------------------------------------------------------------------------------------------------

    def take(self, n: int) -> memoryview:
        start, end = self.position, self.position + n
        if not 0 <= n <= len(self.data) - start:
            raise IndexError(f"{n} bytes are expected, {len(self.data) - start} are there")
        self.position = end
        return self.data[start:end]

    def number(self, form: str, size: int) -> Any:
        return struct.unpack(form, self.take(size))[0]

    def line(self) -> str:
        end = start = self.position
        while self.data[end] != 10:
            end += 1
        self.position = end + 1
        return str(self.data[start:end], "utf-8")

    def popped_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    # --- the instructions that do more than push data ----------------------------------------------------------------

    def globally(self, module: str, name: str) -> None:
        if self.names is not None:
            self.names[f"{module}.{name}"] = None
            self.stack.append(_Unknown)
        else:
            self.stack.append(meaning(module, name))

    def stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise TypeError("the name of a global is expected")
        self.globally(module, name)

    def reduce(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if self.names is not None:
            self.stack[-1] = _Unknown()
            return
        if type(arguments) is not tuple:
            raise TypeError("arguments are expected to be a tuple")
        if isinstance(function, type) and issubclass(function, Tensor):
            raise UnpicklingError(f"Trying to call {function.__name__}: tensors are made by rebuild functions")
        if not callable(function):
            raise UnpicklingError(f"Trying to call {type(function).__name__}, which is no function")
        if function is set or function in _DICTS:
            arguments = tuple([_items(function, x) for x in arguments])
        self.stack[-1] = function(*arguments)

    def new(self) -> None:
        arguments = self.stack.pop()
        kind = self.stack[-1]
        if self.names is not None:
            self.stack[-1] = _Unknown()
            return
        if not isinstance(kind, type) or kind not in (OrderedDict, *_allowed.values()):
            raise UnpicklingError("Can only create new object for nn.Parameter or classes allowlisted via "
                                  f"`add_safe_globals` but got {kind}")
        self.stack[-1] = kind.__new__(kind, *arguments)

    def build(self) -> None:
        state = self.stack.pop()
        x = self.stack[-1]
        if self.names is not None:
            return
        kind = type(x)
        if isinstance(x, Tensor) or kind is OrderedDict:
            if type(state) is dict:
                x.__dict__.update(state)
            else:
                raise UnpicklingError(f"the state of a {kind.__name__} is expected to be a dict")
        elif kind in _allowed.values():
            if hasattr(x, "__setstate__"):
                x.__setstate__(state)
            else:
                plain, slots = state if type(state) is tuple and len(state) == 2 else (state, None)
                x.__dict__.update(plain or {})
                for name, value in (slots or {}).items():
                    setattr(x, name, value)
        else:
            raise UnpicklingError("Can only build Tensor, Parameter, OrderedDict or types allowlisted via "
                                  f"`add_safe_globals`, but got {kind}")

    def persistent(self) -> None:
        key = self.stack.pop()
        if self.names is not None:
            self.stack.append(_Unknown())
            return
        if type(key) is not tuple or not key or key[0] != "storage":
            raise UnpicklingError(f"Only persistent_load of storage is allowed, but got {str(key)[:100]}")
        self.stack.append(self.storage(key))

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if self.names is not None and isinstance(target, _Unknown):
            return
        if type(target) not in _DICTS:
            raise UnpicklingError("Can only SETITEMS for dict, collections.OrderedDict, collections.Counter, but got "
                                  f"{type(target)}")
        if len(items) % 2:
            raise ValueError("a key without a value")
        for k, v in zip(items[::2], items[1::2]):
            target[k if type(k) in _ATOMS else check_key(k)] = v

    def append(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if self.names is not None and isinstance(target, _Unknown):
            return
        if type(target) is not list:
            raise UnpicklingError(f"Can only append to lists, but got {type(target)}")
        target.extend(items)

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if self.names is not None and isinstance(target, _Unknown):
            return
        if type(target) is not set:
            raise UnpicklingError(f"Can only add to sets, but got {type(target)}")
        target.update([check_key(x) for x in items])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def push(self, x: Any) -> None:
        self.stack.append(x)


class _Unknown:
    """Stands for what a name would have given, where names are only collected."""


def _items(function: Any, given: Any) -> Any:
    """An argument of a set or dictionary, with its keys checked."""
    if type(given) in _DICTS:
        return given
    if type(given) not in (list, tuple):
        raise TypeError(f"items of a {function.__name__} are expected, not {type(given).__name__}")
    for x in given:
        check_key(x[0] if function is OrderedDict else x)
    return given


def _tuple(n: int) -> Callable[[Machine], None]:
    def make(m: Machine) -> None:
        if len(m.stack) < n:
            raise IndexError("the stack is empty")
        m.stack[-n:] = [tuple(m.stack[-n:])]
    return make


def _mark(m: Machine) -> None:
    m.marks.append(m.stack)
    m.stack = []


def _set_item(m: Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.set_items([key, value])


def _append(m: Machine) -> None:
    x = m.stack.pop()
    m.append([x])


def _text(form: str, size: int) -> Callable[[Machine], None]:
    return lambda m: m.push(str(m.take(m.number(form, size)), "utf-8", "surrogatepass"))


def _bytes(form: str, size: int) -> Callable[[Machine], None]:
    return lambda m: m.push(bytes(m.take(m.number(form, size))))


def _python2_text(form: str, size: int) -> Callable[[Machine], None]:
    def read(m: Machine) -> None:
        raw = bytes(m.take(m.number(form, size)))
        m.push(raw if m.encoding == "bytes" else raw.decode(m.encoding))
    return read


def _constant(x: Any) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(x)


_INSTRUCTIONS: dict[bytes, Callable[[Machine], Any]] = {
    pickle.PROTO: lambda m: m.take(1), pickle.FRAME: lambda m: m.take(8),
    pickle.NONE: _constant(None), pickle.NEWTRUE: _constant(True), pickle.NEWFALSE: _constant(False),
    pickle.EMPTY_TUPLE: _constant(()),
    pickle.EMPTY_DICT: lambda m: m.push({}), pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.EMPTY_SET: lambda m: m.push(set()),
    pickle.BININT: lambda m: m.push(m.number("<i", 4)), pickle.BININT1: lambda m: m.push(m.number("B", 1)),
    pickle.BININT2: lambda m: m.push(m.number("<H", 2)), pickle.BINFLOAT: lambda m: m.push(m.number(">d", 8)),
    pickle.LONG1: lambda m: m.push(int.from_bytes(m.take(m.number("B", 1)), "little", signed=True)),
    pickle.LONG4: lambda m: m.push(int.from_bytes(m.take(m.number("<i", 4)), "little", signed=True)),
    pickle.SHORT_BINUNICODE: _text("B", 1), pickle.BINUNICODE: _text("<I", 4), pickle.BINUNICODE8: _text("<Q", 8),
    pickle.SHORT_BINBYTES: _bytes("B", 1), pickle.BINBYTES: _bytes("<I", 4), pickle.BINBYTES8: _bytes("<Q", 8),
    pickle.BYTEARRAY8: lambda m: m.push(bytearray(m.take(m.number("<Q", 8)))),
    pickle.SHORT_BINSTRING: _python2_text("B", 1), pickle.BINSTRING: _python2_text("<i", 4),
    pickle.MARK: _mark, pickle.POP: lambda m: m.stack.pop(), pickle.TUPLE: lambda m: m.push(tuple(m.popped_mark())),
    pickle.TUPLE1: _tuple(1), pickle.TUPLE2: _tuple(2), pickle.TUPLE3: _tuple(3),
    pickle.SETITEM: _set_item, pickle.SETITEMS: lambda m: m.set_items(m.popped_mark()),
    pickle.APPEND: _append, pickle.APPENDS: lambda m: m.append(m.popped_mark()),
    pickle.ADDITEMS: lambda m: m.add(m.popped_mark()),
    pickle.BINPUT: lambda m: m.put(m.number("B", 1)), pickle.LONG_BINPUT: lambda m: m.put(m.number("<I", 4)),
    pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
    pickle.BINGET: lambda m: m.push(m.memo[m.number("B", 1)]),
    pickle.LONG_BINGET: lambda m: m.push(m.memo[m.number("<I", 4)]),
    pickle.GLOBAL: lambda m: m.globally(m.line(), m.line()), pickle.STACK_GLOBAL: Machine.stack_global,
    pickle.REDUCE: Machine.reduce, pickle.NEWOBJ: Machine.new, pickle.BUILD: Machine.build,
    pickle.BINPERSID: Machine.persistent,
}
_STOP = pickle.STOP[0]
_HANDLERS: list[Callable[[Machine], Any] | None] = [_INSTRUCTIONS.get(bytes([code])) for code in range(256)]

__all__ = ["Machine", "add_safe_globals", "clear_safe_globals", "get_safe_globals", "safe_globals"]
