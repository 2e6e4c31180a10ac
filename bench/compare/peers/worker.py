"""Builds or searches with one peer, inside that peer's virtual environment, in a process of its own.

    python peers/worker.py JOB.json

The job names the peer, its parameters, files, threads, and runs; answers go to .npy files, figures to
job["result"]. Only the standard library, numpy and the peer are needed; Python 3.9 is enough. Each NAME_peer.py
beside this file holds a class Peer:

    api                                  how `search` asks: the peer's own batched call, and whose threads
    build(base, directory, threads)      base is a .u8bin file, directory exists
    open(directory, threads)
    search(queries, k, setting, threads) -> ids [n, k]
    search_one(query, k, setting)        -> ids [k]
"""

import importlib
import json
import sys
import time

import numpy as np


def memory():
    """Resident MB now and at most, from the kernel."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return {
        "now": int(fields["VmRSS"].split()[0]) * 1024 / 1e6,
        "peak": int(fields["VmHWM"].split()[0]) * 1024 / 1e6,
    }


def reset_peak():
    """Starts the peak anew, so that loading queries or libraries is not counted as searching."""
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")


def io(device):
    """Bytes that this process has read from devices, and reads and bytes of the whole device."""
    with open("/proc/self/io") as counts:
        own = {k: int(v) for k, v in (line.split(":") for line in counts)}
    reads, sectors = 0, 0
    with open("/proc/diskstats") as devices:
        for line in devices:
            fields = line.split()
            if fields[2] == device:
                # Completed and merged: both were asked for.
                reads, sectors = int(fields[3]) + int(fields[4]), int(fields[5])
    return {"own_bytes": own["read_bytes"], "reads": reads, "bytes": sectors * 512}


def read_vectors(path, first=None):
    count, dimension = (int(x) for x in np.fromfile(path, np.uint32, 2))
    count = count if first is None else min(count, first)
    return np.fromfile(path, np.uint8, count * dimension, offset=8).reshape(count, dimension)


def run_throughput(peer, queries, run, threads):
    start = time.perf_counter()
    ids = peer.search(queries, run["k"], run["setting"], threads)
    return ids, {"qps": len(queries) / (time.perf_counter() - start)}


def run_latency(peer, queries, run):
    ids = np.empty((len(queries), run["k"]), np.int64)
    times = np.empty(len(queries))
    for row, query in enumerate(queries):
        start = time.perf_counter()
        found = peer.search_one(query, run["k"], run["setting"])
        times[row] = time.perf_counter() - start
        ids[row] = found
    times *= 1e3
    return ids, {
        "mean_ms": float(times.mean()),
        "p50_ms": float(np.percentile(times, 50)),
        "p99_ms": float(np.percentile(times, 99)),
        "qps": float(1e3 / times.mean()),
    }


def search(peer, job):
    queries = {(run["queries"], run["first"]): None for run in job["runs"]}
    for path, first in queries:
        queries[path, first] = read_vectors(path, first)
    bare = memory()
    reset_peak()
    start = time.perf_counter()
    peer.open(job["index"], job["threads"])
    result = {
        "open_seconds": time.perf_counter() - start,
        "bare_mb": bare["now"],
        "open_mb": memory()["now"],
        "runs": [],
    }
    for run in job["runs"]:
        asked = queries[run["queries"], run["first"]]
        # Pools of threads, first touches: not what is measured.
        peer.search(asked[-200:], run["k"], run["setting"], job["threads"])
        before = io(job["device"])
        if run["mode"] == "latency":
            ids, figures = run_latency(peer, asked, run)
        else:
            ids, figures = run_throughput(peer, asked, run, job["threads"])
        after = io(job["device"])
        change = {name: after[name] - before[name] for name in after}
        figures["bytes"] = change["own_bytes"] / len(asked)
        # The device's own count holds only while nobody else reads from it.
        alone = abs(change["bytes"] - change["own_bytes"]) <= 0.03 * change["own_bytes"]
        own = change["reads"] / len(asked) if change["own_bytes"] else 0.0
        figures["reads"] = own if alone or not change["own_bytes"] else None
        np.save(run["answers"], np.asarray(ids).astype(np.int64))
        result["runs"].append(figures)
    after = memory()
    return dict(result, peak_mb=after["peak"], resident_mb=max(after["now"] - bare["now"], 0.0), api=peer.api)


def main():
    with open(sys.argv[1]) as file:
        job = json.load(file)
    peer = importlib.import_module(f"{job['peer']}_peer").Peer(job["parameters"], job["search"])
    if job["action"] == "build":
        start = time.perf_counter()
        peer.build(job["base"], job["index"], job["threads"])
        result = {"seconds": time.perf_counter() - start, "peak_mb": memory()["peak"]}
    else:
        result = search(peer, job)
    with open(job["result"], "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
