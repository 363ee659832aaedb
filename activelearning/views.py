"""The researcher's pages: how the estimate grows, what each teacher is worth, and why every offer was made."""

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import get_language

from activelearning.forms import OutlookForm
from activelearning.keeping import kept
from activelearning.models import Estimate, OfferReason, Plan, WithdrawalEffect
from activelearning.pictures import PROGRESS, draw_teacher
from activelearning.portraits import inverted_among, read_agreement, read_portrait, read_portraits, teachers_of
from activelearning.progress import course_of, read_features, read_summary, read_work
from activelearning.reasons import explain, find_offers, read_history, read_runners_up
from activelearning.services import InputsNotKept, ask_for_effects, ask_to_replay, campaigns_of, effects_of
from annotation.models import Campaign, Comparison, Offer, Role
from annotation.rendering import render_sides
from annotation.tasks import send_quietly
from annotation.views.keyset import newest_first, oldest_first, read_key
from annotation.views.pages import HtmxRequest, PageRequest, staff_page, told
from annotation.views.teachers import find_teacher, may_withdraw

AGREEMENT_SECONDS = 30
"""Every shared answer is read: agreement is measured at most so often, whatever was answered meanwhile."""
PICTURE_SECONDS = 10
"""Pictures of a campaign at work are drawn at most so often, however many look."""


def page_or_fragment(request: HtmxRequest, name: str, context: dict[str, Any]) -> HttpResponse:
    """`name.html`, or for htmx its fragment `_name.html`: both come from one context."""
    fragment = f"activelearning/_{name}.html"
    return render(request, fragment if request.htmx else f"activelearning/{name}.html", context)


# Progress -------------------------------------------------------------------------------------------------------------


@staff_page("GET")
def progress(request: HtmxRequest, campaign: Campaign) -> HttpResponse:
    estimate = Estimate.objects.filter(campaign=campaign).order_by("-id").first()
    form = OutlookForm(request.GET)
    question = form.question()
    context = {
        "campaign": campaign,
        "estimate": estimate,
        "form": form,
        "question": question,
        "measure_name": form.measure_name,
        "summary": read_summary(campaign, question, course_of(campaign)),
        "work": read_work(campaign, estimate),
        "features": read_features(campaign),
        "version": kept("pictures", campaign, seconds=PICTURE_SECONDS, work=lambda: campaign.label_version),
    }
    return page_or_fragment(request, "progress", context)


@staff_page("GET")
def progress_plot(request: HtmxRequest, campaign: Campaign, name: str) -> HttpResponse:
    draw = PROGRESS.get(name)
    if draw is None:
        raise Http404
    question = OutlookForm(request.GET).question()
    return picture(request, campaign, f"{name}-{question}", lambda theme: draw(campaign, question, theme))


