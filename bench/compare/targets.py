"""Figures at a wanted recall: from the two settings around it."""

from __future__ import annotations

import math
from statistics import median
from typing import Any, Callable

# Interpolated in logarithms: they change by factors from one setting to the next.
FACTORS = ("qps", "mean_ms", "p50_ms", "p99_ms")
FIGURES = FACTORS + ("bytes", "reads", "peak_mb", "resident_mb")


def bracket(rows: list[dict[str, Any]], k: int, wanted: float) -> tuple[float, float] | None:
    """The settings below and above a recall (the same twice where the least setting is above it already); None
    where none reaches it."""
    ordered = sorted(rows, key=lambda row: row["setting_rank"])
    above = next((i for i, row in enumerate(ordered) if row["recall"][str(k)] >= wanted), None)
    if above is None:
        return None
    return ordered[max(above - 1, 0)]["setting"], ordered[above]["setting"]


def between(low: float, high: float) -> float | None:
    """A setting between two, or None where there is none worth asking."""
    middle = math.sqrt(low * high) if low > 0 and high > 0 else (low + high) / 2
    if float(low).is_integer() and float(high).is_integer() and max(low, high) >= 1:
        middle = float(round(middle))
    else:
        middle = float(f"{middle:.3g}")
    return None if middle in (low, high) else middle


def at(low: dict[str, Any], high: dict[str, Any], k: int, wanted: float) -> dict[str, Any]:
    """What the recall costs. `exact` is false where no setting lies below: then these are the least setting's
    figures, at more recall than was wanted."""
    below, above = low["recall"][str(k)], high["recall"][str(k)]
    exact = below <= wanted <= above
    share = (wanted - below) / (above - below) if exact and above > below else 1.0
    result: dict[str, Any] = {"exact": exact, "recall": wanted if exact else above}
    for name in FIGURES:
        a, b = low.get(name), high.get(name)
        if a is None or b is None:
            result[name] = None
        elif name in FACTORS and a > 0 and b > 0:
            result[name] = math.exp(math.log(a) + share * (math.log(b) - math.log(a)))
        else:
            result[name] = a + share * (b - a)
    return result


def middle(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure over repeats."""
    merged = dict(results[0])
    for name in FIGURES:
        values = [result[name] for result in results if result.get(name) is not None]
        merged[name] = median(values) if values else None
    return merged


def ratio(ours: list[dict], theirs: list[dict], figure: Callable[[dict], float | None]) -> float | None:
    """The median over repeats of ours / theirs, each taken in the same repeat."""
    pairs = [(figure(a), figure(b)) for a, b in zip(ours, theirs)]
    values = [a / b for a, b in pairs if a is not None and b]
    return median(values) if values else None
