"""The compiled selection, made ready aside: half a minute in a fresh clone, seconds ever after.

Compiled code is kept on disk, so a child process can make it while the worker goes on planning with what needs none.
As a program, `python -m activelearning.compiling`, it is that child.
"""

import subprocess
import sys

import numpy as np

from activelearning.algorithms.selection import PLAIN, select
from activelearning.algorithms.types import Pool, Teachers

_child: subprocess.Popen[bytes] | None = None


def is_ready(pairs: int) -> bool:
    """Whether a selection among so many pairs can run without compiling first. The first question starts the child.

    A child that failed counts as ready: the worker then compiles for itself, and says in its log what is wrong.
    """
    global _child
    if pairs <= PLAIN:
        return True
    if _child is None:
        _child = subprocess.Popen([sys.executable, "-m", "activelearning.compiling"])
    return _child.poll() is not None


def compile_selection() -> None:
    """Run both forms of the exact selection, with one cost for all teachers and with several."""
    rng = np.random.default_rng(0)
    rows, teachers, width = PLAIN // 4 + 1, 4, 8
    pool = Pool(
        design=rng.standard_normal((rows, width)).astype(np.float32),
        category=np.zeros(rows, dtype=np.int64),
        room=np.full(rows, 3, dtype=np.int64),
    )
    for cost in (np.ones(teachers), np.linspace(1, 2, teachers)):
        people = Teachers(
            rationality=np.linspace(0.5, 2, teachers)[:, None],
            cost=cost,
            capacity=np.full(teachers, 8, dtype=np.int64),
            may_judge=np.ones((teachers, 1), dtype=bool),
        )
        select(pool, people, theta=rng.standard_normal(width), information=np.eye(width), size=32, rng=rng)


if __name__ == "__main__":
    compile_selection()
