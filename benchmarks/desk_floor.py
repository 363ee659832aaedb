"""How far is the desk from the least that it could be? The same teachers, in turn, at the desk and at one that is bare.

Both are served by the production web server against a PostgreSQL that keeps its writes. No desk on this machine, in
Django, with this many teachers who never pause, can be faster than the bare one (`bare_desk`).

    python -m benchmarks.desk_floor [--teachers 20] [--seconds 10]
"""

import argparse
import json
import os

from benchmarks.desk_latency import WORDS, measure
from benchmarks.platform_load import Load, _our_turn, drive, installed, serve_here

FASTEST = 1000
"""Turns a second that neither reaches: so many offers lie ready for each second."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with installed(max_connections=100):
        from benchmarks.bare_desk import make_tables
        from benchmarks.desk_people import Desks

        desks = Desks(words=WORDS)
        make_tables(each=int((options.seconds + 3) * FASTEST / options.teachers))
        with serve_here() as port:
            measure(desks, port, teachers=8, seconds=2)  # both workers have imported and rendered once
            ours = measure(desks, port, teachers=options.teachers, seconds=options.seconds)
        with serve_here("benchmarks.bare_desk:application") as port:
            turns = [_our_turn(port, desks.code, session) for session in desks.sessions[: options.teachers]]
            drive(turns, seconds=2)
            bare = drive(turns, seconds=options.seconds)
    report(ours, bare, teachers=options.teachers)


def report(ours: Load, bare: Load, *, teachers: int) -> None:
    print(f"{teachers} teachers who never pause, {os.cpu_count()} cores")
    print(f"{'':>10}{'turns/s':>10}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}")
    for name, load in (("desk", ours), ("bare", bare)):
        print(f"{name:>10}{load.throughput:>10.1f}{load.at(0.5):>10.1f}{load.at(0.95):>10.1f}{load.at(0.99):>10.1f}")
    print(json.dumps({
        "teachers": teachers,
        "p95_ms": {"desk": round(ours.at(0.95), 1), "bare": round(bare.at(0.95), 1)},
        "turns_per_second": {"desk": round(ours.throughput, 1), "bare": round(bare.throughput, 1)},
        "ratio": round(bare.throughput / ours.throughput, 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