def picture(request: HtmxRequest, campaign: Campaign, name: str, draw: Callable[[str], str]) -> HttpResponse:
    """An SVG for the theme asked for, drawn at most every few seconds."""
    theme = "dark" if request.GET.get("theme") == "dark" else "light"
    asked = name, theme, get_language(), request.GET.get("v", "")
    drawn = kept("picture", campaign, *asked, seconds=PICTURE_SECONDS, work=lambda: draw(theme))
    response = HttpResponse(drawn, content_type="image/svg+xml")
    response["Cache-Control"] = f"private, max-age={PICTURE_SECONDS}"
    # A picture styles itself; it can load nothing and run nothing.
    response["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    return response


# Teachers -------------------------------------------------------------------------------------------------------------


@staff_page("GET")
def teachers(request: HtmxRequest, campaign: Campaign) -> HttpResponse:
    inverted, shown = inverted_among(campaign), request.GET.get("show", "")
    page = oldest_first(request, inverted if shown == "inverted" else teachers_of(campaign))
    context = {
        "campaign": campaign,
        "page": page,
        "inverted": inverted.count(),
        "shown": shown,
        "after": read_key(request, "after"),
        "portraits": read_portraits(campaign, page.rows),
        "agreement": kept("agreement", campaign, seconds=AGREEMENT_SECONDS, work=lambda: read_agreement(campaign)),
        "is_estimated": campaign.rationality_mode == Campaign.RationalityMode.ESTIMATED,
    }
    return page_or_fragment(request, "teachers", context)


@staff_page("GET")
def teacher_plot(request: HtmxRequest, campaign: Campaign, teacher: UUID) -> HttpResponse:
    portrait = read_portrait(campaign, teacher)
    if portrait is None or not portrait.cells:
        raise Http404
    return picture(request, campaign, f"teacher {teacher}", lambda theme: draw_teacher(portrait, theme))


@staff_page("GET", "POST", role=Role.Name.ADMIN)
def withdrawal_effect(request: PageRequest, campaign: Campaign, teacher: UUID) -> HttpResponse:
    """What the estimates would lose with a teacher, in every campaign; a post has it worked out."""
    found = find_teacher(campaign, teacher)
    if not may_withdraw(request.user, found):
        raise Http404
    if request.method == "POST":
        waiting = ask_for_effects(teacher=found)
        for pk in waiting:
            transaction.on_commit(partial(send_quietly, "activelearning.weigh_withdrawal", pk))
        if not request.htmx:
            return redirect("withdrawal_effect", code=campaign.code, teacher=found.code)
    effects, campaigns = effects_of(found), campaigns_of(found).count()
    context = {
        "campaign": campaign,
        "teacher": found,
        "effects": effects,
        "is_waiting": any(effect.state == WithdrawalEffect.State.WAITING for effect in effects),
        "has_labels": bool(campaigns),
        "is_missing": campaigns > sum(effect.state == WithdrawalEffect.State.DONE for effect in effects),
    }
    return page_or_fragment(request, "withdrawal_effect", context)


# Why ------------------------------------------------------------------------------------------------------------------


@staff_page("GET")
def offers(request: HtmxRequest, campaign: Campaign) -> HttpResponse:
    asked = {name: request.GET.get(name, "") for name in ("arm", "state", "teacher")}
    context = {
        "campaign": campaign,
        "rest": "".join(f"&{urlencode({name: value})}" for name, value in asked.items() if value),
        "page": newest_first(request, find_offers(campaign, **asked)),
        "asked": asked,
        "arms": Offer.Arm.choices,
        "states": Offer.State.choices,
    }
    return page_or_fragment(request, "offers", context)


@staff_page("GET")
def offer(request: HtmxRequest, campaign: Campaign, offer: UUID) -> HttpResponse:
    found = get_object_or_404(
        Offer.objects.select_related("teacher", "comparison__conversation", "comparison__a", "comparison__b"),
        campaign=campaign,
        code=offer,
    )
    why = OfferReason.objects.filter(offer=found).select_related("plan", "estimate__projection").first()
    context = {
        "campaign": campaign,
        "offer": found,
        "why": why,
        "rule": explain(found, why) if why is not None else "",
        "near": read_runners_up(campaign, why),
        "labels": found.labels.order_by("id"),
        "sides": render_sides(found.comparison.conversation, [found.comparison.a, found.comparison.b]),
    }
    return render(request, "activelearning/offer.html", context)


@staff_page("GET")
def comparison_history(request: HtmxRequest, campaign: Campaign, comparison: int) -> HttpResponse:
    found = get_object_or_404(
        Comparison.objects.select_related("conversation", "a", "b"), campaign=campaign, pk=comparison
    )
    context = {
        "campaign": campaign,
        "comparison": found,
        "events": read_history(campaign, found.pk),
        "judgements": found.judgements.order_by("id"),
        "adjudications": found.adjudications.select_related("reviewer").order_by("id"),
        "sides": render_sides(found.conversation, [found.a, found.b]),
    }
    return page_or_fragment(request, "comparison_history", context)


# Plans ----------------------------------------------------------------------------------------------------------------


@staff_page("GET")
def plans(request: HtmxRequest, campaign: Campaign) -> HttpResponse:
    made = Plan.objects.filter(campaign=campaign).select_related("estimate")
    context = {"campaign": campaign, "page": newest_first(request, made)}
    return page_or_fragment(request, "plans", context)


@staff_page("GET")
def plan(request: HtmxRequest, campaign: Campaign, plan: UUID) -> HttpResponse:
    found = get_object_or_404(Plan.objects.select_related("estimate"), campaign=campaign, code=plan)
    reasons = found.reasons.select_related("offer__teacher", "offer__comparison").order_by("offer__rank", "offer_id")
    context = {
        "campaign": campaign,
        "plan": found,
        "reasons": reasons,
        "not_kept": "" if found.inputs else InputsNotKept.sentence(),
    }
    return page_or_fragment(request, "plan", context)


@staff_page("POST")
def replay_plan(request: HtmxRequest, campaign: Campaign, plan: UUID) -> HttpResponse:
    found = get_object_or_404(Plan, campaign=campaign, code=plan)
    if told(request, lambda: ask_to_replay(plan=found), ""):
        transaction.on_commit(lambda: send_quietly("activelearning.replay", found.pk))
    return redirect("plan", code=campaign.code, plan=found.code)
