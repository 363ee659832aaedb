"""kill -9 of anything, while teachers answer: no accepted label is lost, and the loop goes on by itself."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.embedded import ROOT, Platform, platform
from tests.flows.killing import FEATURES, LABELS, VICTIMS, kill
from tests.servers import PATIENCE, free_port

pytestmark = [pytest.mark.kill, pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("platform")]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("platform"), free_port()) as started:
        started.start()
        started.wait_until(lambda: started.count(FEATURES) > 0)
        yield started


@pytest.mark.parametrize("victim", VICTIMS)
def test_the_loop_goes_on_after_a_kill(running: Platform, victim: str) -> None:
    """How soon is a figure of `benchmarks.healing`: a busy machine tells little."""
    healed = kill(running, victim, labels=60)
    assert (healed.accepted, healed.lost, healed.doubled) == (60, 0, 0)


def test_ctrl_c_leaves_no_process_and_a_second_start_carries_on(running: Platform) -> None:
    labels = running.count(LABELS)
    assert running.interrupt() == 0
    assert running.pids() == []

    running.start()
    assert running.count(LABELS) == labels


def test_a_killed_supervisor_leaves_nothing_behind_and_the_next_start_repairs(running: Platform) -> None:
    assert running.process is not None
    running.process.kill()
    running.process.wait()
    deadline = time.monotonic() + PATIENCE
    while running.pids() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running.pids() == []

    running.start()
    assert running.answers()


def test_it_starts_under_another_name_and_behind_tls(tmp_path: Path) -> None:
    """Whoever waits for the site asks for its health, not for a page that only the site's own name shows."""
    with platform(tmp_path / "named", free_port()) as named:
        named.environment |= {"ALLOWED_HOSTS": "labels.example.org", "HTTPS": "1"}
        with (tmp_path / "supervisor.log").open("wb") as log:
            named.process = subprocess.Popen(_embedded(), cwd=ROOT, env=named.environment, stdout=log, stderr=log)
        named.wait_until(lambda: b"Tutelage runs at" in (tmp_path / "supervisor.log").read_bytes())
        assert oct((named.data / "tutelage.sqlite3").stat().st_mode & 0o077) == "0o0", "the database is its owner's"
        assert named.interrupt() == 0


def test_a_port_in_use_is_said_in_a_sentence(running: Platform, tmp_path: Path) -> None:
    with platform(tmp_path / "other", int(running.site.rsplit(":", 1)[1])) as other:
        other.environment["DATA_FOLDER"] = str(tmp_path / "other")
        done = subprocess.run(
            [*_embedded()], cwd=Path(__file__).parents[2], env=other.environment, capture_output=True, text=True
        )
    assert done.returncode == 1
    assert "is in use by another program. Choose another: PORT=" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_start_from_the_same_folder_is_refused(running: Platform) -> None:
    done = subprocess.run(
        _embedded(), cwd=Path(__file__).parents[2], env=running.environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "already runs from this folder" in done.stderr
    assert "Traceback" not in done.stderr


def _embedded() -> list[str]:
    import sys

    return [sys.executable, "-m", "config.embedded"]
