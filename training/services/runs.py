"""Starting, cancelling and resuming training runs: the web's side. Nothing here needs a model."""

from dataclasses import replace
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from activelearning.models import Estimate
from annotation.models import Campaign, Label, User
from annotation.services.refusals import Refusal
from training.algorithms.config import TrainingConfig
from training.algorithms.sufficiency import LEAST, is_deficient
from training.models import LabelSet, Policy, Run
from training.services import work

BUNDLED = "minilm"


class NothingToLearn(Refusal):
    """There are no labels that a policy could be trained on."""

    @classmethod
    def sentence(cls) -> str:
        return _("There are no labels to learn from yet. Come back when the campaign has some.")


class DeficientDesign(Refusal):
    """Some directions of the reward are barely labelled."""


class InvalidSettings(Refusal):
    """The settings of the run do not go together."""


class NotResumable(Refusal):
    """The run is not one that stopped early."""

    @classmethod
    def sentence(cls) -> str:
        return _("Only a failed or cancelled run can be resumed.")


def start_run(
    *,
    campaign: Campaign,
    config: TrainingConfig,
    user: User | None = None,
    is_forced: bool = False,
    trigger: str = "by hand",
    label_set: LabelSet | None = None,
    parent: Policy | None = None,
) -> Run:
    """A waiting run. The caller enqueues it after the commit; the beat does if the message is lost.

    label_set  train on this one instead of freezing the labels of the moment when the run begins
    parent     start from this policy's weights
    raises     NothingToLearn, DeficientDesign (unless forced), InvalidSettings
    """
    if label_set is None and not Label.objects.filter(campaign=campaign, state=Label.State.CURRENT).exists():
        raise NothingToLearn
    if parent is not None and not parent.is_generative:
        raise InvalidSettings(_("That policy only chooses among given responses: there is no model to start from."))
    config = replace(config, encoder=encoder_named(campaign.encoder))
    estimate = Estimate.objects.filter(campaign=campaign).order_by("-id").first()
    if not is_forced and (reason := deficiency_of(estimate)):
        raise DeficientDesign(reason)
    return Run.objects.create(
        campaign=campaign,
        label_set=label_set,
        estimate=estimate,
        parent=parent,
        config=config.to_json(),
        method=config.method,
        is_forced=is_forced,
        trigger=trigger,
        started_by=user,
    )


def encoder_named(name: str) -> str:
    """The encoder of a campaign or a projection by the name that algorithms know."""
    return BUNDLED if name in ("", "default") else name


def deficiency_of(estimate: Estimate | None) -> str:
    """Why the newest estimate does not carry a policy yet, or "". Without an estimate the run itself will look."""
    return "" if estimate is None else deficiency(estimate.smallest_eigenvalue, ridge=estimate.ridge)


def deficiency(smallest_eigenvalue: float, *, ridge: float) -> str:
    """Why labels with this information are too few to train on, or ""."""
    if not is_deficient(smallest_eigenvalue, ridge=ridge):
        return ""
    return _(
        "Some directions of the reward are barely labelled: the smallest eigenvalue of the information is "
        "%(least).3g, the ridge alone gives %(ridge).3g, and at least %(asked).3g is asked. Collect more labels, lower "
        "the campaign's dimensions, or train anyway."
    ) % {
        "least": smallest_eigenvalue,
        "ridge": ridge,
        "asked": LEAST * ridge,
    }


def is_silent(campaign: Campaign, config: TrainingConfig) -> bool:
    """Whether pessimism says nothing here: the run measures from the responses given, and prompts have two of them.

    By the campaign's counters: as many comparisons as conversations are, as a rule, one for each.
    """
    return config.is_silent_on_pairs and campaign.comparison_count <= campaign.conversation_count


def cancel_run(*, run: Run) -> None:
    work.ask_to_cancel(run)


@transaction.atomic
def resume_run(*, run: Run, time_limit_seconds: float | None = None) -> None:
    """Let a failed or cancelled run go on from its last checkpoint, with another time limit if one is given.

    raises  NotResumable, InvalidSettings
    """
    if not work.ask_again(run):
        raise NotResumable
    if time_limit_seconds is not None:
        try:
            config = replace(TrainingConfig.from_json(run.config), time_limit_seconds=time_limit_seconds)
        except ValueError as error:
            raise InvalidSettings(str(error)) from error
        Run.objects.filter(pk=run.pk).update(config=config.to_json())


def read_config(values: dict[str, Any]) -> TrainingConfig:
    """raises InvalidSettings with every rule that is broken"""
    try:
        return TrainingConfig.from_json(values)
    except (TypeError, ValueError) as error:
        raise InvalidSettings(_("These settings do not go together: %(rules)s.") % {"rules": error}) from error
