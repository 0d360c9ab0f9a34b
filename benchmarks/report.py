"""Medians, ratios and the tables that show them."""

import math
import statistics
from typing import Any

from .case import Case

OURS = ("jtorch", "jtorch.trace")
Rounds = list[dict[str, Any]]
"""The results of one implementation on one case, one per round; the first ran with empty disk caches."""


def summarise(rounds: Rounds, least: bool) -> dict[str, Any]:
    """One implementation on one case: medians over the rounds (of the times the least, if asked for).

    First calls with empty and with warm disk caches are kept apart.
    """
    good = [result for result in rounds if "unavailable" not in result]
    if not good:
        return {"unavailable": rounds[0]["unavailable"] if rounds else "not run"}
    summary: dict[str, Any] = {
        key: _median([result.get(key) for result in good])
        for key in ("seconds", "import_seconds", "peak_mib", "peak_above_import_mib")
    }
    if least:
        summary["seconds"] = min(result["seconds"] for result in good)
    summary["rounds"] = [result["seconds"] for result in good]
    summary["first_call_cold_seconds"] = rounds[0].get("first_call_seconds")
    summary["first_call_warm_seconds"] = _median([result.get("first_call_seconds") for result in rounds[1:]])
    if len(rounds) > 1:
        summary["cold_seconds"] = rounds[0].get("seconds")
        summary["warm_seconds"] = _median([result.get("seconds") for result in rounds[1:]])
    return summary


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def best(row: dict[str, dict[str, Any]], names: list[str]) -> float | None:
    """The least time of a row among these implementations."""
    return min((row[name]["seconds"] for name in names if row.get(name, {}).get("seconds")), default=None)


def ratio(row: dict[str, dict[str, Any]]) -> float | None:
    """Best peer over best of jtorch: above 1, jtorch is faster."""
    ours, theirs = best(row, list(OURS)), best(row, [name for name in row if name not in OURS])
    return theirs / ours if ours and theirs else None


def geometric_mean(ratios: list[float]) -> float | None:
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None


def markdown(
    results: dict[str, dict[str, dict[str, Any]]],
    cases: dict[str, Case],
    copies: dict[str, float],
    machine: dict[str, Any],
    implementations: list[str],
) -> str:
    """The whole report."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        f"{machine['processor']}, {machine['threads']} threads. Python {machine['python']}, {versions}.",
        "## Time of a call, µs",
        table(
            ["case", *implementations, "best peer / jtorch", "of copy bandwidth"],
            [
                [
                    name,
                    *(_microseconds(row.get(i, {})) for i in implementations),
                    _times(ratio(row)),
                    _copy_fractions(row, copies.get(name)),
                ]
                for name, row in results.items()
                if cases[name].measure == "call"
            ],
        ),
    ]
    ratios = [r for name, row in results.items() if cases[name].measure == "call" and (r := ratio(row))]
    if ratios:
        parts.append(f"Geometric mean of best peer / jtorch over {len(ratios)} cases: {geometric_mean(ratios):.2f}×")
    other = [(name, row) for name, row in results.items() if cases[name].measure != "call"]
    if other:
        parts.append("## Imports and whole first calls, s: empty disk caches / warm ones")
        rows = [[name, *(_cold_warm(row.get(i, {}), "") for i in implementations)] for name, row in other]
        parts.append(table(["case", *implementations], rows))
    calls = [(name, row) for name, row in results.items() if cases[name].measure == "call"]
    parts.append("## First call, s: empty disk caches / warm ones")
    rows = [[name, *(_cold_warm(row.get(i, {}), "first_call_") for i in implementations)] for name, row in calls]
    parts.append(table(["case", *implementations], rows))
    parts.append("## Peak memory, MiB: above the imported library / in total")
    rows = [[name, *(_memory(row.get(i, {})) for i in implementations)] for name, row in calls]
    parts.append(table(["case", *implementations], rows))
    reasons = sorted(
        {
            (f"{i}: {row[i]['unavailable']}", name)
            for name, row in results.items()
            for i in implementations
            if "unavailable" in row.get(i, {})
        }
    )
    if reasons:
        grouped: dict[str, list[str]] = {}
        for reason, name in reasons:
            grouped.setdefault(reason, []).append(name)
        parts.append("## Unavailable")
        parts.append("\n".join(f"- {reason} ({'; '.join(names)})" for reason, names in grouped.items()))
    return "\n\n".join(parts) + "\n"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _microseconds(result: dict[str, Any]) -> str:
    seconds = result.get("seconds")
    return "" if seconds is None else f"{seconds * 1e6:,.{2 if seconds < 1e-5 else 1 if seconds < 1e-4 else 0}f}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}×"


def _copy_fractions(row: dict[str, dict[str, Any]], copy: float | None) -> str:
    if copy is None:
        return ""
    peers, ours = best(row, [name for name in row if name not in OURS]), best(row, list(OURS))
    shown = [f"{who} {copy / time:.0%}" for who, time in (("jtorch", ours), ("best peer", peers)) if time]
    return ", ".join(shown)


def _cold_warm(result: dict[str, Any], prefix: str) -> str:
    cold, warm = result.get(f"{prefix}cold_seconds"), result.get(f"{prefix}warm_seconds")
    shown = [f"{value:.3g}" for value in (cold, warm) if value is not None]
    return " / ".join(shown)


def _memory(result: dict[str, Any]) -> str:
    above, total = result.get("peak_above_import_mib"), result.get("peak_mib")
    return "" if above is None or total is None else f"{above:,.0f} / {total:,.0f}"
