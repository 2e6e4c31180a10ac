"""Child processes on chosen processors: one that builds or searches, alone, measured by the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
LAUNCH = Path(__file__).with_name("launch.py")


class Failed(Exception):
    """A child that ended badly, with the last of what it said."""


class TookTooLong(Failed):
    """A child that was stopped because it exceeded its time."""


@dataclass(frozen=True)
class Ended:
    output: str
    seconds: float
    peak_mb: float


def run(
    command: list,
    threads: int,
    log: Path,
    variables: dict[str, str] | None = None,
    limit: float | None = None,
) -> Ended:
    """Runs a command on the first `threads` processors and waits for it, `limit` seconds at most.

    Its output goes to `log` too. Its peak memory is what wait4 tells of it alone.
    """
    environment = dict(os.environ, **(variables or {}), **{name: str(threads) for name in THREAD_VARIABLES})
    log.parent.mkdir(parents=True, exist_ok=True)
    peak = log.with_suffix(".peak")
    launch = [sys.executable, "-I", "-S", LAUNCH, threads, peak, *command]
    start = time.perf_counter()
    with open(log, "wb") as output:
        child = subprocess.Popen(
            [str(part) for part in launch],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            status = child.wait(limit)
        except BaseException as stopped:
            # The launcher, what it runs, and what that has started.
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if isinstance(stopped, subprocess.TimeoutExpired):
                raise TookTooLong(f"stopped after {limit:.0f} s") from None
            raise
    seconds = time.perf_counter() - start
    text = log.read_text(errors="replace")
    if status != 0:
        said = [line for line in text.strip().splitlines() if line.strip()]
        raise Failed(f"ended with {status}: {said[-1][:300] if said else 'no word'}")
    return Ended(text, seconds, int(peak.read_text()) * 1024 / 1e6)
