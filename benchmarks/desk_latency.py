"""How long a teacher waits: an answer stored and the next comparison on the page, with 1, 20 and 200 teachers.

A PostgreSQL of its own that keeps its writes, a Redis of its own, the production web server, and teachers who answer
again as soon as they are served. Times are the clients', on the machine that also runs the servers: they hold the wait
for a free thread. Then the same with a thousand times as many comparisons in the pool, and what a page weighs.

    python -m benchmarks.desk_latency [--quick]
"""

import argparse
import gzip
import http.client
import json
import os
import re
import time

from benchmarks.platform_load import THREADS, WORKERS, Load, _our_turn, drive, installed, serve_here

DEPTH = 40
"""Offers that each teacher starts with; more are queued between two measurements."""
WORDS = 120
RESPONSES = 46
"""Of each conversation of the filling: 1,035 comparisons."""
LINKED = re.compile(rb'(?:src|href)="(/static/[^"]+)"')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter, and a pool of 100,000 instead of 1,000,000")
    options = parser.parse_args()
    seconds, large = (3.0, 100_000) if options.quick else (12.0, 1_000_000)
    with installed(max_connections=100):
        from benchmarks.desk_people import Desks

        desks = Desks(words=WORDS)
        with serve_here() as port:
            measure(desks, port, teachers=8, seconds=2)  # both workers have imported and rendered once
            loads = {
                teachers: measure(desks, port, teachers=teachers, seconds=seconds if teachers > 1 else seconds / 2)
                for teachers in (1, 20, 200)
            }
            desks.queue(teachers=1, each=3)
            weights = weigh(port, desks.code, desks.sessions[0])
            desks.clear()
            few, small = desks.count_comparisons(), measure(desks, port, teachers=1, seconds=seconds / 2)
            start = time.perf_counter()
            desks.fill(large, responses=RESPONSES)
            many, took = desks.count_comparisons(), time.perf_counter() - start
            filled = measure(desks, port, teachers=1, seconds=seconds / 2)
    report(loads, weights, (small, filled), pools=(few, many), took=took)


def measure(desks: "Desks", port: int, *, teachers: int, seconds: float) -> Load:  # type: ignore[name-defined]  # noqa: F821
    """So many teachers for so long, each with more on the queue than they can answer."""
    expected = int(seconds * 300 / teachers) + DEPTH
    desks.queue(teachers=teachers, each=expected)
    turns = [_our_turn(port, desks.code, session) for session in desks.sessions[:teachers]]
    load = drive(turns, seconds=seconds)
    desks.clear()
    return load


def weigh(port: int, code: str, session: str) -> dict[str, int]:
    """Bytes of the desk's first load, compressed, and of an answer's fragment beside its texts, as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Cookie": f"sessionid={session}", "Accept-Encoding": "gzip"}

    def get(path: str, **more: str) -> bytes:
        connection.request("GET", path, headers={**headers, **more})
        response = connection.getresponse()
        body = response.read()
        return body if response.getheader("Content-Encoding") == "gzip" else gzip.compress(body)

    page = get(f"/desk/{code}/")
    static = {match.decode() for match in LINKED.findall(gzip.decompress(page))}
    fragment = gzip.decompress(get(f"/desk/{code}/", **{"HX-Request": "true"}))
    if b'data-state="offer"' not in fragment:
        raise RuntimeError("The desk shows no comparison to weigh.")
    texts = sum(len(text) for text in re.findall(rb'<div class="prose">(.*?)</div>', fragment, re.DOTALL))
    return {
        "desk": len(page) + sum(len(get(path)) for path in sorted(static)),
        "answer": len(fragment) - texts,
        "answer_compressed": len(gzip.compress(fragment)),
    }


def report(
    loads: dict[int, Load], weights: dict[str, int], alone: tuple[Load, Load], *, pools: tuple[int, int], took: float
) -> None:
    print(f"{WORKERS} workers of {THREADS} threads, {os.cpu_count()} cores, {WORDS} words a response")
    print(f"{'teachers':>10}{'turns/s':>10}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}{'refused':>10}")
    for teachers, load in loads.items():
        print(f"{teachers:>10}{load.throughput:>10.1f}{load.at(0.5):>10.1f}{load.at(0.95):>10.1f}"
              f"{load.at(0.99):>10.1f}{load.refused:>10}")  # fmt: skip
    print(f"One teacher, pool of {pools[0]:,}: {alone[0].at(0.5):.1f} ms; of {pools[1]:,}: {alone[1].at(0.5):.1f} ms "
          f"(median; filled in {took:.0f} s)")  # fmt: skip
    print(f"First load {weights['desk']:,} bytes compressed; an answer {weights['answer']:,} bytes beside its texts")
    print(json.dumps({
        "p50_ms": {str(teachers): round(load.at(0.5), 1) for teachers, load in loads.items()},
        "p95_ms": {str(teachers): round(load.at(0.95), 1) for teachers, load in loads.items()},
        "p99_ms": {str(teachers): round(load.at(0.99), 1) for teachers, load in loads.items()},
        "turns_per_second": {str(teachers): round(load.throughput, 1) for teachers, load in loads.items()},
        "bytes": weights,
        "pool_ratio": round(alone[1].at(0.5) / alone[0].at(0.5), 3),
        "pools": pools,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
