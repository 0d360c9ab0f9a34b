"""`python -m benchmarks`: every case, each implementation in its own process, all of them there at once and measured in
turn, a moment each, over several rounds."""

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from .case import Case
from .cases import CASES
from .implementations import IMPLEMENTATIONS
from .machine import describe
from .report import OURS, markdown, ratio, summarise
from .turns import END, Peer, take_turns

OUT = Path(__file__).parent / "out"
COPY = "copy"
CACHE_VARIABLES = ("JTORCH_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR")


def worker(arguments: list[str], environment: dict[str, str], timeout: float) -> Peer:
    """A worker process."""
    return Peer([sys.executable, "-m", "benchmarks.worker", *arguments], environment, timeout)


def environment_with_caches(directory: Path) -> dict[str, str]:
    """The environment of a worker, with the disk caches of every implementation in this directory."""
    directory.mkdir(parents=True, exist_ok=True)
    caches = {name: str(directory / name.lower()) for name in CACHE_VARIABLES}
    always = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    return os.environ | caches | always


def measure_case(
    case: Case, implementations: list[str], options: argparse.Namespace, scratch: Path
) -> dict[str, dict[str, Any]]:
    """All rounds of one case. What is unavailable in the first round is not tried again. Where memory is the limit,
    COPY is what a copy of so many bytes takes."""
    model = scratch / "model.onnx"
    if "onnxruntime" in implementations and case.exportable and case.measure == "call":
        export = worker(["export", case.name, str(model)], dict(os.environ), options.timeout)
        export.hear()
        export.end()
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in implementations}
    if case.traffic is not None:
        results[COPY] = []
    for _ in range(options.rounds):
        peers: dict[str, Peer] = {}
        for name in implementations:
            if results[name] and "unavailable" in results[name][0]:
                continue
            environment = environment_with_caches(scratch / name)
            peer = worker([name, case.name, str(model), "--turns"], environment, options.timeout)
            if found := peer.hear():  # a result, already
                results[name].append(found)
                peer.end()
            else:
                peers[name] = peer
        if case.traffic is not None:
            peers[COPY] = Peer([sys.executable, "-m", "benchmarks.machine", str(case.traffic)], os.environ,
                               options.timeout)
            peers[COPY].hear()
        take_turns(list(peers.values()))
        for name, peer in peers.items():
            results[name].append(peer.ask(END))
            peer.end()
    return {name: summarise(of_rounds, options.least) for name, of_rounds in results.items()}


def show(case: Case, row: dict[str, dict[str, Any]]) -> None:
    """Print one case as soon as it is done."""
    print(case.name, flush=True)
    for name, result in row.items():
        if "unavailable" in result:
            print(f"    {name:14} unavailable: {result['unavailable']}")
            continue
        seconds = result["seconds"]
        text = f"{seconds * 1e6:14,.2f} µs" if case.measure == "call" else f"{seconds:14.3f} s "
        cold, above = result.get("first_call_cold_seconds"), result.get("peak_above_import_mib")
        text += f"   first call {cold:.3f} s" if cold is not None else ""
        text += f"   peak +{above:,.0f} MiB" if above is not None else ""
        print(f"    {name:14}{text}")
    if (value := ratio(row)) is not None:
        print(f"    best peer / jtorch {value:.2f}×")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--cases", default="", metavar="REGEX", help="only the cases whose name matches")
    parser.add_argument("--peers", nargs="*", help="only these peers (none given: jtorch alone)")
    parser.add_argument("--no-jtorch", action="store_true", help="only the peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", action="store_true", help="the least of the rounds instead of their median")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one process")
    parser.add_argument("--out", type=Path, default=OUT, help="directory of results.json and results.md")
    options = parser.parse_args()

    peers = [name for name in IMPLEMENTATIONS if name not in OURS]
    if unknown := set(options.peers or ()) - set(peers):
        parser.error(f"unknown peers {', '.join(sorted(unknown))}; there are {', '.join(peers)}")
    implementations = [name for name in peers if options.peers is None or name in options.peers]
    implementations += [] if options.no_jtorch else OURS
    cases = {name: case for name, case in CASES.items() if re.search(options.cases, name)}

    machine, results, copies = describe(), {}, {}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as scratch:
            results[name] = measure_case(case, implementations, options, Path(scratch))
        if case.traffic is not None:
            copies[name] = results[name].pop(COPY)["seconds"]
        show(case, results[name])
        report = {"machine": machine, "rounds": options.rounds, "copy_seconds": copies, "results": results}
        (options.out / "results.json").write_text(json.dumps(report, indent=1))
        text = markdown(results, cases, copies, machine, implementations)
        (options.out / "results.md").write_text(text)
    print(f"\n{text if cases else 'no case matches'}\nwritten to {options.out}")


if __name__ == "__main__":
    main()
