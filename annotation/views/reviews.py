"""The reviewers' pages: the queue, one comparison with its labels and the decision, and taking one back."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from annotation.forms.reviews import ReviewForm
from annotation.models import Adjudication, Campaign, Label, Offer, Review, Role
from annotation.models.offers import verdict_of
from annotation.rendering import render_sides
from annotation.services.reviews import (
    DecidedMeanwhile,
    decide_review,
    hold_review,
    next_review,
    take_back_decision,
)
from annotation.shortcuts import keys_of
from annotation.views.keyset import newest_first, oldest_first, read_key, read_sent
from annotation.views.pages import PageRequest, staff_page

KEYS = {"a": "first", "b": "second", "tie": "tie", "both_bad": "both_bad", "left": "skip"}
"""Verdict -> the desk's shortcut that means the same."""


def words_of(verdict: str) -> str:
    return str(Adjudication.Verdict(verdict).label)


@dataclass(frozen=True)
class Given:
    """A label as a reviewer reads it: on the pair, whatever order its teacher saw."""

    label: Label
    words: str
    criteria: list[tuple[str, str]]


@staff_page("GET", role=Role.Name.REVIEWER)
def campaign_reviews(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """What waits, oldest first; or what is decided, newest first."""
    if request.GET.get("show") == "decided":
        decided = Adjudication.objects.filter(campaign=campaign, state=Adjudication.State.CURRENT)
        page: Any = newest_first(request, decided.select_related("reviewer", "comparison__review"))
        return render(request, "annotation/campaign_reviews_decided.html", {"campaign": campaign, "page": page})
    waiting = Review.objects.filter(campaign=campaign, is_waiting=True)
    if not campaign.has_reviews:
        waiting = waiting.none()
    page = oldest_first(request, waiting.select_related("comparison__conversation"))
    return render(request, "annotation/campaign_reviews.html", {"campaign": campaign, "page": page})


@staff_page("GET", "POST", role=Role.Name.REVIEWER)
def campaign_review(request: PageRequest, campaign: Campaign, review: int) -> HttpResponse:
    """One comparison with the labels given. A decision leads on to the next one that waits."""
    found = find_review(campaign, review)
    if request.method == "GET":
        return show_review(request, hold_review(review=found, user=request.user))
    form = ReviewForm(request.POST)
    if not form.is_valid():
        return show_review(request, found, form=form)
    try:
        decided = decide_review(review=found, user=request.user, **form.decision)
    except DecidedMeanwhile as refusal:
        messages.warning(request, str(refusal))
        return show_review(request, found, form=form, status=409)
    return lead_on(request, found, decided)


def find_review(campaign: Campaign, pk: int) -> Review:
    rows = Review.objects.select_related("campaign", "held_by", "comparison__conversation", "comparison__a")
    return get_object_or_404(rows.select_related("comparison__b"), campaign=campaign, pk=pk)


def lead_on(request: PageRequest, review: Review, decided: Adjudication) -> HttpResponse:
    """To the next that waits, else to the queue; the address says which decision may be taken back there."""
    following = next_review(campaign=review.campaign, user=request.user, after=review.pk)
    if following is None:
        messages.success(request, _("Stored. Nothing else waits for a review."))
        return redirect("campaign_review", code=review.campaign.code, review=review.pk)
    where = reverse("campaign_review", args=[review.campaign.code, following.pk])
    return redirect(f"{where}?decided={decided.pk}")


def show_review(
    request: PageRequest, review: Review, *, form: ReviewForm | None = None, status: int = 200
) -> HttpResponse:
    comparison, campaign = review.comparison, review.campaign
    current = comparison.adjudications.filter(state=Adjudication.State.CURRENT).select_related("reviewer").first()
    note = form["note"].value() if form is not None else current.note if current is not None else ""
    keys = keys_of(request.user.preferences)
    warning = campaign.content_warnings.get(comparison.category, "")
    context = {
        "campaign": campaign,
        "review": review,
        "comparison": comparison,
        "shown": render_sides(comparison.conversation, [comparison.a, comparison.b]),
        "warning": warning,
        "hides_texts": bool(warning) or bool(request.user.preferences.get("hides_texts")),
        "given": read_given(review),
        "current": current,
        # What is current now is what the page shows, also after somebody was quicker.
        "form": ReviewForm(initial={"note": note, "seen": current.pk if current is not None else None}),
        "errors": form.errors.get("verdict", []) if form is not None else [],
        "verdicts": [(verdict, words_of(verdict), keys[shortcut]) for verdict, shortcut in KEYS.items()],
        "chosen": request.POST.get("verdict", "") if form is not None else "",
        "other_holder": review.held_by if review.held_by not in (None, request.user) else None,
        "last": last_decision(request, campaign),
        "keys": keys,
    }
    return render(request, "annotation/campaign_review.html", context, status=status)


def read_given(review: Review) -> list[Given]:
    labels = review.comparison.labels.filter(state=Label.State.CURRENT).exclude(arm=Offer.Arm.TUTORIAL)
    return [
        Given(
            label,
            words_of(label.verdict),
            [(name, words_of(verdict_of(choice, b_first=label.b_first))) for name, choice in label.criteria.items()],
        )
        for label in labels.select_related("teacher").order_by("pk")
    ]


def last_decision(request: PageRequest, campaign: Campaign) -> Adjudication | None:
    """The reviewer's own that led here, while it stands."""
    return (
        Adjudication.objects.filter(
            campaign=campaign,
            pk=read_key(request, "decided") or 0,
            reviewer=request.user,
            state=Adjudication.State.CURRENT,
        )
        .select_related("comparison__review")
        .first()
    )


@staff_page("POST", role=Role.Name.REVIEWER)
def review_undo(request: PageRequest, campaign: Campaign, review: int) -> HttpResponse:
    """The decision that the button named is taken back, and its comparison shown again."""
    found, named = find_review(campaign, review), read_sent(request, "adjudication")
    if take_back_decision(review=found, user=request.user, adjudication_id=named):
        messages.success(request, _("The decision is taken back."))
    else:
        messages.warning(request, _("This decision no longer stands: it was replaced or taken back before."))
    return redirect("campaign_review", code=campaign.code, review=found.pk)
