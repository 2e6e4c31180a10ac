"""Asks a contender: a group of runs in one process for a peer, a process a run for sonde. Rows come back with
recall, speed, cost and memory; those that are known already are not measured again."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import processes
import rows as kept
import sonde
from builds import Built
from contenders import Contender
from data import Data
from environments import Environments

HERE = Path(__file__).parent
# A group of searches that takes longer hangs: a peer did.
SEARCH_SECONDS = 3600
# Asked one at a time, so many of the queries are enough for a 99th percentile.
LATENCY_QUERIES = 2000


@dataclass(frozen=True)
class Run:
    """One measurement: `mode` is throughput, latency (one query at a time, one thread), short batch (the queries
    as one job) or batch (the long file of queries)."""

    mode: str
    threads: int
    k: int
    setting: float
    # 0: the sweep; from 1 on: the repeats that ratios are computed from.
    repeat: int = 0


def device_of(path: Path) -> str:
    """The block device that holds a path, as /proc/diskstats names it."""
    number = os.stat(path).st_dev
    wanted = (os.major(number), os.minor(number))
    with open("/proc/diskstats") as devices:
        for line in devices:
            major, minor, name, *_ = line.split()
            if (int(major), int(minor)) == wanted:
                return name
    return ""


class Asker:
    def __init__(self, out: Path, data: Data, binary: sonde.Binary, environments: Environments):
        self.out, self.data, self.binary, self.environments = out, data, binary, environments
        self.rows = kept.Rows(out / "rows.jsonl")
        # All that this run has asked for, measured now or before.
        self.used: list[dict[str, Any]] = []
        self.logs = out / "log" / data.tag
        self.logs.mkdir(parents=True, exist_ok=True)
        self.device = device_of(out)

    def ask(self, contender: Contender, built: Built, runs: list[Run]) -> list[dict[str, Any]]:
        """A row for each run, in order. All runs of a call have one number of threads."""
        # Our own figures hold for one build of the binary.
        version = (
            self.binary.digest if built.index.peer == "sonde" else self.environments.version(built.index.peer)
        )
        # Ratios are of one run: with another binary of ours, the repeats of all are measured anew.
        names = [
            kept.key(
                data=self.data.tag,
                batch=self.data.batch_count,
                contender=contender.name,
                search=contender.search,
                index=asdict(built.index),
                version=version,
                run=asdict(run),
                beside=self.binary.digest if run.repeat else None,
            )
            for run in runs
        ]
        missing = [(name, run) for name, run in zip(names, runs) if not self.rows.get(name)]
        if missing:
            load = os.getloadavg()[0]
            started = time.time()
            ask = self.ask_sonde if built.index.peer == "sonde" else self.ask_peer
            figures = ask(contender, built, [run for _, run in missing])
            for (name, run), row in zip(missing, figures):
                self.rows.add(
                    name,
                    dict(
                        asdict(run),
                        **row,
                        contender=contender.name,
                        storage=contender.storage,
                        peer=built.index.peer,
                        version=version,
                        data=self.data.tag,
                        load=load,
                        started=started,
                    ),
                )
        self.used += [self.rows.rows[name] for name in names]
        return [self.rows.rows[name] for name in names]

    def queries_of(self, run: Run) -> Path:
        return self.data.batch if run.mode == "batch" else self.data.queries

    def first_of(self, run: Run) -> int | None:
        return min(LATENCY_QUERIES, self.data.query_count) if run.mode == "latency" else None

    def recalls(self, answers: np.ndarray, run: Run) -> dict[str, float]:
        # Of a long batch only the queries have a truth: they come first.
        answers = answers[: self.data.query_count]
        return {str(k): self.data.recall(answers, k) for k in (1, 10) if k <= run.k}

    def ask_peer(self, contender: Contender, built: Built, runs: list[Run]) -> list[dict[str, Any]]:
        python = self.environments.python(built.index.peer)
        stem = self.logs / f"search-{contender.name.replace(' ', '_').replace('/', '-')}"
        answers = [stem.with_name(f"{stem.name}-{number}.npy") for number in range(len(runs))]
        job, result = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + "-result.json")
        job.write_text(
            json.dumps(
                {
                    "action": "search",
                    "peer": built.index.peer,
                    "search": contender.search,
                    "index": str(built.path),
                    "parameters": dict(built.index.parameters, dimension=self.data.dimension),
                    "device": self.device,
                    "threads": runs[0].threads,
                    "result": str(result),
                    "runs": [
                        {
                            "mode": run.mode,
                            "k": run.k,
                            "setting": run.setting,
                            "queries": str(self.queries_of(run)),
                            "first": self.first_of(run),
                            "answers": str(path),
                        }
                        for run, path in zip(runs, answers)
                    ],
                }
            )
        )
        ended = processes.run(
            [python, HERE / "peers" / "worker.py", job],
            runs[0].threads,
            stem.with_name(stem.name + ".txt"),
            self.environments.variables(built.index.peer),
            limit=SEARCH_SECONDS,
        )
        found = json.loads(result.read_text())
        rows = []
        for run, path, figures in zip(runs, answers, found["runs"]):
            rows.append(
                dict(
                    figures,
                    recall=self.recalls(np.load(path), run),
                    resident_mb=found["resident_mb"],
                    peak_mb=ended.peak_mb,
                    api="one query a call" if run.mode == "latency" else found["api"],
                )
            )
            path.unlink()
        return rows

    def ask_sonde(self, contender: Contender, built: Built, runs: list[Run]) -> list[dict[str, Any]]:
        rows = []
        for run in runs:
            answers, figures = sonde.search(
                self.binary, built.path, self.queries_of(run), self.first_of(run), run, contender.search, self.logs
            )
            rows.append(dict(figures, recall=self.recalls(answers, run)))
        return rows
