"""Who takes part in a rehearsal: simulated teachers with drawn rationalities, or the recorded judges of the data."""

import math
import secrets
from dataclasses import dataclass
from random import Random

from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.db.models import Count

from activelearning.rehearsal.truth import Truth, judged_by
from annotation.models import Campaign, Comparison, Membership, Pool, RecordedJudgement, Teacher, User
from annotation.services.judgements import shown_choice


@dataclass(frozen=True)
class Actor:
    """A teacher of the rehearsal: how to sign in, and what to say.

    rationality   by category, "" for all others
    judgements    for a recorded judge: comparison id -> outcome; else None
    """

    username: str
    password: str
    teacher: Teacher
    rationality: dict[str, float]
    judgements: dict[int, float] | None = None

    def choose(self, comparison: Comparison, *, b_first: bool, truth: Truth, rng: Random) -> str | None:
        """The choice as shown; None where a recorded judge never answered this comparison."""
        if self.judgements is not None:
            outcome = self.judgements.get(comparison.pk)
            return None if outcome is None else shown_choice(outcome, b_first=b_first)
        rho = self.rationality.get(comparison.category, self.rationality.get("", 1.0))
        return truth.answer(comparison.pk, rationality=rho, b_first=b_first, rng=rng)


def cast_simulated(campaign: Campaign, *, count: int, rationality: tuple[float, float], rng: Random) -> list[Actor]:
    """Teachers whose rationality in each category is drawn log-uniformly from an interval."""
    low, high = rationality
    categories = sorted(set(Comparison.objects.filter(campaign=campaign).values_list("category", flat=True)))
    drawn = [
        {name: math.exp(rng.uniform(math.log(low), math.log(high))) for name in categories} for _teacher in range(count)
    ]
    pool = _pool(campaign)
    return [
        _actor(campaign, pool, number, kind=Teacher.Kind.SIMULATED, rationality=each)
        for number, each in enumerate(drawn, start=1)
    ]


def cast_recorded(campaign: Campaign, *, count: int | None) -> list[Actor]:
    """The identified judges of the data, those with the most judgements first."""
    judges = (
        RecordedJudgement.objects.filter(comparison__campaign=campaign)
        .exclude(judge="")
        .values_list("judge")
        .annotate(judgements=Count("id"))
        .order_by("-judgements", "judge")
    )
    pool = _pool(campaign)
    return [
        _actor(campaign, pool, number, kind=Teacher.Kind.RECORDED, judge=judge)
        for number, (judge, _judgements) in enumerate(judges[:count], start=1)
    ]


def _pool(campaign: Campaign) -> Pool:
    pool = Pool.objects.create(name=f"{campaign.name} {campaign.code.hex[:8]}", currency=campaign.currency)
    campaign.pools.add(pool)
    return pool


@transaction.atomic
def _actor(
    campaign: Campaign,
    pool: Pool,
    number: int,
    *,
    kind: str,
    rationality: dict[str, float] | None = None,
    judge: str = "",
) -> Actor:
    """An account with a random password, made to sign in through the page like everybody."""
    username, password = f"{kind}-{campaign.code.hex[:8]}-{number:02}", secrets.token_urlsafe(16)
    user = User.objects.create(username=username, password=make_password(password))
    teacher = Teacher.objects.create(
        user=user, pseudonym=username, kind=kind, external={"judge": judge} if judge else {}
    )
    Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=pool.terms_version)
    judgements = judged_by(campaign, judge) if judge else None
    return Actor(username, password, teacher, rationality or {}, judgements)
