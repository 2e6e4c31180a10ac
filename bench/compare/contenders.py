"""Who is compared, how each is built, and which knob of each is turned. Everything that one may want to change
is in this file; peers/*.py say how a peer is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DISK = "disk, O_DIRECT"
MEMORY = "in memory"

# (k asked, k of recall@k, recall wanted): where contenders are compared.
TARGETS = [(10, 10, 0.95), (1, 1, 0.90)]

NPROBE = [2, 4, 8, 16, 32, 64]
EF = [10, 15, 20, 30, 40, 60, 80, 120, 200]


@dataclass(frozen=True)
class Index:
    """Something built once and used by one or more contenders."""

    name: str
    peer: str
    parameters: dict[str, Any] = field(default_factory=dict)
    # sonde train: made from this index instead of the base.
    source: str | None = None


@dataclass(frozen=True)
class Contender:
    name: str
    index: str
    storage: str
    # Values of the knob from low recall to high, for each k asked.
    ladder: Mapping[int, Sequence[float]]
    search: dict[str, Any] = field(default_factory=dict)
    # Is asked the long batch job; of other peers the rate of the short one is taken for it.
    batch: bool = False


def indexes(degree: int, complexity: int) -> list[Index]:
    """All indexes. `degree` and `complexity` are DiskANN's R and L."""
    trained = {"router": "subcentroids", "prototypes": 256, "prototype-codes": 16, "pairs": 400_000}
    return [
        Index("sonde-1000", "sonde", {"partitions": 1000}),
        Index("sonde-4000", "sonde", {"partitions": 4000}),
        Index("sonde-16000", "sonde", {"partitions": 16000}),
        Index("sonde-64000", "sonde", {"partitions": 64000}),
        Index("sonde-heads", "sonde", {"heads": 0.16, "duplicate": "closure", "replicas": 8, "eps1": 10}),
        Index("sonde-1000-codes", "sonde", trained, source="sonde-1000"),
        # As many prototypes as records: a code of every vector.
        Index("sonde-16000-codes", "sonde", trained | {"prototypes": 63, "candidates": 512}, source="sonde-16000"),
        Index("sonde-64000-codes", "sonde", trained | {"prototypes": 16, "candidates": 1024}, source="sonde-64000"),
        Index(
            f"diskann-{degree}-{complexity}",
            "diskannpy",
            {"degree": degree, "complexity": complexity, "code_bytes": 34},
        ),
        Index("spann-16", "sptag", {"heads": 0.16, "replicas": 8, "pages": 12, "candidates": 64}),
        Index("faiss-1000-flat", "faiss", {"lists": 1000, "codes": "flat"}),
        Index("faiss-4000-flat", "faiss", {"lists": 4000, "codes": "flat"}),
        Index("faiss-1000-sq8", "faiss", {"lists": 1000, "codes": "sq8"}),
        Index("faiss-4000-sq8", "faiss", {"lists": 4000, "codes": "sq8"}),
        Index("hnswlib-16", "hnswlib", {"links": 16, "complexity": 200}),
        Index("usearch-16", "usearch", {"links": 16, "complexity": 128, "dtype": "f16"}),
        Index("scann", "scann", {"leaves": 2000, "sample": 250_000}),
    ]


def contenders(degree: int, complexity: int) -> list[Contender]:
    """Ours, then those on the disk, then those in memory."""
    diskann = f"diskann-{degree}-{complexity}"
    complexities = {1: [1, 2, 4, 8, 20], 10: [10, 15, 25, 40, 80]}
    gains = {k: [1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6] for k in (1, 10)}
    coded = {1: [1e-2, 3e-3, 1e-3, 3e-4, 1e-4], 10: [2e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5]}
    every = lambda values: {1: values, 10: values}
    learned = {"knob": "gain", "cost": "vectors"}
    return [
        Contender("sonde k-means 1000", "sonde-1000", DISK, every(NPROBE), {"knob": "nprobe"}, batch=True),
        Contender(
            "sonde k-means 4000", "sonde-4000", DISK, every(NPROBE + [128]), {"knob": "nprobe"}, batch=True
        ),
        Contender(
            "sonde k-means 16000", "sonde-16000", DISK, every(NPROBE + [128]), {"knob": "nprobe"}, batch=True
        ),
        Contender(
            "sonde SPANN heads 16 %",
            "sonde-heads",
            DISK,
            every([4, 8, 12, 16, 24, 32, 48, 64]),
            {"knob": "nprobe"},
        ),
        Contender(
            "sonde learned, 1000 partitions", "sonde-1000-codes", DISK, gains, learned | {"rounds": 2}, batch=True
        ),
        Contender(
            "sonde codes, 16000 partitions", "sonde-16000-codes", DISK, coded, learned | {"rounds": 2}, batch=True
        ),
        Contender(
            "sonde codes, 64000 partitions", "sonde-64000-codes", DISK, coded, learned | {"rounds": 2}, batch=True
        ),
        Contender(f"DiskANN R {degree} L {complexity}, beam 4", diskann, DISK, complexities, {"beam": 4}),
        Contender(f"DiskANN R {degree} L {complexity}, beam 2", diskann, DISK, complexities, {"beam": 2}),
        Contender("SPANN (SPTAG) heads 16 %", "spann-16", DISK, every([4, 8, 12, 16, 24, 32, 48, 64])),
        Contender("faiss IVF1000 flat", "faiss-1000-flat", MEMORY, every(NPROBE), batch=True),
        Contender("faiss IVF4000 flat", "faiss-4000-flat", MEMORY, every(NPROBE + [128]), batch=True),
        Contender("faiss IVF1000 SQ8", "faiss-1000-sq8", MEMORY, every(NPROBE), batch=True),
        Contender("faiss IVF4000 SQ8", "faiss-4000-sq8", MEMORY, every(NPROBE + [128]), batch=True),
        Contender("hnswlib M 16", "hnswlib-16", MEMORY, {1: [1, 2, 4, 6] + EF, 10: EF}, batch=True),
        Contender("usearch M 16, f16", "usearch-16", MEMORY, {1: [1, 2, 4, 6] + EF, 10: EF}),
        Contender("ScaNN 2000 leaves", "scann", MEMORY, every(NPROBE + [128])),
    ]
