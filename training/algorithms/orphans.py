"""A process that nobody waits for any more ends: a thread looks whether whoever started it still lives."""

import os
import signal
import threading
import time
from collections.abc import Callable

ORPHANED = 75
LOOK = 0.5  # seconds


def follow_parent(parent: int) -> None:
    """End this process when its parent is gone.

    parent  pid of the process that started this one, which may be gone already
    """
    _end_unless(lambda: os.getppid() == parent)


def follow_group(group: int) -> None:
    """End this process when its parent is no longer one of a group: the group has been killed.

    For processes that torch's launcher starts. It gives each a session of its own, which a signal to the group misses.
    """
    _end_unless(lambda: _is_in(group, os.getppid()))


def _is_in(group: int, process: int) -> bool:
    try:
        return os.getpgid(process) == group
    except ProcessLookupError:
        return False


def _end_unless(is_wanted: Callable[[], bool]) -> None:
    """With all that it started in its own group."""

    def watch() -> None:
        while is_wanted():
            time.sleep(LOOK)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(ORPHANED)

    threading.Thread(target=watch, daemon=True).start()
