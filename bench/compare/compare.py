"""Compares sonde with its peers on one machine, in one run.

    bench/compare/run DATA OUT

DATA holds base.u8bin, query.u8bin and learn.u8bin (l2). OUT takes everything: virtual environments, indexes,
finished rows, and the results: compare.md and *.svg. What is finished is kept, so that a run that was stopped
goes on; ratios come from repeats in which all contenders are asked one after the other.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import contenders as table
import sonde
from asking import Asker
from builds import Builder
from data import prepare
from environments import Environments, Unavailable
from processes import Failed

HERE = Path(__file__).resolve().parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base-count", type=int, help="only the first N base vectors")
    parser.add_argument("--query-count", type=int, help="only the first N queries")
    parser.add_argument("--batch-count", type=int, default=100_000, help="queries of the long batch job")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="contenders whose name, or whose peer, contains this; may be given several times",
    )
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats behind each ratio")
    parser.add_argument("--threads", default="1,2", help="numbers of threads")
    parser.add_argument(
        "--sweep-all",
        action="store_true",
        help="sweep and draw with every number of threads, not the most only",
    )
    parser.add_argument("--diskann-degree", type=int, default=32, metavar="R")
    parser.add_argument("--diskann-complexity", type=int, default=50, metavar="L")
    parser.add_argument("--build-threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--skip-build-over", type=float, metavar="SECONDS", help="stop builds that take longer"
    )
    parser.add_argument("--build-only", action="store_true", help="install and build, measure nothing")
    parser.add_argument("--no-batch", action="store_true", help="leave out batch jobs")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    # Here, because its pictures need what only `run` installs: --help works without.
    from session import Session

    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    threads = sorted(int(count) for count in options.threads.split(","))
    binary = sonde.find(HERE.parent.parent, out)
    data = prepare(
        options.data.resolve(), out, binary.path, options.base_count, options.query_count, options.batch_count
    )
    environments = Environments(out)
    builder = Builder(out, data, binary.path, environments, options.build_threads, options.skip_build_over)
    degree, complexity = options.diskann_degree, options.diskann_complexity
    indexes = {index.name: index for index in table.indexes(degree, complexity)}

    session = Session(
        Asker(out, data, binary, environments),
        threads=threads,
        repeats=options.repeats,
        batch=not options.no_batch,
        sweep_all=options.sweep_all,
    )
    for contender in table.contenders(degree, complexity):
        index = indexes[contender.index]
        if options.only and not any(
            name.lower() in f"{contender.name} {index.peer}".lower() for name in options.only
        ):
            continue
        try:
            if index.peer != "sonde":
                environments.python(index.peer)
            session.add(contender, builder.build(index, indexes))
        except (Unavailable, Failed) as reason:
            session.leave_out(contender.name, str(reason))
    if options.build_only:
        return
    session.sweep()
    session.repeat()
    session.write(out)


if __name__ == "__main__":
    main()
