"""Child processes on chosen processors: one that builds or searches, alone, measured by the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Failed(Exception):
    """A child that ended badly, with the last of what it said."""


class TookTooLong(Exception):
    """A child that was stopped because it exceeded its time."""


@dataclass(frozen=True)
class Ended:
    output: str
    seconds: float
    peak_mb: float


def run(
    command: list, threads: int, log: Path, variables: dict[str, str] | None = None, folder: Path | None = None,
    limit: float | None = None,
) -> Ended:
    """Runs a command on the first `threads` processors and waits for it.

    Its output goes to `log` too. Its peak memory is what wait4 tells of this child alone.
    """
    environment = dict(os.environ, **(variables or {}), **{name: str(threads) for name in THREAD_VARIABLES})
    processors = set(sorted(os.sched_getaffinity(0))[:threads])
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with open(log, "wb") as output:
        child = subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder,
            start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, processors))
        expired = threading.Event()

        def stop() -> None:
            expired.set()
            os.killpg(child.pid, signal.SIGKILL)

        timer = threading.Timer(limit, stop) if limit else None
        if timer:
            timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise
        finally:
            if timer:
                timer.cancel()
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    if expired.is_set():
        raise TookTooLong(f"stopped after {limit:.0f} s")
    if child.returncode != 0:
        said = [line for line in text.strip().splitlines() if line.strip()]
        raise Failed(f"ended with {child.returncode}: {said[-1][:300] if said else 'no word'}")
    return Ended(text, seconds, usage.ru_maxrss / 1e3)
