"""Recall against throughput, a line a contender, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import FuncFormatter  # noqa: E402

if TYPE_CHECKING:
    from session import Result


def curves(path: Path, results: list[Result], threads: int, k: int, recall_at: int) -> None:
    """Solid and thick: ours. Solid: peers on the disk. Dashed: peers in memory."""
    figure, axes = pyplot.subplots(figsize=(9, 6))
    colours = pyplot.get_cmap("tab20")
    for number, result in enumerate(results):
        rows = sorted(result.curves.get((threads, k), []), key=lambda row: row["recall"][str(recall_at)])
        # Below, nobody would use it; at 1 the scale ends.
        points = [(row["recall"][str(recall_at)], row["qps"]) for row in rows]
        points = [(recall, qps) for recall, qps in points if 0.5 <= recall < 0.9999]
        if not points:
            continue
        memory = "memory" in result.contender.storage
        axes.plot(
            [1 - recall for recall, _ in points],
            [qps for _, qps in points],
            marker="o",
            markersize=3,
            linewidth=2.2 if result.ours else 1.1,
            linestyle="--" if memory else "-",
            color=colours(number % 20),
            label=f"{result.contender.name}{' (in memory)' if memory else ''}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.xaxis.set_major_formatter(FuncFormatter(lambda missing, _: f"{1 - missing:g}"))
    axes.set_xlabel(f"recall@{recall_at}")
    axes.set_ylabel(f"queries a second, {threads} thread{'s' if threads > 1 else ''}")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=7, loc="lower left")
    figure.tight_layout()
    # Without the date, so that the same figures give the same file.
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
