"""One measurement in a process of its own: `python -m benchmarks.worker IMPLEMENTATION CASE MODEL_PATH`.

The last line of the output is the result as JSON. With `--turns` behind, samples are taken when the process that has
started this one says so (`turns.take_turns`). With `export` for an implementation it writes the ONNX model.
"""

import importlib
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from .implementations import IMPLEMENTATIONS, Unavailable, export_onnx, prepare_environment
from .turns import answer, serve


def measure(implementation_name: str, case_name: str, model_path: Path, turns: bool) -> dict[str, Any]:
    """Times in seconds, memory in MiB."""
    from .measure import SAMPLES, SECONDS, MemoryMark, Samples

    implementation = IMPLEMENTATIONS[implementation_name]()
    start = time.perf_counter()
    importlib.import_module(implementation.measured_module)
    import_seconds = time.perf_counter() - start
    implementation.load()
    from .cases import CASES

    case = CASES[case_name]
    if case.eager_only and implementation.compiled:
        raise Unavailable("an eager case")
    if case.measure == "import":
        return {"seconds": import_seconds, "import_seconds": import_seconds}
    mark = MemoryMark()
    start = time.perf_counter()
    step = implementation.prepare(case, model_path)
    prepared = time.perf_counter()
    step()
    done = time.perf_counter()
    result = {"import_seconds": import_seconds, "first_call_seconds": done - prepared}
    if case.measure == "first":
        result["seconds"] = done - start
    else:
        samples = Samples(step, compiling=implementation.compiling)
        if turns:
            serve(samples.take)
        else:
            samples.take(SECONDS, SAMPLES)
        result["seconds"] = samples.median / case.operations
    return result | mark.peak()


def main() -> None:
    prepare_environment()
    warnings.simplefilter("ignore")
    implementation_name, case_name, path, *turns = sys.argv[1:]
    if implementation_name == "export":
        from .cases import CASES

        export_onnx(CASES[case_name], Path(path))
        return
    try:
        result = measure(implementation_name, case_name, Path(path), bool(turns))
    except Unavailable as reason:
        result = {"unavailable": str(reason)}
    except Exception as error:
        lines = str(error).strip().splitlines()
        result = {"unavailable": f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]}
    if turns:
        answer(result)
    else:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
