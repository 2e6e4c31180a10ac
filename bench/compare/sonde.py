"""Our own command: how it is asked for throughput, for latency and for batches, and what it says."""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import processes
from data import read_neighbours

if TYPE_CHECKING:
    from asking import Run

# Queries that a thread keeps in flight in throughput runs.
IN_FLIGHT = 16


@dataclass(frozen=True)
class Binary:
    path: Path
    # Figures of another binary are not taken for this one's.
    digest: str
    has_batch: bool
    # Memory of a process that only says its version.
    bare_mb: float


def find(root: Path, out: Path) -> Binary:
    """The release build, made if it is not there."""
    path = root / ".build" / "release" / "sonde"
    if not path.exists():
        subprocess.run(["swift", "build", "-c", "release", "--product", "sonde"], cwd=root, check=True)
    bare = processes.run([path, "--version"], 1, out / "log" / "sonde-version.txt")
    # An unknown command with --help gets the general help, and 0.
    help_of_batch = subprocess.run([path, "batch", "--help"], capture_output=True, text=True).stdout
    has_batch = "sonde batch" in help_of_batch
    return Binary(path, hashlib.sha256(path.read_bytes()).hexdigest()[:16], has_batch, bare.peak_mb)


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if not found:
        raise processes.Failed(f"sonde said nothing like '{pattern}': {text.strip()[-300:]}")
    return float(found.group(1))


def search(
    binary: Binary,
    index: Path,
    queries: Path,
    first: int | None,
    run: Run,
    how: dict[str, Any],
    logs: Path,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Answers and figures of one run. Seconds are those of its search alone, without opening and writing."""
    out, counters = logs / "sonde-answers.bin", logs / "sonde-counters.csv"
    for path in (out, counters):
        path.unlink(missing_ok=True)
    batch = run.mode in ("short batch", "batch") and binary.has_batch
    in_flight = 1 if run.mode == "latency" else IN_FLIGHT
    command = [
        binary.path,
        "batch" if batch else "search",
        "--index",
        index,
        "--queries",
        queries,
        "-k",
        run.k,
        f"--{how['knob']}",
        f"{run.setting:g}",
        "--threads",
        run.threads,
        "--out",
        out,
        "--quiet",
    ]
    if first is not None:
        command += ["--first", first]
    if "cost" in how:
        command += ["--cost", how["cost"]]
    if "rounds" in how:
        command += ["--rounds", how["rounds"]]
    if batch:
        command += ["--restart"]
    else:
        command += ["--inflight", in_flight, "--counters", counters]
    ended = processes.run(command, run.threads, logs / "sonde-search.txt", limit=3600)
    count, seconds = number(r"(\d+) queries in", ended.output), number(r"queries in ([\d.]+) s", ended.output)
    figures: dict[str, Any] = {
        "qps": count / seconds,
        # Answers and queries lie in this memory too, as they do in every process.
        "peak_mb": ended.peak_mb,
        "resident_mb": max(ended.peak_mb - binary.bare_mb, 0.0),
        "index_resident_mb": number(r"resident (\d+) bytes", ended.output) / 1e6,
        "api": "sonde batch" if batch else f"sonde search, {in_flight} in flight a thread",
    }
    if batch:
        figures |= {
            "bytes": number(r"bytes (\d+)", ended.output) / count,
            "reads": number(r"reads (\d+)", ended.output) / count,
        }
    else:
        figures |= of_counters(counters, latency=run.mode == "latency")
    return read_neighbours(out)[0], figures


def of_counters(path: Path, latency: bool) -> dict[str, Any]:
    """Means of what each query cost; how long it took only where it was asked alone."""
    table = np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True))
    figures: dict[str, Any] = {
        name: float(table[name].mean()) for name in ("bytes", "reads", "pages", "vectors", "rounds")
    }
    figures |= {f"{part}_us": float(table[f"{part}_us"].mean()) for part in ("route", "wait", "scan")}
    if latency:
        times = table["latency_us"] / 1e3
        figures |= {
            "mean_ms": float(times.mean()),
            "p50_ms": float(np.percentile(times, 50)),
            "p99_ms": float(np.percentile(times, 99)),
        }
    return figures
