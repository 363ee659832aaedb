"""The cast itself."""

import pytest
from django.db import IntegrityError, transaction

from annotation.models import Comparison, Label, Offer, Teacher
from annotation.models.offers import outcome_of


@pytest.mark.parametrize(
    ("choice", "b_first", "outcome"),
    [
        (Label.Choice.FIRST, False, 1.0),
        (Label.Choice.FIRST, True, 0.0),
        (Label.Choice.SECOND, False, 0.0),
        (Label.Choice.SECOND, True, 1.0),
        (Label.Choice.TIE, True, 0.5),
        (Label.Choice.BOTH_BAD, False, 0.5),
    ],
)
def test_one_function_maps_the_choice_as_shown_to_the_pair(choice: str, b_first: bool, outcome: float) -> None:
    assert outcome_of(choice, b_first=b_first) == outcome


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="no choice"):
        outcome_of("third", b_first=False)


def test_the_database_refuses_a_second_live_offer_of_a_slot(teacher: Teacher, comparisons: list[Comparison]) -> None:
    first = comparisons[0]
    other = Teacher.objects.create(pseudonym="teacher-other")
    Offer.objects.create(campaign=first.campaign, comparison=first, teacher=teacher, arm="designed", slot=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Offer.objects.create(campaign=first.campaign, comparison=first, teacher=other, arm="designed", slot=1)
