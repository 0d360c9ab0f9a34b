"""The rooms of the house and who may import whom (docs/architecture.md), read from the source, nothing imported."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "jtorch"

GROUND = {"dtypes", "devices", "errors", "config", "lazy", "version"}
TENSOR = {"_tensor", "storage", "views", "printing", "dtype_info", "autograd", "ops", "capture"}
FACES = {"jit", "compiler", "func", "functional", "masked", "signal", "export", "profiler", "linalg", "special",
         "random", "fft", "types", "cpu", "accelerator", "backends"}
CLIENTS = {"distributions", "testing", "serialization", "multiprocessing", "nn", "optim", "utils", "vision", "onnx",
           "distributed", "amp", "cuda", "hub"}

# room -> rooms that it may import. A module at the top of the package is a room of its own.
MAY_IMPORT: dict[str, set[str]] = {
    **{room: set() for room in GROUND},
    "ir": GROUND,
    "codegen": GROUND | {"ir"},
    "runtime": GROUND | {"codegen.vecmath", "codegen.vecmath_inverse", "codegen.vecmath_wide",
                         "codegen.far_angles", "codegen.far_quotients", "codegen.irmath"},  # text that kernels call
    "driver": GROUND | {"ir", "codegen", "runtime"},
    **{room: GROUND | TENSOR | {"ir", "driver"} for room in TENSOR},
    **{room: GROUND | TENSOR | FACES | {"ir", "driver"} for room in FACES},
    **{room: GROUND | TENSOR | FACES | CLIENTS | {"ir", ""} for room in CLIENTS},
    "": GROUND | TENSOR | FACES | CLIENTS,  # jtorch/__init__.py; as an import: the public names
    "stand_in": {"", "version"},
    "report": {"runtime", "version"},  # of the installation
    "__config__": {"report"},
    "__main__": {"stand_in", "report", "runtime"},
}
# Beyond the table, module by module: what stands between tensors and the runtime is memory.
ALSO: dict[str, set[str]] = {
    "storage": {"runtime.memory"}, "ops.pickling": {"runtime.memory"}, "ops.sharing": {"runtime.sysmem"},
    "serialization.loading": {"runtime.memory"},
    "ops.settings": {"runtime.threads"},  # set_num_threads
    "backends.cpu": {"runtime.blas"}, "cpu": {"amp"}, "cpu.amp": {"amp"},
    "capture.execute": {"runtime.memory"}, "capture.signature": {"runtime.memory"},
    "capture.variant": {"runtime.memory"}, "capture.update": {"runtime.memory"}, "capture.alike": {"runtime.memory"},
    # what the built-in functions of the eager path and of traced calls go by
    "capture.lone": {"runtime.layout", "runtime.memory", "runtime.objects"},
    "capture.steady": {"runtime.layout", "runtime.memory", "runtime.objects"},
    # dispatch, interpret, creation: to refuse what there is no room for
    "capture.dispatch": {"runtime.memory"}, "ir.interpret": {"runtime.memory"}, "ops.creation": {"runtime.memory"},
    "ops.joining": {"runtime.memory"},  # copies what is there
    "ops.selection": {"runtime.memory", "runtime.native"},  # results as large as the data says
}

# Own modules imported inside of functions, and why.
LAZY: dict[tuple[str, str], str] = {
    ("ir.graph", "ir.text"): "printing depends on graphs, not the reverse",
    ("runtime.compile", "runtime.variants"): "it imports llvmlite, which a warm process never does",
    ("runtime.compile", "runtime.frontend"): "it imports Numba, which a warm process never does",
    ("runtime.compile_worker", "runtime.frontend"): "likewise, and the worker wants to be quick to answer",
    ("runtime.native", "runtime.objects_ir"): "text of LLVM that only an empty cache needs",
    ("ops.settings", "runtime.threads"): "the number of threads is set before there are any",
}
LAZY_FOR_ROOMS: dict[tuple[str, str], str] = {
    ("nn", ""): "modules use public names, and the public names include nn",
}
# Third-party packages that must not load with `import jtorch`.
HEAVY = {"numba", "torch", "matplotlib", "scipy"}
HEAVY_FILES = {"runtime.frontend", "runtime.intrinsics", "runtime.kernel_ir", "runtime.kernel_types",
               "runtime.pair_tiles", "runtime.tiles"}  # loaded when something is compiled


SIZE_LIMIT = 37_000  # bytes: what one can still read at a stretch
LONG: dict[str, str] = {
}


def paths() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found.append((".".join(p for p in parts if p != "__init__"), path))
    return found


def modules() -> list[tuple[str, ast.Module]]:
    return [(name, ast.parse(path.read_text(), str(path))) for name, path in paths()]


MODULES = modules()
KNOWN = {name for name, _ in MODULES}
PACKAGES = {".".join(p.relative_to(PACKAGE).parent.parts) for p in PACKAGE.rglob("__init__.py")}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def targets(node: ast.stmt, module: str) -> list[str]:
    """Own modules that a statement imports, without the leading 'jtorch.'."""
    if isinstance(node, ast.Import):
        return [a.name.partition("jtorch")[2].lstrip(".") for a in node.names if a.name.split(".")[0] == "jtorch"]
    if not isinstance(node, ast.ImportFrom):
        return []
    if node.level:  # from . import x: the module's package is one level up, unless it is the package itself
        up = node.level - (module in PACKAGES)
        base = ".".join([*module.split(".")[:len(module.split(".")) - up], *([node.module] if node.module else [])])
    elif node.module is not None and node.module.split(".")[0] == "jtorch":
        base = node.module.partition("jtorch")[2].lstrip(".")
    else:
        return []
    inner = [f"{base}.{a.name}".lstrip(".") for a in node.names]
    return [i if i in KNOWN else base for i in inner]


def imports(tree: ast.Module) -> list[tuple[ast.stmt, bool]]:
    """Import statements, and whether each stands in a function. `if TYPE_CHECKING:` is left out."""
    found: list[tuple[ast.stmt, bool]] = []

    def walk(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                found.append((child, inside))
            walk(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))
    walk(tree, False)
    return found


def allowed(module: str, target: str) -> bool:
    room, other = room_of(module), room_of(target)
    if room == other or target == module:
        return True
    permitted = MAY_IMPORT.get(room, set()) | ALSO.get(module, set())
    return other in permitted or target in permitted


@pytest.mark.parametrize("module,tree", MODULES, ids=[m or "jtorch" for m, _ in MODULES])
def test_imports_follow_the_table(module: str, tree: ast.Module) -> None:
    assert room_of(module) in MAY_IMPORT, f"{module}: a room that the table does not know"
    for node, _ in imports(tree):
        for target in targets(node, module):
            assert allowed(module, target), f"jtorch/{module} line {node.lineno} imports jtorch.{target}"


@pytest.mark.parametrize("module,tree", MODULES, ids=[m or "jtorch" for m, _ in MODULES])
def test_no_imports_in_functions(module: str, tree: ast.Module) -> None:
    wrong = [f"jtorch/{module} line {node.lineno} imports jtorch.{target} inside of a function"
             for node, inside in imports(tree) if inside for target in targets(node, module)
             if (module, target) not in LAZY and (room_of(module), target) not in LAZY_FOR_ROOMS]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module,tree", MODULES, ids=[m or "jtorch" for m, _ in MODULES])
def test_heavy_packages_are_imported_late(module: str, tree: ast.Module) -> None:
    for node, inside in imports(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]  # type: ignore
        for name in names:
            if name.split(".")[0] in HEAVY and module not in HEAVY_FILES:
                assert inside, f"jtorch/{module} line {node.lineno} imports {name} when it is loaded"
                assert name.split(".")[0] != "torch", f"jtorch/{module} imports torch"


def test_modules_are_small() -> None:
    sizes = {name: path.stat().st_size for name, path in paths()}
    long = {name for name, size in sizes.items() if size > SIZE_LIMIT}
    assert not long - set(LONG), f"over {SIZE_LIMIT} bytes: split them, or say in LONG why not"
    assert not set(LONG) - long, "listed as long, but short"


def test_lazy_imports_exist() -> None:
    """The tables list nothing that is gone."""
    present = {(m, t) for m, tree in MODULES for node, inside in imports(tree) if inside for t in targets(node, m)}
    assert not set(LAZY) - present, "listed as lazy, but not there"
