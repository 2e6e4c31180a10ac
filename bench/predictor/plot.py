"""Pictures of bench/predictor's rows: what a recall costs against the bytes that an open index holds.

    python3 bench/predictor/plot.py OUT        (needs matplotlib)

Writes OUT/frontier-DATA.svg for every data set: vectors, pages, reads and modelled device time at recall@1 0.90
against resident bytes, a point a method and number of partitions, k-means as the line to beat; and OUT/topk-DATA.svg
where there are rows of `--part topk`: recall@100 against vectors and partitions read.
"""
import collections, glob, json, os, statistics, sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

K, RECALL = "1", 0.90
PANELS = [("vectors", "vectors fetched"), ("pages", "pages"), ("reads", "reads"), ("microseconds", "modelled device us")]
FAMILIES = [  # name, colour, marker, which methods
    ("k-means, fixed nprobe", "#333333", "o", lambda m: m == "kmeans nprobe"),
    ("k-means, gain threshold", "#0072B2", "o", lambda m: m == "kmeans gain"),
    ("SPANN-style closure", "#CC79A7", "s", lambda m: m in ("closure eps2", "kmeans + closure")),
    ("sub-centroids", "#56B4E9", "^", lambda m: m.startswith("subcentroids") and "rounds" not in m),
    ("trained prototypes", "#E69F00", "v", lambda m: m.startswith("prototypes") and "+" not in m and "," not in m),
    ("networks", "#999999", "x", lambda m: m.startswith("network") and "," not in m and not m[-1].isdigit()),
    ("codes", "#009E73", "D", lambda m: m.startswith("codes") and m.endswith(" B")),
    ("codes, two rounds", "#D55E00", "D", lambda m: m.startswith("codes") and m.endswith(" B, 2 rounds")),
]


def cost(row, column):
    """Interpolated between the two points around the recall; None where it is not reached."""
    points = sorted((p["recall"][K], p[column]) for p in row["points"] if K in p["recall"])
    for (low, a), (high, b) in zip(points, points[1:]):
        if low <= RECALL <= high:
            return a + (b - a) * (RECALL - low) / max(high - low, 1e-12)
    return None


# Rows of --part topk that are drawn, with their colours.
TOPK = {
    "kmeans nprobe": "#333333",
    "topk distance": "#0072B2",
    "lira k 100": "#D55E00",
    "lira k 100, eta 0.1, retrained": "#E69F00",
    "lira k 100, eta auto, retrained": "#CC79A7",
    "topk codes 64, 16 B": "#56B4E9",
    "topk codes every vector, 16 B": "#009E73",
}


def topk(out, groups):
    """A row of panels a number of partitions: vectors, and partitions read, against recall@100."""
    for (data, queries), methods in groups.items():
        counts = sorted({partitions for partitions, method in methods if method.startswith("lira")})
        if not counts:
            continue
        figure, axes = plt.subplots(2, len(counts), figsize=(5 * len(counts), 8), squeeze=False)
        for place, partitions in enumerate(counts):
            for axis, (column, label) in zip(axes[:, place], [("vectors", "vectors fetched"), ("segments", "partitions read")]):
                for name, colour in TOPK.items():
                    for row in methods.get((partitions, name), [])[:1]:
                        points = sorted((p["recall"]["100"], p[column]) for p in row["points"] if "100" in p["recall"])
                        points = [point for point in points if 0.8 <= point[0] <= 0.995]
                        axis.plot(*zip(*points), color=colour, label=name) if points else None
                axis.set(yscale="log", xlabel="recall@100", ylabel=label, title=f"{partitions} partitions")
                axis.grid(True, which="both", alpha=0.25)
        axes[0][0].legend(fontsize=7)
        figure.suptitle(f"{data}, {queries}: the hundred nearest")
        figure.tight_layout()
        path = os.path.join(out, f"topk-{data}-{queries}.svg")
        figure.savefig(path, metadata={"Date": None})
        print(path)


def main(out):
    rows = [json.load(open(path)) for path in glob.glob(os.path.join(out, "rows", "*.json"))]
    groups = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in rows:
        if row["queries"] != "learn-held":
            groups[row["dataSet"], row["queries"]][row["partitions"], row["method"]].append(row)
    topk(out, groups)
    for (data, queries), methods in groups.items():
        figure, axes = plt.subplots(2, 2, figsize=(11, 8.5))
        for axis, (column, label) in zip(axes.flat, PANELS):
            for name, colour, marker, belongs in FAMILIES:
                points = []
                for (partitions, method), found in methods.items():
                    costs = [c for c in (cost(row, column) for row in found) if c is not None]
                    if belongs(method) and costs:
                        points.append((found[0]["residentByteCount"] / 1e6, statistics.median(costs), partitions))
                points.sort()
                line = "-" if name.startswith("k-means") else ""
                axis.plot([p[0] for p in points], [p[1] for p in points], line, marker=marker, color=colour, label=name)
                for megabytes, value, partitions in points:
                    axis.annotate(str(partitions), (megabytes, value), fontsize=6, xytext=(3, 3), textcoords="offset points")
            axis.set(xscale="log", yscale="log", xlabel="resident MB", ylabel=label)
            axis.grid(True, which="both", alpha=0.25)
        axes[0][0].legend(fontsize=7)
        figure.suptitle(f"{data}, {queries}: cost at recall@1 {RECALL:.2f} (small numbers: partitions)")
        figure.tight_layout()
        path = os.path.join(out, f"frontier-{data}-{queries}.svg")
        figure.savefig(path, metadata={"Date": None})
        print(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
