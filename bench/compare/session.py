"""The order of a comparison: a sweep of every contender finds the settings around each wanted recall; repeats
then ask all contenders in turn at those settings, and only they make ratios."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pictures
import report
from asking import Asker, Run
from builds import Built
from contenders import TARGETS, Contender
from processes import Failed
from targets import at, between, bracket

# Settings asked between the two around a wanted recall, to narrow them.
REFINEMENTS = 2


@dataclass
class Result:
    """All that is known of a contender."""

    contender: Contender
    built: Built
    # Of the sweep, by threads and k.
    curves: dict[tuple[int, int], list[dict[str, Any]]] = field(default_factory=dict)
    # By k: the settings around the recall wanted.
    brackets: dict[int, tuple[float, float] | None] = field(default_factory=dict)
    # By (mode, threads, k): a result at the wanted recall for each repeat.
    at: dict[tuple[str, int, int], list[dict[str, Any]]] = field(default_factory=dict)
    api: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        return self.built.index.peer == "sonde"


class Session:
    def __init__(self, asker: Asker, threads: list[int], repeats: int, batch: bool, sweep_all: bool):
        self.asker, self.threads, self.repeats, self.batch = asker, threads, repeats, batch
        self.sweep_threads = threads if sweep_all else threads[-1:]
        self.results: list[Result] = []
        self.left_out: dict[str, str] = {}

    def add(self, contender: Contender, built: Built) -> None:
        self.results.append(Result(contender, built))

    def leave_out(self, name: str, reason: str) -> None:
        print(f"{name}: left out: {reason}", flush=True)
        self.left_out[name] = reason

    def sweep(self) -> None:
        """Every setting of every ladder once, for pictures; then narrower around each wanted recall."""
        for result in list(self.results):
            print(f"sweep: {result.contender.name}", flush=True)
            try:
                self.sweep_one(result)
            except Failed as reason:
                self.drop(result, str(reason))

    def sweep_one(self, result: Result) -> None:
        ladders = result.contender.ladder
        for threads in self.sweep_threads:
            runs = [Run("throughput", threads, k, value) for k in ladders for value in ladders[k]]
            rows = self.ask(result, runs)
            for k in ladders:
                result.curves[threads, k] = [row for row in rows if row["k"] == k]
        most = self.threads[-1]
        for k, recall_at, wanted in TARGETS:
            known = result.curves[most, k]
            rising = ladders[k][0] <= ladders[k][-1]
            for step in range(REFINEMENTS + 1):
                for rank, row in enumerate(sorted(known, key=lambda row: row["setting"], reverse=not rising)):
                    row["setting_rank"] = rank
                around = result.brackets[k] = bracket(known, recall_at, wanted)
                middle = between(*around) if around and step < REFINEMENTS else None
                if middle is None:
                    break
                known = known + self.ask(result, [Run("throughput", most, k, middle)])

    def repeat(self) -> None:
        """Asks all contenders in turn, as often as wanted; every second time in the opposite order."""
        for repeat in range(1, self.repeats + 1):
            print(f"repeat {repeat} of {self.repeats}", flush=True)
            order = self.results if repeat % 2 else self.results[::-1]
            for mode, threads in self.modes():
                for result in order:
                    try:
                        self.repeat_one(result, mode, threads, repeat)
                    except Failed as reason:
                        # Other modes may work; half a repeat would make wrong medians.
                        for k, _, _ in TARGETS:
                            result.at.pop((mode, threads, k), None)
                        self.left_out[f"{result.contender.name}, {mode}"] = str(reason)
                        print(f"{result.contender.name}, {mode}: {reason}", flush=True)

    def modes(self) -> list[tuple[str, int]]:
        modes = [("latency", 1)] + [("throughput", threads) for threads in self.threads]
        if self.batch:
            modes += [("short batch", self.threads[-1]), ("batch", self.threads[-1])]
        return modes

    def repeat_one(self, result: Result, mode: str, threads: int, repeat: int) -> None:
        if f"{result.contender.name}, {mode}" in self.left_out:
            return
        batch = mode in ("short batch", "batch")
        if batch and result.ours and not result.contender.batch:
            return
        if batch and not result.ours and (mode == "short batch" or not result.contender.batch):
            # Peers answer the queries of a throughput run in one batched call: that is their short batch.
            for k, _, _ in TARGETS:
                if ("throughput", threads, k) in result.at:
                    result.at[mode, threads, k] = result.at["throughput", threads, k]
            result.api[mode] = result.api.get("throughput", "-") + (
                ", rate of the short job" if mode == "batch" else ""
            )
            return
        pairs = {k: pair for k, pair in result.brackets.items() if pair}
        wanted = [target for target in TARGETS if target[0] in pairs]
        runs = [Run(mode, threads, k, setting, repeat) for k, _, _ in wanted for setting in pairs[k]]
        rows = self.ask(result, runs)
        for number, (k, recall_at, recall) in enumerate(wanted):
            low, high = rows[2 * number], rows[2 * number + 1]
            result.at.setdefault((mode, threads, k), []).append(at(low, high, recall_at, recall))
            result.api[mode] = high["api"]

    def ask(self, result: Result, runs: list[Run]) -> list[dict[str, Any]]:
        # Copies: ranks are put into them.
        return [dict(row) for row in self.asker.ask(result.contender, result.built, runs)]

    def drop(self, result: Result, reason: str) -> None:
        self.results.remove(result)
        self.leave_out(result.contender.name, reason)

    def write(self, out: Path) -> None:
        data = self.asker.data
        for k, recall_at, _ in TARGETS:
            for threads in self.sweep_threads:
                pictures.curves(
                    out / f"recall{recall_at}-threads{threads}.svg", self.results, threads, k, recall_at
                )
        text = report.compose(
            self.results, self.left_out, data, self.asker.used, self.threads, self.repeats, self.batch
        )
        (out / "compare.md").write_text(text)
        print(text)
        print(f"written: {out / 'compare.md'} and pictures beside it")
