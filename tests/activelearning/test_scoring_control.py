"""Predict, then learn: no control label is scored by an estimate that has seen an answer to its offer."""

import pytest

from activelearning.models import ControlScore, Estimate, Projection
from activelearning.pipeline import embed, refit, replan
from annotation.models import Campaign, Label, Pool, Teacher
from annotation.services.labels import edit_label, undo_label
from tests.activelearning.conftest import answer, hire
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


@pytest.fixture
def control(campaign: Campaign, pool: Pool) -> Campaign:
    """Thirty comparisons without features, all offers of the control arm, one teacher at work."""
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=4, control_share=1.0)
    add_conversations(campaign, 30)
    hire(pool, 1)
    campaign.refresh_from_db()
    return campaign


def test_an_edit_of_what_was_learned_unscored_is_not_scored(control: Campaign) -> None:
    """The first answer came before there were features, so that no estimate could predict it."""
    replan(control.pk)
    offer = answer(control, Teacher.objects.get())
    assert offer is not None
    embed(control.pk)
    refit(control.pk)
    assert Estimate.objects.latest().label_count == 1
    edit_label(label=Label.objects.get(offer=offer), choice="second")
    refit(control.pk)
    assert Estimate.objects.count() == 2
    assert not ControlScore.objects.exists()
    edit_label(label=Label.objects.get(offer=offer, state="current"), choice="tie")
    refit(control.pk)
    assert not ControlScore.objects.exists()


def test_an_answer_after_an_undo_keeps_the_prediction_for_the_first(control: Campaign) -> None:
    embed(control.pk)
    replan(control.pk)
    answer(control, Teacher.objects.get())
    refit(control.pk)
    first = ControlScore.objects.get()
    undo_label(campaign=control, teacher=Teacher.objects.get())
    refit(control.pk)
    answer(control, Teacher.objects.get(), "second")
    refit(control.pk)
    second = ControlScore.objects.latest("id")
    assert second.label_id != first.label_id
    assert (second.probability, second.estimate_id) == (first.probability, first.estimate_id)


def test_what_was_answered_before_the_projection_changed_is_scored_by_the_estimate_of_the_old(
    control: Campaign,
) -> None:
    embed(control.pk)
    replan(control.pk)
    for _ in range(2):
        answer(control, Teacher.objects.get())
    replan(control.pk)
    before = Estimate.objects.latest()
    answered = answer(control, Teacher.objects.get())
    assert answered is not None
    Campaign.objects.filter(pk=control.pk).update(dimensions=3)
    embed(control.pk)
    refit(control.pk)
    assert Estimate.objects.latest().projection == Projection.objects.latest("id") != before.projection
    score = ControlScore.objects.get(label__offer=answered)
    assert (score.estimate, score.label_count) == (before, 2)
    assert score.probability != 0.5
