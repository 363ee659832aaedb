"""A child process of the embedded start: started, watched, started again, and never left behind."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
LOG_LIMIT = 10_000_000
SLOWEST_RETRY = 15.0


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies, however the parent died. Linux only; else nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class Process:
    """One program under supervision.

    `after` names the processes whose restart takes this one along: a worker whose broker died may hang for good, so it
    starts again with the broker.
    """

    name: str
    command: list[str]
    logs: Path
    environment: dict[str, str]
    after: tuple[str, ...] = ()
    stop_seconds: float = 10.0
    restarts: int = 0
    _child: subprocess.Popen[bytes] | None = None
    _started: float = 0.0
    _next_try: float = field(default=0.0)

    def start(self) -> None:
        self.keep_log_short()
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops the others in order
                preexec_fn=die_with_parent,
            )
        self._started = time.monotonic()

    @property
    def log(self) -> Path:
        return self.logs / f"{self.name}.log"

    def keep_log_short(self) -> None:
        """Put a log that has grown long aside, in place of the one before; the process appends to what is left."""
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(self.log, self.log.with_suffix(".old.log"))
            os.truncate(self.log, 0)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def restart_if_due(self) -> bool:
        """Start a dead process again, later each time that it dies young. True when it was started."""
        now = time.monotonic()
        if self._next_try == 0.0:
            lived = now - self._started
            self.restarts = 0 if lived > 60 else self.restarts + 1
            self._next_try = now + min(0.2 * 2**self.restarts, SLOWEST_RETRY)
        if now < self._next_try:
            return False
        self._next_try = 0.0
        self._kill_group()
        self.start()
        return True

    def ask_to_stop(self) -> None:
        if self.is_running and self._child is not None:
            self._child.terminate()

    def stop(self) -> None:
        """Wait for a process that was asked to stop, and end its whole group after `stop_seconds`."""
        if self._child is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=self.stop_seconds)
        self._kill_group()
        self._child.wait()

    def _kill_group(self) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
