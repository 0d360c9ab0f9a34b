"""`torch.utils._pytree`: nested containers taken apart into leaves and a description, and put together again."""
from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = ["LeafSpec", "PyTree", "TreeSpec", "register_pytree_node", "tree_all", "tree_any", "tree_flatten",
           "tree_iter", "tree_leaves", "tree_map", "tree_map_", "tree_map_only", "tree_structure", "tree_unflatten"]

PyTree = Any


class _Container(NamedTuple):
    flatten: Callable[[Any], tuple[list[Any], Any]]
    unflatten: Callable[[Iterable[Any], Any], Any]


def _mapping(make: Callable[..., Any]) -> _Container:
    return _Container(lambda d: (list(d.values()), list(d)), lambda leaves, keys: make(zip(keys, leaves)))


_CONTAINERS: dict[Any, _Container] = {
    list: _Container(lambda x: (x, None), lambda leaves, _: list(leaves)),
    tuple: _Container(lambda x: (list(x), None), lambda leaves, _: tuple(leaves)),
    dict: _mapping(dict),
    OrderedDict: _mapping(OrderedDict),
    defaultdict: _Container(lambda d: (list(d.values()), (d.default_factory, list(d))),
                            lambda leaves, how: defaultdict(how[0], zip(how[1], leaves))),
    deque: _Container(lambda d: (list(d), d.maxlen), lambda leaves, maxlen: deque(leaves, maxlen=maxlen)),
    namedtuple: _Container(lambda x: (list(x), type(x)), lambda leaves, kind: kind(*leaves)),
}


def _kind(x: Any) -> Any:
    if isinstance(x, tuple) and hasattr(type(x), "_fields"):
        return namedtuple
    return type(x) if type(x) in _CONTAINERS else None


class TreeSpec:
    """The structure of a tree: the kind of container, what it needs besides its children, and their structures."""

    def __init__(self, type: Any, context: Any, children_specs: list[TreeSpec]) -> None:
        self.type, self.context, self.children_specs = type, context, children_specs
        self.num_leaves: int = 1 if type is None else sum(c.num_leaves for c in children_specs)

    def is_leaf(self) -> bool:
        return self.type is None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TreeSpec) and (self.type, self.context, self.children_specs) == (
            other.type, other.context, other.children_specs)

    def __hash__(self) -> int:
        return hash((self.type, repr(self.context), tuple(self.children_specs)))

    def __repr__(self) -> str:
        if self.type is None:
            return "*"
        return f"TreeSpec({self.type.__name__}, {self.context}, {self.children_specs})"


class LeafSpec(TreeSpec):
    """The structure of a leaf."""

    def __init__(self) -> None:
        super().__init__(None, None, [])


def register_pytree_node(cls: type, flatten_fn: Callable[[Any], tuple[Iterable[Any], Any]],
                         unflatten_fn: Callable[[Iterable[Any], Any], Any], **options: Any) -> None:
    """Let a class be a container: `flatten_fn(x)` gives its children and what else it takes to make it again.
    ValueError if it is one already."""
    if cls in _CONTAINERS:
        raise ValueError(f"{cls} is already registered as pytree node.")

    def flatten(x: Any) -> tuple[list[Any], Any]:
        children, context = flatten_fn(x)
        return list(children), context
    _CONTAINERS[cls] = _Container(flatten, unflatten_fn)


def tree_flatten(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves from left to right, and the structure."""
    kind = _kind(tree)
    if kind is None or is_leaf is not None and is_leaf(tree):
        return [tree], LeafSpec()
    children, context = _CONTAINERS[kind].flatten(tree)
    leaves: list[Any] = []
    specs = []
    for child in children:
        below, spec = tree_flatten(child, is_leaf)
        leaves += below
        specs.append(spec)
    return leaves, TreeSpec(kind, context, specs)


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> PyTree:
    """The tree of this structure. ValueError for another number of leaves."""
    given = list(leaves)
    if len(given) != treespec.num_leaves:
        raise ValueError(f"tree_unflatten(leaves, treespec): `leaves` has length {len(given)} but the spec refers to a "
                         f"pytree that holds {treespec.num_leaves} items ({treespec}).")
    rest = iter(given)

    def build(spec: TreeSpec) -> Any:
        if spec.type is None:
            return next(rest)
        return _CONTAINERS[spec.type].unflatten([build(c) for c in spec.children_specs], spec.context)
    return build(treespec)


def tree_leaves(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    return tree_flatten(tree, is_leaf)[0]


def tree_iter(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> Iterable[Any]:
    return iter(tree_leaves(tree, is_leaf))


def tree_structure(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> TreeSpec:
    return tree_flatten(tree, is_leaf)[1]


def tree_map(func: Callable[..., Any], tree: PyTree, *rests: PyTree, is_leaf: Callable[[Any], bool] | None = None
             ) -> PyTree:
    """`func` of the leaves at the same places of all trees, in the structure of the first."""
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [tree_leaves(r, is_leaf) for r in rests]
    for other in others:
        if len(other) != len(leaves):
            raise ValueError(f"Node arity mismatch; expected {len(leaves)} leaves, but got {len(other)}.")
    return tree_unflatten([func(*group) for group in zip(leaves, *others)], spec)


def tree_map_(func: Callable[..., Any], tree: PyTree, *rests: PyTree) -> PyTree:
    """`tree_map` for what `func` does to the leaves; returns the tree."""
    tree_map(func, tree, *rests)
    return tree


def tree_map_only(kind: Any, func: Callable[[Any], Any], tree: PyTree) -> PyTree:
    """`func` of the leaves of a type (or tuple of types, or that a predicate names), the others as they are."""
    wanted = kind if callable(kind) and not isinstance(kind, type) else lambda x: isinstance(x, kind)
    return tree_map(lambda x: func(x) if wanted(x) else x, tree)


def tree_all(pred: Callable[[Any], bool], tree: PyTree) -> bool:
    return all(map(pred, tree_leaves(tree)))


def tree_any(pred: Callable[[Any], bool], tree: PyTree) -> bool:
    return any(map(pred, tree_leaves(tree)))
