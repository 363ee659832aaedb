"""The embedded platform for a test: started in a folder of its own, watched through its database, killed at will."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.servers import PATIENCE

ROOT = Path(__file__).resolve().parent.parent.parent


class Platform:
    """One `python -m config.embedded`, and the demo campaign that it makes on its first start."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.site = f"http://127.0.0.1:{port}"
        ours = {"DATABASE_URL", "REDIS_URL", "DATA_FOLDER", "SECRET_KEY"}
        self.environment = {name: value for name, value in os.environ.items() if name not in ours}
        self.environment |= {"DATA_FOLDER": str(data), "PORT": str(port), "OMP_NUM_THREADS": "1"}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and wait until the sign-in page answers; returns the seconds that took."""
        started = time.monotonic()
        with (self.data / "supervisor.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "config.embedded"], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )
        self.wait_until(self.answers)
        return time.monotonic() - started

    def answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.site}/account/login/", timeout=10):
            return True
        return False

    def interrupt(self) -> int:
        """As Ctrl-C does. Returns the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=PATIENCE)

    def manage(self, *arguments: str) -> "subprocess.Popen[str]":
        """A management command beside the running platform."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def pids(self, *words: str) -> list[int]:
        """Processes of this platform whose command line has all the words.

        They are told by their environment; the Redis server writes its title over that, and is told by its socket.
        """
        mark = f"DATA_FOLDER={self.data}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                is_ours = mark in (folder / "environ").read_bytes().split(b"\0") or f"{self.data}/" in command
                if is_ours and all(word in command for word in words):
                    found.append(int(folder.name))
        return sorted(found)

    def kill(self, *words: str) -> int:
        """kill -9 whatever matches, and say how many that were."""
        pids = self.pids(*words)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def count(self, query: str) -> int:
        """One number from the database, read beside the platform. 0 while there is no table yet."""
        with (
            contextlib.suppress(sqlite3.OperationalError),
            contextlib.closing(
                sqlite3.connect(f"file:{self.data / 'tutelage.sqlite3'}?mode=ro", uri=True, timeout=10)
            ) as database,
        ):
            return int(database.execute(query).fetchone()[0] or 0)
        return 0

    def wait_until(self, holds: Callable[[], bool]) -> float:
        """Seconds until it held; an AssertionError with the ends of the logs when patience ends."""
        started = time.monotonic()
        while time.monotonic() - started < PATIENCE:
            if holds():
                return time.monotonic() - started
            time.sleep(0.1)
        raise AssertionError(f"not within {PATIENCE:.0f} s:\n{self.logs()}")

    def logs(self) -> str:
        logs = [self.data / "supervisor.log", *sorted((self.data / "logs").glob("*.log"))]
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs if log.exists())

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.interrupt()
        self.kill()


@contextlib.contextmanager
def platform(data: Path, port: int) -> Iterator[Platform]:
    data.mkdir(parents=True, exist_ok=True)
    running = Platform(data, port)
    try:
        yield running
    finally:
        running.stop()
