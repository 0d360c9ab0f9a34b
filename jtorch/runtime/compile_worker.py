"""A compile process: `compile_pool` runs this file.

Reads (function, arguments) pickles from standard input and answers each on standard output with (True, object code) or
(False, message), until the input ends or nothing comes for some time.

    JTORCH_COMPILE_IDLE    seconds; default 60
"""
from __future__ import annotations

import gc
import os
import pickle
import select
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

IDLE_S = float(os.environ.get("JTORCH_COMPILE_IDLE", 60))


def prepare() -> None:
    """Import what compiling takes, and nothing of the package's user side: `jtorch` is an empty package here."""
    package = types.ModuleType("jtorch")
    package.__path__ = [str(Path(__file__).parents[1])]
    sys.modules["jtorch"] = package
    sys.path[:] = [p for p in sys.path if Path(p) != Path(__file__).parent]
    from jtorch.runtime import frontend  # noqa: F401  (the slow import, before the first request is waited for)
    gc.freeze()  # what was imported stays: no collection has to walk over it


def answer_of(function: Callable[..., bytes], args: tuple) -> tuple[bool, Any]:
    """(True, the function's result) or (False, what went wrong)."""
    try:
        return True, function(*args)
    except Exception as error:
        return False, str(error)


def main() -> None:
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints must not get between the answers
    prepare()
    while select.select([requests], [], [], IDLE_S)[0]:
        try:
            function, args = pickle.load(requests)
        except EOFError:
            return
        try:
            pickle.dump(answer_of(function, args), answers)
            answers.flush()
        except BrokenPipeError:  # the user's process has ended meanwhile: nothing to report to anybody
            os._exit(0)


if __name__ == "__main__":
    main()
