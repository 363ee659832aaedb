"""A plan chosen again from its stored inputs."""

from dataclasses import dataclass

import structlog
from django.utils import timezone

from activelearning.arrays import (
    load_pool,
)
from activelearning.models import Estimate, Plan
from activelearning.planning import Inputs, choose
from activelearning.services import InputsNotKept
from activelearning.storage import read_arrays

log = structlog.get_logger()


@dataclass(frozen=True)
class Replay:
    """The same choice made again from the stored inputs, beside what was chosen then."""

    plan: Plan
    now: list[tuple[int, int, str, bool]]
    then: list[tuple[int, int, str, bool]]
    """(comparison, teacher, arm, b_first)"""

    @property
    def is_same(self) -> bool:
        return self.now == self.then


def replay(plan: Plan) -> Replay:
    """Choose again what a plan chose. The pool may have grown since: it is cut to what it was. Raises InputsNotKept."""
    if not plan.inputs:
        raise InputsNotKept
    stored = read_arrays(plan.inputs)
    inputs = Inputs.from_arrays(stored)
    estimate: Estimate | None = plan.estimate
    projection = estimate.projection if estimate is not None else None
    pool = load_pool(plan.campaign, projection)
    teachers = inputs.teacher.tolist()
    then = list(
        zip(
            stored["chosen_comparison"].tolist(),
            [teachers[place] for place in stored["chosen_teacher"].tolist()],
            stored["chosen_arm"].tolist(),
            [bool(value) for value in stored["chosen_b_first"].tolist()],
            strict=True,
        )
    )
    now = [
        (int(pool.ids[entry.row]), teachers[entry.teacher], entry.arm, entry.b_first) for entry in choose(inputs, pool)
    ]
    return Replay(plan, now, then)


def store_replay(plan_id: int) -> bool | None:
    """Replay a plan and keep the answer in its row, or the reason why there is none: None."""
    plan = Plan.objects.get(pk=plan_id)
    is_same, reason = None, ""
    try:
        is_same = replay(plan).is_same
    except InputsNotKept as refusal:
        reason = str(refusal)
    except Exception as error:
        log.exception("replay failed", plan=plan_id)
        reason = f"{type(error).__name__}: {error}"[:2000]
    Plan.objects.filter(pk=plan_id, replay_asked_at=plan.replay_asked_at).update(
        replayed_at=timezone.now(), replay_is_same=is_same, replay_reason=reason
    )
    return is_same
