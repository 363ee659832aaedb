"""A teacher's own answers: the list, one of them again to change it, and the sum of the day."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.forms.desk import AnswerForm, initial_answer
from annotation.models import Label, Offer
from annotation.services.labels import edit_label
from annotation.services.refusals import Refusal
from annotation.tasks import ask_for_replan
from annotation.views.desk_page import Desk, comparison_context, desk_view, responses_shown
from annotation.views.keyset import read_key
from annotation.views.pages import HtmxRequest

PAGE = 30
SESSION_GAP = timedelta(minutes=30)
"""A pause of this length between two answers ends a session."""
LONGEST_SESSION = 2000
"""Answers back that the summary looks at."""


@desk_view("GET")
def history(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """Newest first, from a label on: the page costs the same however many there are."""
    labels = own_labels(desk).select_related("comparison__conversation").order_by("-id")
    if before := read_key(request, "before"):
        labels = labels.filter(pk__lt=before)
    rows = list(labels[: PAGE + 1])
    context = {
        "desk": desk,
        "campaign": desk.campaign,
        "labels": rows[:PAGE],
        "next_before": rows[PAGE - 1].pk if len(rows) > PAGE else None,
    }
    return render(request, "annotation/desk_history.html", context)


@desk_view("GET", "POST")
def change(request: HtmxRequest, desk: Desk, label: int) -> HttpResponse:
    """One earlier answer, with its comparison as it was shown; a change supersedes it, and sent twice it is one."""
    labels = own_labels(desk, *([Label.State.SUPERSEDED] if request.method == "POST" else []))
    stored = get_object_or_404(
        labels.select_related("offer", "comparison__conversation", "comparison__a", "comparison__b"), pk=label
    )
    offer: Offer = stored.offer
    offer.comparison = stored.comparison
    responses = responses_shown(desk.campaign, offer)
    response_ids = [response.pk for response in responses]
    form = AnswerForm(
        request.POST or None,
        campaign=desk.campaign,
        response_ids=response_ids,
        initial=initial_answer(stored, campaign=desk.campaign),
    )
    refused = ""
    if request.method == "POST" and form.is_valid():
        try:
            edit_label(label=stored, **form.answer_given, guidelines=desk.enrolment.read_version)
        except Refusal as refusal:
            refused = str(refusal)
        else:
            transaction.on_commit(lambda: ask_for_replan(desk.campaign.pk))
            request.session["desk_notices"] = [("ok", _("Your answer was changed."))]
            return redirect("desk", code=desk.campaign.code)
    context = {
        "desk": desk,
        "campaign": desk.campaign,
        "label": stored,
        "form": form,
        "refused": refused,
        "offer": offer,
        "hides_texts": is_covered(desk, stored.comparison.category),
    }
    context |= comparison_context(desk.campaign, stored.comparison, responses)
    context["given"] = stored.choice + (f":{stored.strength}" if stored.strength else "")
    return render(request, "annotation/desk_label.html", context)


def is_covered(desk: Desk, category: str) -> bool:
    """Whether the responses are shown only when asked for: by the teacher's own wish, or behind a content warning."""
    accepted = desk.user.preferences.get("accepted_warnings", [])
    is_warned_of = category in desk.campaign.content_warnings and category not in accepted
    return bool(desk.user.preferences.get("hides_texts")) or is_warned_of


@desk_view("GET")
def summary(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """This session, today and in all: numbers of one's own work only."""
    context = {
        "desk": desk,
        "campaign": desk.campaign,
        "session": session_of(desk),
        "agreement": self_agreement(desk),
        "day_count": desk.enrolment.day_count,
    }
    return render(request, "annotation/desk_summary.html", context)


def own_labels(desk: Desk, *also: Label.State) -> Any:
    """The teacher's current labels here, and those of these states."""
    return Label.objects.filter(campaign=desk.campaign, teacher=desk.teacher, state__in=[Label.State.CURRENT, *also])


def session_of(desk: Desk) -> dict[str, Any] | None:
    """Answers since the last long pause: how many, over how many minutes, for what pay. None where the pause is now."""
    rows = list(own_labels(desk).order_by("-id").values_list("created_at", "cost", "seconds")[:LONGEST_SESSION])
    if not rows or timezone.now() - rows[0][0] > SESSION_GAP:
        return None
    count = 1
    for later, earlier in pairwise(rows):
        if later[0] - earlier[0] > SESSION_GAP:
            break
        count += 1
    session = rows[:count]
    began = session[-1][0] - timedelta(seconds=session[-1][2])
    seconds = sorted(row[2] for row in session)
    return {
        "labels": count,
        "minutes": (timezone.now() - began).total_seconds() / 60,
        "earned": sum(row[1] for row in session),
        "median_seconds": seconds[len(seconds) // 2],
    }


def self_agreement(desk: Desk) -> dict[str, int] | None:
    """Of the comparisons that came a second time, mirrored: how many were answered the same way."""
    repeats = dict(own_labels(desk).filter(arm=Offer.Arm.REPEAT).values_list("comparison_id", "pk"))
    if not repeats:
        return None
    outcomes: dict[int, list[float]] = {}
    for label in own_labels(desk).filter(comparison_id__in=repeats).only("comparison_id", "choice", "b_first"):
        outcomes.setdefault(label.comparison_id, []).append(label.outcome)
    pairs = [pair for pair in outcomes.values() if len(pair) == 2]
    return {"asked": len(pairs), "same": sum(first == second for first, second in pairs)} if pairs else None
