"""PostgreSQL killed while a teacher answers, a planner killed in the middle, two planners at once: work goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.servers import PATIENCE, PostgresServer

pytestmark = [pytest.mark.kill, pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("platform")]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that keeps what it said it kept, also when killed, and holds a campaign."""
    folder = Path(tempfile.mkdtemp(prefix="tutelage-restarts-", dir="/tmp"))
    started = PostgresServer(folder, durable=True)
    try:
        started.create()
        started.start()
        assert child(started, "make").wait(timeout=PATIENCE) == 0
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)


def child(server: PostgresServer, verb: str) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    environment |= {"DATABASE_URL": server.url, "DATA_FOLDER": str(server.folder / "files"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.flows.labelling", verb],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def numbers(server: PostgresServer, query: str) -> list[int]:
    with psycopg.connect(server.url.replace("postgres://", "postgresql://")) as connection:
        return [int(row[0]) for row in connection.execute(query).fetchall()]


def test_a_planner_killed_in_the_middle_is_taken_over(server: PostgresServer) -> None:
    assert child(server, "die").wait(timeout=PATIENCE) == -signal.SIGKILL
    assert numbers(server, "SELECT count(*) FROM activelearning_planlease WHERE holder IS NOT NULL") == [1]
    assert numbers(server, "SELECT count(*) FROM annotation_offer") == [0]  # all or nothing

    assert child(server, "plan").wait(timeout=PATIENCE) == 0
    assert numbers(server, "SELECT count(*) FROM annotation_offer") == [20]
    assert numbers(server, "SELECT count(*) FROM activelearning_planlease WHERE holder IS NOT NULL") == [0]


def test_no_accepted_label_is_lost_when_the_database_is_killed(server: PostgresServer) -> None:
    teacher = child(server, "answer")
    assert teacher.stdout is not None
    try:
        accepted = [int(teacher.stdout.readline()) for _label in range(15)]
        server.kill()
        server.start()
        # A few of these may have been accepted before the kill, not forty: one takes a twentieth of a second at least.
        accepted += [int(teacher.stdout.readline()) for _label in range(40)]
    finally:
        teacher.kill()
        teacher.wait()
    current = numbers(server, "SELECT id FROM annotation_label WHERE state = 'current'")
    assert set(accepted) <= set(current)
    assert len(accepted) == len(set(accepted))
    doubled = "SELECT count(*) FROM (SELECT 1 FROM annotation_label GROUP BY offer_id HAVING count(*) > 1) AS twice"
    assert numbers(server, doubled) == [0]


def test_of_two_planners_one_plans_and_the_other_leaves_its_request_to_it(server: PostgresServer) -> None:
    planners = [child(server, "race") for _ in range(2)]
    try:
        assert [said(planner) for planner in planners] == ["ready"] * 2
        for delay in (0.0, 0.0, 0.7):  # the last comes in the middle of the other's round, and has it go once more
            with psycopg.connect(server.url.replace("postgres://", "postgresql://")) as connection:
                connection.execute("TRUNCATE annotation_offer CASCADE")
            for planner, late in zip(planners, (0.0, delay), strict=True):
                time.sleep(late)
                assert planner.stdin is not None
                planner.stdin.write("go\n")
                planner.stdin.flush()
            one, other = sorted((json.loads(said(planner)) for planner in planners), key=lambda found: found["offered"])
            assert (one["offered"], one["rounds"]) == (0, [])
            assert other["offered"] == 20
            assert len(other["rounds"]) in ((2,) if delay else (1, 2))
            assert numbers(server, "SELECT count(*) FROM annotation_offer") == [20]
            assert numbers(server, "SELECT count(*) FROM activelearning_planlease WHERE holder IS NOT NULL") == [0]
    finally:
        for planner in planners:
            planner.kill()
            planner.wait()


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
