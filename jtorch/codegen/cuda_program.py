"""Graph -> CUDA launches, by the CPU's own way: place, partition, lower; only the last step prints other text.

    program = cuda_program(graph)        # of primitives: the compiler's passes have been run
    for launch in program.launches:
        print(launch.kernel.source, launch.blocks, launch.threads)

Which team takes an item, and whether positions fit in 32 bits, is decided here from the sizes: each combination is one
text, so sizes choose between a few kernels and appear in none.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from jtorch.codegen.cuda import Kernel, emit_map
from jtorch.codegen.cuda_teams import COLUMN_WARPS, emit_folds
from jtorch.codegen.loops import DENSE, Nest
from jtorch.codegen.lower import lower
from jtorch.codegen.partition import Group, partition
from jtorch.codegen.place import Placed, place
from jtorch.codegen.plan import access_strides
from jtorch.codegen.schedule import Step
from jtorch.ir.graph import Graph, Value

MAP_THREADS = 256
WARP_ROW = 512  # longest row that one warp folds: 16 elements per lane
WARP_THREADS = 128
BLOCK_THREADS, LONG_ROW, LONG_THREADS = 256, 8192, 512
MAX_BLOCKS = 4096  # some thirty for each multiprocessor of a large device; more items than that are taken in strides
MAX_PARAMETERS = 4096 // 8  # of eight bytes each, on every driver


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel of a program. A buffer's argument is (value or temporary, offset in elements), others are numbers."""

    kernel: Kernel
    blocks: int
    threads: int
    args: tuple[Any, ...]
    nest: Nest
    fails: tuple[Value, ...] = ()  # the nodes of the kernel's error codes 1, 2, ...


@dataclass(frozen=True, slots=True)
class Program:
    graph: Graph
    launches: list[Launch]
    outputs: list[Value]  # the values that are the graph's outputs


@lru_cache(maxsize=4096)
def emit(nest: Nest, index: str, team: str) -> Kernel:
    """The text of a nest for one team and index type."""
    return emit_map(nest, index) if team == "map" else emit_folds(nest, index, team)


def cuda_program(graph: Graph) -> Program:
    """Launches in order of execution. NotImplementedError where a node is not a loop nest (matmul, gather...)."""
    placed = place(graph)
    launches: list[Launch] = []
    for group in partition(placed):
        launches += launches_of(placed, group)
    return Program(placed.graph, launches, [placed.root(o) for o in placed.graph.outputs])


def cuda_source(graph: Graph) -> list[tuple[str, tuple[int, int]]]:
    """(kernel text, (blocks, threads per block)) of every launch."""
    return [(launch.kernel.source, (launch.blocks, launch.threads)) for launch in cuda_program(graph).launches]


def launches_of(placed: Placed, group: Group) -> list[Launch]:
    if group.library is not None:
        raise NotImplementedError(f"{group.library.op.name} has no CUDA kernel")
    if any(v.dtype.is_complex for v in (*group.nodes, *group.loads)):
        raise NotImplementedError("complex numbers have no CUDA kernels")
    steps = lower(group)
    return [launch_of(step) for step in steps if items_of(step)]


def items_of(step: Step) -> int:
    """Points of a map, indices of the parallel loops of a nest with folds."""
    return prod(step.binding.extents[:step.nest.parallel])


def launch_of(step: Step) -> Launch:
    nest, binding = step.nest, step.binding
    inner = prod(binding.extents[nest.parallel:])
    items, blocks = items_of(step), 1
    if nest.chunked:
        inner = inner // max(binding.extents[nest.parallel], 1) * binding.chunk
    if not nest.reduce and nest.schedule in ("map", "tile"):
        team, threads, per_block = "map", MAP_THREADS, MAP_THREADS
    elif nest.schedule == "column":
        team, threads, per_block = "column", 32 * COLUMN_WARPS, 1
        columns = binding.extents[nest.parallel - 1]
        blocks = -(-columns // 32)
        items = items // columns * blocks
    elif inner <= WARP_ROW and items > 1:
        team, threads, per_block = "warp", WARP_THREADS, WARP_THREADS // 32
    else:
        team, threads, per_block = "block", LONG_THREADS if inner > LONG_ROW else BLOCK_THREADS, 1
    kernel = emit(nest, "u32" if is_narrow(step) else "i64", team)
    if len(kernel.params) > MAX_PARAMETERS:
        raise NotImplementedError(f"a CUDA kernel takes at most {MAX_PARAMETERS} arguments, not {len(kernel.params)}")
    sizes = {"total": items, "items": items, "blocks": blocks, "inner": inner, "chunk": binding.chunk,
             "rest": prod(binding.extents[nest.parallel + 1:])}
    given = {"buffer": iter(binding.buffers), "extent": iter(binding.extents), "stride": iter(binding.strides),
             "constant": iter(binding.constants), "error": iter([("error", 0)]),
             "code": iter(range(1, 1 + len(binding.fails)))}
    args = tuple([sizes[a] if a in sizes else next(given[a]) for a in kernel.arguments])
    return Launch(kernel, min(-(-items // per_block), MAX_BLOCKS), threads, args, nest, tuple(binding.fails))


def is_narrow(step: Step) -> bool:
    """Does every position, and every count of items with one stride over the grid, fit in 31 bits without a sign?"""
    extents = step.binding.extents
    highest = prod(max(n, 1) for n in extents) + MAX_BLOCKS * LONG_THREADS
    for access in access_strides(step.nest, step.binding).values():
        if access[:1] in ((None,), (DENSE,)):
            continue
        if any(s < 0 for s in access):
            return False
        highest = max(highest, sum(s * (n - 1) for s, n in zip(access, extents)))
    return highest < 1 << 31
