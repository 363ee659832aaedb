"""The child process of a run: `python -m training.child KIND CODE HOLDER PARENT`, started by pipeline/supervision.py.

SIGTERM asks it to stop at a saved checkpoint. If its parent dies it ends at once: the work's row is free again as soon
as the heartbeat is stale.
"""

import os
import signal
import sys
import uuid
from types import FrameType

import django

from training.algorithms.orphans import follow_parent


class Stop:
    """Whether somebody asked this process to stop."""

    def __init__(self) -> None:
        self._is_asked = False

    def __call__(self) -> bool:
        return self._is_asked

    def ask(self, number: int, frame: FrameType | None) -> None:
        self._is_asked = True


def main(kind: str, code: str, holder: str, parent: str) -> None:
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.ask)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_parent(int(parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from training.pipeline.work import perform  # after setup: it needs the models

    perform(kind, code=uuid.UUID(code), holder=uuid.UUID(holder), should_stop=stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
