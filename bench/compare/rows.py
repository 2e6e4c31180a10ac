"""Finished measurements, kept in OUT/rows.jsonl: a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def key(**what: Any) -> str:
    """Names a measurement by all that it depends on."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:20]


class Rows:
    def __init__(self, path: Path):
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    # The line that was being written when the run was stopped.
                    continue
                self.rows[row["key"]] = row

    def get(self, name: str) -> dict[str, Any] | None:
        return self.rows.get(name)

    def add(self, name: str, row: dict[str, Any]) -> dict[str, Any]:
        row = dict(row, key=name)
        self.rows[name] = row
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return row
