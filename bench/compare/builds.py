"""Builds indexes, each once: OUT/index/DATA/NAME with built.json beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
from contenders import Index
from data import Data
from environments import Environments
from processes import Failed

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Built:
    index: Index
    path: Path
    seconds: float
    peak_mb: float
    bytes: int


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


class Builder:
    def __init__(
        self,
        out: Path,
        data: Data,
        sonde: Path,
        environments: Environments,
        threads: int,
        limit: float | None,
    ):
        self.out, self.data, self.sonde, self.environments = out, data, sonde, environments
        self.threads, self.limit = threads, limit
        self.folder = out / "index" / data.tag
        self.logs = out / "log" / data.tag

    def build(self, index: Index, others: dict[str, Index]) -> Built:
        """Builds the index, and before it the one that it is made from, unless they are there.

        Raises Unavailable or Failed; the log of a failed build is OUT/log/DATA/build-NAME.txt.
        """
        # Other parameters are another index.
        digest = hashlib.sha256(json.dumps(index.parameters, sort_keys=True).encode()).hexdigest()[:8]
        path = self.folder / f"{index.name}-{digest}"
        note = path.parent / (path.name + ".json")
        if note.exists():
            return Built(index, path, **json.loads(note.read_text()))
        before = self.build(others[index.source], others) if index.source else None
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        print(f"building {index.name}", flush=True)
        figures = self.by_sonde(index, path, before) if index.peer == "sonde" else self.by_peer(index, path)
        figures["bytes"] = size(path)
        if before:
            # A router trained on an index that stands: both were needed.
            figures["seconds"] += before.seconds
        note.write_text(json.dumps(figures))
        return Built(index, path, **figures)

    def by_sonde(self, index: Index, path: Path, before: Built | None) -> dict[str, Any]:
        options = [part for name, value in index.parameters.items() for part in (f"--{name}", value)]
        if before:
            command = [self.sonde, "train", "--index", before.path, "--out", path, "--learn", self.data.learn]
        else:
            command = [self.sonde, "build", "--base", self.data.base, "--index", path]
        ended = processes.run(
            command + options + ["--threads", self.threads, "--quiet"],
            self.threads,
            self.logs / f"build-{index.name}.txt",
            limit=self.limit,
        )
        return {"seconds": ended.seconds, "peak_mb": ended.peak_mb}

    def by_peer(self, index: Index, path: Path) -> dict[str, Any]:
        python = self.environments.python(index.peer)
        path.mkdir()
        job = self.logs / f"build-{index.name}.json"
        result = self.logs / f"build-{index.name}-result.json"
        job.parent.mkdir(parents=True, exist_ok=True)
        job.write_text(
            json.dumps(
                {
                    "action": "build",
                    "peer": index.peer,
                    "parameters": dict(index.parameters, dimension=self.data.dimension),
                    "search": {},
                    "base": str(self.data.base),
                    "index": str(path),
                    "threads": self.threads,
                    "result": str(result),
                }
            )
        )
        try:
            processes.run(
                [python, HERE / "peers" / "worker.py", job],
                self.threads,
                self.logs / f"build-{index.name}.txt",
                self.environments.variables(index.peer),
                limit=self.limit,
            )
        except Failed:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return json.loads(result.read_text())
