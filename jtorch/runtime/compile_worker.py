"""A compile process: `python -m jtorch.runtime.compile_worker`.

Reads (source, params) pickles from standard input and answers each on standard output with (True, object code) or
(False, message), until the input ends. `compile_pool` runs it.
"""
from __future__ import annotations

import os
import pickle
import sys


def main() -> None:
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints must not get between the answers
    from jtorch.runtime import frontend  # noqa: F401  (the slow import, before the first request is waited for)
    from jtorch.runtime.compile import compile_kernel

    while True:
        try:
            source, params = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = True, compile_kernel(source, params)
        except Exception as error:
            answer = False, str(error)
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
