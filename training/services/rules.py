"""Start rules: a run begins by itself when there are enough labels, or they say enough."""

from collections.abc import Iterator

from django.db import transaction
from django.utils.translation import gettext as _

from activelearning.curves import last_known, read_curve
from activelearning.models import Estimate
from annotation.models import Campaign
from annotation.services.refusals import Refusal
from training.algorithms.config import TrainingConfig
from training.models import Run, StartRule, Work
from training.services.runs import InvalidSettings, read_config, start_run


def add_rule(*, campaign: Campaign, kind: str, threshold: float, config: TrainingConfig) -> StartRule:
    """raises InvalidSettings for a threshold that could never, or would always, be met"""
    if threshold <= 0:
        raise InvalidSettings(_("A threshold lies above 0."))
    if kind == StartRule.Kind.EVERY and threshold < 1:
        raise InvalidSettings(_("A run every so many labels needs at least one label between two runs."))
    return StartRule.objects.create(
        campaign=campaign,
        kind=kind,
        threshold=threshold,
        config=config.to_json(),
        last_label_count=campaign.label_count if kind == StartRule.Kind.EVERY else 0,
    )


def switch_rule(*, rule: StartRule, is_active: bool) -> None:
    StartRule.objects.filter(pk=rule.pk).update(is_active=is_active, refusal="")


def start_due_runs() -> list[Run]:
    """Start what the rules ask for, once each: whoever moved the rule's row forward by conditional UPDATE starts it.

    A rule that is refused (a deficient design) keeps the reason, and its count: it is due until its run can start.
    """
    return [run for rule in due_rules() if (run := _start_by(rule)) is not None]


def _start_by(rule: StartRule) -> Run | None:
    try:
        return _move_and_start(rule)
    except Refusal as refusal:
        StartRule.objects.filter(pk=rule.pk, is_active=True).exclude(refusal=str(refusal)).update(refusal=str(refusal))
        return None


@transaction.atomic
def _move_and_start(rule: StartRule) -> Run | None:
    """The rule moved and its run in one transaction: what breaks in between leaves the rule as it was, still due.

    raises  Refusal
    """
    is_taken = StartRule.objects.filter(pk=rule.pk, is_active=True, last_label_count=rule.last_label_count).update(
        last_label_count=rule.campaign.label_count, is_active=rule.kind == StartRule.Kind.EVERY, refusal=""
    )
    if not is_taken:
        return None
    trigger = f"rule: {rule.get_kind_display()}"
    return start_run(campaign=rule.campaign, config=read_config(rule.config), trigger=trigger)


def due_rules() -> Iterator[StartRule]:
    """Active rules whose threshold is met, in campaigns where no run of a rule is under way.

    Where labels were taken back since a rule moved on, those that come are counted from the ones that are left.
    """
    rules = StartRule.objects.filter(is_active=True).exclude(campaign__state=Campaign.State.ARCHIVED)
    for rule in rules.select_related("campaign").order_by("id"):
        if rule.campaign.label_count < rule.last_label_count:
            _count_from_what_is_left(rule)
        is_new = rule.campaign.label_count > rule.last_label_count
        busy = Run.objects.filter(campaign=rule.campaign, state__in=(Work.State.WAITING, Work.State.RUNNING))
        if is_new and is_met(rule) and not busy.exists():
            yield rule


def _count_from_what_is_left(rule: StartRule) -> None:
    before, rule.last_label_count = rule.last_label_count, rule.campaign.label_count
    StartRule.objects.filter(pk=rule.pk, last_label_count=before).update(last_label_count=rule.last_label_count)


def is_met(rule: StartRule) -> bool:
    labels = rule.campaign.label_count
    if rule.kind == StartRule.Kind.LABELS:
        return labels >= rule.threshold
    if rule.kind == StartRule.Kind.EVERY:
        return labels - rule.last_label_count >= rule.threshold
    estimate = Estimate.objects.filter(campaign=rule.campaign).order_by("-id").first()
    if estimate is None:
        return False
    if rule.kind == StartRule.Kind.LOG_DET:
        return estimate.log_det >= rule.threshold
    certificate = last_known(read_curve(rule.campaign).certificate)  # as the page has it: of estimates that stand
    return certificate is not None and certificate <= rule.threshold
