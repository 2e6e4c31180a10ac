"""The tables of a comparison, as Markdown."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from contenders import TARGETS
from data import Data
from targets import middle, ratio

if TYPE_CHECKING:
    from session import Result

LATENCY = ("latency", 1)


def text(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return "-"
    if digits is not None:
        return f"{value:.{digits}f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(titles: list[str], rows: list[list[str]]) -> str:
    rule = "|" + "|".join(["---"] + ["--:"] * (len(titles) - 1)) + "|"
    return "\n".join(
        ["| " + " | ".join(titles) + " |", rule] + ["| " + " | ".join(row) + " |" for row in rows]
    )


def figures(result: Result, mode: str, threads: int, k: int) -> dict[str, Any]:
    found = result.at.get((mode, threads, k))
    return middle(found) if found else {}


def target_table(results: list[Result], threads: list[int], k: int) -> str:
    titles = [
        "contender",
        "vectors lie",
        *[f"QPS, {count} thr." for count in threads],
        "mean ms",
        "p99 ms",
        "KiB a query",
        "reads a query",
        "resident MB",
        "peak RSS MB",
        "index MB",
        "build s",
    ]
    rows = []
    for result in results:
        speed = [figures(result, "throughput", count, k) for count in threads]
        alone = figures(result, *LATENCY, k)
        cost = speed[-1]
        name = result.contender.name
        if not cost:
            rows.append([name, result.contender.storage] + ["not reached"] + ["-"] * (len(titles) - 3))
            continue
        if not cost["exact"]:
            name += f" (at {cost['recall']:.3f})"
        rows.append(
            [name, result.contender.storage]
            + [text(each.get("qps")) for each in speed]
            + [text(alone.get("mean_ms"), 3), text(alone.get("p99_ms"), 3)]
            + [text(cost["bytes"] / 1024 if cost["bytes"] is not None else None), text(cost["reads"])]
            + [
                text(cost["resident_mb"]),
                text(cost["peak_mb"]),
                text(result.built.bytes / 1e6),
                text(result.built.seconds),
            ]
        )
    return markdown(titles, rows)


def ratio_table(results: list[Result], mode: str, threads: int, k: int, name: str) -> str:
    """Ours over theirs: a row a peer, a column a configuration of ours."""
    ours = [result for result in results if result.ours and (mode, threads, k) in result.at]
    theirs = [result for result in results if not result.ours and (mode, threads, k) in result.at]
    if not ours or not theirs:
        return ""
    cell = lambda a, b: ratio(a.at[mode, threads, k], b.at[mode, threads, k], lambda each: each.get(name))
    rows = [[peer.contender.name] + [text(cell(mine, peer), 2) for mine in ours] for peer in theirs]
    return markdown(["ours / theirs"] + [mine.contender.name.removeprefix("sonde ") for mine in ours], rows)


def batch_table(results: list[Result], threads: int, k: int, data: Data) -> str:
    rows = []
    for result in results:
        short, long = (figures(result, mode, threads, k) for mode in ("short batch", "batch"))
        if not short and not long:
            continue
        cost = long or short
        kib = cost["bytes"] / 1024 if cost.get("bytes") is not None else None
        rows.append(
            [
                result.contender.name,
                result.contender.storage,
                text(short.get("qps")),
                text(long.get("qps")),
                text(kib),
                text(cost.get("peak_mb")),
                result.api.get("batch", "-"),
            ]
        )
    titles = [
        "contender",
        "vectors lie",
        f"QPS, {data.query_count:,}",
        f"QPS, {data.batch_count:,}",
        "KiB a query",
        "peak RSS MB",
        "asked by",
    ]
    return markdown(titles, rows)


def compose(
    results: list[Result],
    left_out: dict[str, str],
    data: Data,
    rows: list[dict[str, Any]],
    threads: list[int],
    repeats: int,
    batch: bool,
) -> str:
    repeated = [row for row in rows if row["repeat"]] or rows
    loads = [row["load"] for row in repeated] or [0.0]
    begun = [row["started"] for row in repeated] or [0.0]
    most = threads[-1]
    parts = [
        "# Against peers",
        f"{data.tag}: {data.count:,} x {data.dimension} u8, l2, {data.query_count:,} queries; {platform.machine()}, "
        f"Linux {platform.release()}; load average when repeats began {min(loads):.1f} to {max(loads):.1f}, over "
        f"{(max(begun) - min(begun)) / 60:.0f} minutes; medians of {repeats} interleaved "
        "repeats, interpolated between the two settings around each recall.",
        "Bytes a query: /proc/self/io (peers), reads submitted (sonde; the same number). Reads a query: "
        "/proc/diskstats, where the device read nothing for others meanwhile (peers), reads submitted (sonde). "
        "Latency: one query at a time, one thread. Resident: what the index and a search add to the process: over "
        "the process with its libraries and queries (peers), over a bare process, queries and answers included "
        "(sonde). Peak RSS: the whole searching process.",
        "Versions: " + ", ".join(sorted({f"{row['peer']} {row['version']}" for row in rows})) + ".",
    ]
    for k, recall_at, wanted in TARGETS:
        parts.append(f"## recall@{recall_at} = {wanted:.2f}")
        parts.append(target_table(results, threads, k))
        parts.append(
            f"QPS, {most} threads, ours over theirs:\n\n" + ratio_table(results, "throughput", most, k, "qps")
        )
        parts.append(
            "p99 latency, ours over theirs (less is better):\n\n"
            + ratio_table(results, *LATENCY, k, "p99_ms")
        )
        if batch:
            parts.append(f"Batch jobs, {most} threads:\n\n" + batch_table(results, most, k, data))
            for mode, count in (("short batch", data.query_count), ("batch", data.batch_count)):
                parts.append(
                    f"QPS of {count:,} queries, ours over theirs:\n\n"
                    + ratio_table(results, mode, most, k, "qps")
                )
    parts.append("## How each was asked")
    parts.append(
        "\n".join(f"- {result.contender.name}: {result.api.get('throughput', '-')}" for result in results)
    )
    if left_out:
        parts.append(
            "## Left out\n\n" + "\n".join(f"- {name}: {reason}" for name, reason in left_out.items())
        )
    return "\n\n".join(part for part in parts if part) + "\n"
