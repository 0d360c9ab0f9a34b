"""What `import jtorch` and a warm process load. Times are reported, not tested: see benchmarks/startup.py."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import startup


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> startup.Laboratory:
    return startup.Laboratory(str(tmp_path_factory.mktemp("startup")), runs=1)


def report(figures: startup.Figures, record_property: Callable[[str, object], None]) -> None:
    for name, runs in figures.items():
        record_property(name, min(wall for wall, _ in runs))


def test_import(laboratory: startup.Laboratory, record_property: Callable[[str, object], None]) -> None:
    figures, heavy = laboratory.series(startup.IMPORT.replace("{module}", "jtorch"))
    report(figures, record_property)
    assert not heavy


def test_import_leaves_the_compiler_out(laboratory: startup.Laboratory) -> None:
    code = startup.IMPORT.replace("{module}", "jtorch")
    code += "import sys\nassert not [m for m in sys.modules if m.startswith(('jtorch.driver', 'jtorch.codegen.'))]\n"
    laboratory.run(code, "none")


def test_warm_process_compiles_nothing(laboratory: startup.Laboratory,
                                       record_property: Callable[[str, object], None]) -> None:
    figures, heavy = laboratory.series(startup.chains("warm"))
    report(figures, record_property)
    assert heavy <= {"llvmlite"}
