"""One implementation in a process of its own: it reads names of operators, and answers each with a line of JSON."""

import json
import sys
import warnings
from typing import Any

from benchmarks.implementations import Jtorch, Torch, prepare_environment
from benchmarks.measure import seconds_per_call

from .cases import OPERATORS
from .inputs import tensors

SECONDS = 0.12
WARM_UP_SECONDS = 0.05
IMPLEMENTATIONS = {"torch": Torch, "jtorch": Jtorch}


def main() -> None:
    prepare_environment()
    warnings.simplefilter("ignore")
    implementation = IMPLEMENTATIONS[sys.argv[1]]()
    implementation.load()
    torch = implementation.torch
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        answer: dict[str, Any]
        try:
            operator = OPERATORS[line.strip()]
            step = implementation.step(operator.prepare(torch, tensors(torch, operator.inputs)), ())
            answer = {"seconds": seconds_per_call(step, SECONDS, WARM_UP_SECONDS)}
        except Exception as error:
            answer = {"unavailable": f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}"[:200]}
        step = None
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
