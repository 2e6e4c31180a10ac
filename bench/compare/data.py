"""The files that all are given: base, queries, learn set, the long list of queries of batch jobs, the truth; and
recall, counted in the same way for all."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Learn vectors that routers may see; those of batch jobs come from the end of the learn file.
LEARN_FOR_TRAINING = 400_000
TRUTH_DEPTH = 10


def read_vectors(path: Path) -> np.memmap:
    count, dimension = np.fromfile(path, "<u4", 2)
    return np.memmap(path, np.uint8, "r", offset=8, shape=(int(count), int(dimension)))


def write_vectors(path: Path, rows: np.ndarray) -> None:
    part = path.with_suffix(path.suffix + ".part")
    with open(part, "wb") as file:
        np.array(rows.shape, "<u4").tofile(file)
        np.ascontiguousarray(rows).tofile(file)
    os.replace(part, path)


def read_neighbours(path: Path) -> tuple[np.ndarray, np.ndarray]:
    count, k = (int(x) for x in np.fromfile(path, "<u4", 2))
    ids = np.fromfile(path, "<u4", count * k, offset=8).reshape(count, k)
    distances = np.fromfile(path, "<f4", count * k, offset=8 + 4 * count * k).reshape(count, k)
    return ids, distances


@dataclass(frozen=True)
class Data:
    """What is measured on. `tag` names it: results on other data never mix with these."""

    tag: str
    base: Path
    queries: Path
    learn: Path
    truth: Path
    count: int
    dimension: int
    query_count: int
    # Queries of a long batch job: the queries, then learn vectors that no router was trained on.
    batch: Path
    batch_count: int

    def recall(self, answers: np.ndarray, k: int) -> float:
        """Share of the k nearest that are among the first k answers; one at exactly the distance of the k-th
        counts as right, one named twice counts once."""
        ids = np.sort(answers[:, :k].astype(np.int64), axis=1)
        ids[:, 1:][ids[:, 1:] == ids[:, :-1]] = -1
        # What fills a place where nothing was found is no id.
        valid = (ids >= 0) & (ids < self.count)
        queries = np.asarray(read_vectors(self.queries)[: len(ids)], np.int32)
        base = read_vectors(self.base)
        bound = read_neighbours(self.truth)[1][: len(ids), k - 1]
        right = 0
        for start in range(0, len(ids), 1000):
            part = slice(start, start + 1000)
            rows = np.asarray(base[np.where(valid[part], ids[part], 0)], np.int32)
            distances = ((rows - queries[part, None]) ** 2).sum(2)
            right += int((valid[part] & (distances <= bound[part, None])).sum())
        return right / (len(ids) * k)


def prepare(
    source: Path, out: Path, sonde: Path, base_count: int | None, query_count: int | None, batch_count: int
) -> Data:
    """The files under OUT/data, made where they are not there yet: links where nothing is cut off."""
    whole = {name: read_vectors(source / f"{name}.u8bin") for name in ("base", "query", "learn")}
    count = min(base_count or len(whole["base"]), len(whole["base"]))
    asked = min(query_count or len(whole["query"]), len(whole["query"]))
    tag = f"{source.name}-{count}-{asked}"
    here = out / "data" / tag
    here.mkdir(parents=True, exist_ok=True)
    trained = min(LEARN_FOR_TRAINING, len(whole["learn"]) // 2)
    wanted = {"base": count, "query": asked, "learn": trained}
    for name, rows in wanted.items():
        path = here / f"{name}.u8bin"
        if not path.exists():
            if rows == len(whole[name]):
                path.symlink_to((source / path.name).resolve())
            else:
                write_vectors(path, whole[name][:rows])
    extra = min(max(batch_count - asked, 0), len(whole["learn"]) - trained)
    batch = here / f"batch-{asked + extra}.u8bin"
    if not batch.exists():
        write_vectors(
            batch, np.concatenate([whole["query"][:asked], whole["learn"][len(whole["learn"]) - extra :]])
        )
    truth = here / "truth.bin"
    if not truth.exists():
        command = [
            sonde,
            "truth",
            "--base",
            here / "base.u8bin",
            "--queries",
            here / "query.u8bin",
            "-k",
            TRUTH_DEPTH,
            "--out",
            truth,
            "--quiet",
        ]
        subprocess.run([str(part) for part in command], check=True)
    return Data(
        tag,
        here / "base.u8bin",
        here / "query.u8bin",
        here / "learn.u8bin",
        truth,
        count,
        whole["base"].shape[1],
        asked,
        batch,
        asked + extra,
    )
