"""What the teacher's desk shows now: guidelines to read, a warning, a comparison, or why there is none."""

import random
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.contrib.auth.views import redirect_to_login
from django.db import transaction
from django.db.models import BigIntegerField
from django.http import HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRedirect

from annotation.access import enrolment_for, teacher_for
from annotation.differences import mark_differences
from annotation.forms.desk import AnswerForm, initial_answer
from annotation.markdown import render_text
from annotation.models import (
    Campaign,
    Comparison,
    Enrolment,
    GuidelineVersion,
    Label,
    Offer,
    Response,
    Teacher,
    User,
)
from annotation.models.people import counted_on
from annotation.prepared import PreparedSelect, Slot
from annotation.rendering import Sides, render_sides
from annotation.services.enrolments import enrol
from annotation.services.offers import claim_offer, skip_offer
from annotation.services.refusals import OfferNotHeld
from annotation.services.terms import reason_to_rest, record_presence, today, unread_terms
from annotation.shortcuts import SHORTCUTS, keys_of
from annotation.tasks import ask_for_replan
from annotation.views.breaks import break_after, remember_work, working_since
from annotation.views.pages import HtmxRequest

MOST_DECLINED = 20
"""Offers of declined categories that one page view passes over."""
MOST_SHOWN = 20
"""Comparisons back whose warning the session knows to be answered."""
LOOKS_AGAIN = (Campaign.State.OPEN, Campaign.State.PAUSED)
"""Where a page with nothing to compare looks again by itself."""


@dataclass
class Desk:
    """Who sits where, and what they should be told with the next page."""

    campaign: Campaign
    teacher: Teacher
    user: User
    enrolment: Enrolment
    guidelines: GuidelineVersion | None
    notices: list[tuple[str, str]] = field(default_factory=list)
    """(level, sentence): level is ok, warn, bad or quiet."""
    said: str = ""
    """For the live region: what just happened, in a few words."""

    @property
    def must_read(self) -> bool:
        return self.guidelines is not None and self.enrolment.read_version_id != self.guidelines.pk

    @property
    def answered_today(self) -> int:
        """The enrolment's count stays as it was on the last day of work until the first answer of another day."""
        return counted_on(self.enrolment, today(self.teacher))


DeskView = Callable[..., HttpResponse]


def desk_view(*methods: str) -> Callable[[DeskView], Callable[..., HttpResponse]]:
    """A page of the desk: sign-in, then the teacher, and only then the method, so that a stranger learns nothing."""

    def wrap(view: DeskView) -> Callable[..., HttpResponse]:
        @wraps(view)
        def answer(request: HtmxRequest, code: UUID, **arguments: Any) -> HttpResponse:
            if not isinstance(request.user, User):
                return _send_to_sign_in(request, code, is_page="GET" in methods)
            desk = open_desk(request.user, code)
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            response = view(request, desk, **arguments)
            add_never_cache_headers(response)  # the back button asks again instead of showing an answered comparison
            return response

        return answer

    return wrap


def _send_to_sign_in(request: HtmxRequest, code: UUID, *, is_page: bool) -> HttpResponse:
    """Back to the desk after signing in, or to its page that was asked for; what was typed waits in the browser."""
    wants_page = is_page and not request.htmx
    response = redirect_to_login(request.get_full_path() if wants_page else reverse("desk", args=[code]))
    return HttpResponseClientRedirect(response["Location"]) if request.htmx else response


def open_desk(user: User, code: UUID) -> Desk:
    enrolment = enrolment_for(user, code)
    if enrolment is None:
        campaign, teacher = teacher_for(user, code)
        enrolment = enrol(campaign=campaign, teacher=teacher)
    else:
        campaign, teacher = enrolment.campaign, enrolment.teacher
    record_presence(teacher)
    return Desk(
        campaign=campaign,
        teacher=teacher,
        user=user,
        enrolment=enrolment,
        guidelines=NEWEST_GUIDELINES.first(campaign=campaign.pk),
    )


NEWEST_GUIDELINES = PreparedSelect(
    lambda: GuidelineVersion.objects.filter(campaign=Slot("campaign", BigIntegerField())).defer("text")
)


def show_desk(request: HtmxRequest, desk: Desk, *, form: AnswerForm | None = None) -> HttpResponse:
    """The fragment for htmx; else for a GET the page, for a POST the way back to it, so that a reload is safe."""
    if request.htmx:
        context = desk_context(request, desk, form=form) | {"is_fragment": True}
        if context["state"] == "rest" and request.GET.get("waiting") == context["waits_for"]:
            return HttpResponse(status=204)  # nothing new: htmx leaves the page, and the focus in it, as they are
        return render_pacing(request, desk, "annotation/_desk.html", context)
    if request.method == "POST":
        # A page of its own after a post, so that neither a reload nor the back button sends it again.
        request.session["desk_notices"] = desk.notices
        return redirect("desk", code=desk.campaign.code)
    desk.notices = [*request.session.pop("desk_notices", []), *desk.notices]
    context = desk_context(request, desk, form=form)
    context["shortcuts"] = [(shortcut, context["keys"][shortcut.name]) for shortcut in SHORTCUTS]
    return render_pacing(request, desk, "annotation/desk.html", context)


def render_pacing(request: HtmxRequest, desk: Desk, template: str, context: dict[str, Any]) -> HttpResponse:
    """With the suggestion of a break where it is due; it is made once, beside a comparison, and read out with it."""
    if context["state"] != "offer":
        return render(request, template, context)
    since = working_since(request, desk.teacher)
    if suggestion := break_after(since):
        desk.notices.append(("warn", suggestion))
        desk.said = f"{desk.said} {suggestion}".strip()
        since = timezone.now()
    response = render(request, template, context)
    remember_work(request, response, desk.teacher, since=since)
    return response


def desk_context(request: HtmxRequest, desk: Desk, *, form: AnswerForm | None = None) -> dict[str, Any]:
    context: dict[str, Any] = {
        "desk": desk,
        "campaign": desk.campaign,
        "enrolment": desk.enrolment,
        "keys": keys_of(desk.user.preferences),
        "hides_texts": bool(desk.user.preferences.get("hides_texts")),
    }
    if desk.must_read and desk.guidelines is not None:
        return context | {"state": "guidelines", "guidelines_html": render_text(desk.guidelines.text)}
    if desk.enrolment.stage == Enrolment.Stage.FAILED:
        return context | rest_context(desk, not_qualified())
    offer = claim_next(desk)
    if offer is None and (member := unread_terms(campaign=desk.campaign, teacher=desk.teacher)):
        return context | {"state": "terms", "member": member, "pool": member.pool}
    if offer is None:
        if desk.campaign.is_open:  # who has just come finds work within a second
            transaction.on_commit(lambda: ask_for_replan(desk.campaign.pk))
        return context | rest_context(desk, reason_to_rest(campaign=desk.campaign, teacher=desk.teacher))
    taken_back = answer_taken_back(offer)
    if taken_back is None and (warning := warning_for(request, desk, offer)):
        return context | {"state": "warning", "offer": offer, "warning": warning}
    return context | offer_context(request, desk, offer, form=form, taken_back=taken_back)


def rest_context(desk: Desk, why: str) -> dict[str, Any]:
    """Why there is nothing, and a digest of it: a page that waits is left alone while it would say the same."""
    digest = sha256(f"{desk.campaign.state} {why}".encode()).hexdigest()[:12]
    looks_again = desk.campaign.state in LOOKS_AGAIN and desk.enrolment.stage != Enrolment.Stage.FAILED
    return {"state": "rest", "why": why, "waits_for": digest, "looks_again": looks_again}


def not_qualified() -> str:
    return _(
        "Your answers to the qualification did not agree well enough with the known ones, so this campaign gives you no"
        " comparisons. Thank you for your time; its admins can be reached below."
    )


def claim_next(desk: Desk) -> Offer | None:
    """The next offer; those of categories that the teacher opted out of are passed over."""
    declined = set(desk.teacher.declined_warnings) & set(desk.campaign.content_warnings)
    for _attempt in range(MOST_DECLINED):
        offer = claim_offer(campaign=desk.campaign, teacher=desk.teacher, enrolment=desk.enrolment)
        if offer is None or offer.comparison.category not in declined:
            return offer
        with suppress(OfferNotHeld):  # taken back by somebody else in this moment
            skip_offer(offer=offer, reason=f"opted out of {offer.comparison.category}", is_declined=True)
    return None


def answer_taken_back(offer: Offer) -> Label | None:
    """The last answer to it that an undo took back. Only what was looked at before can have one: most turns ask not."""
    if not offer.seconds_before:
        return None
    return Label.objects.filter(offer=offer, state=Label.State.RETRACTED).order_by("-id").first()


def warning_for(request: HtmxRequest, desk: Desk, offer: Offer) -> str:
    """The warning to show before this comparison; empty where there is none or it was accepted.

    The session remembers what was shown, so that differences or a message lead back to the comparison.
    """
    category = offer.comparison.category
    warning = str(desk.campaign.content_warnings.get(category, ""))
    accepted = desk.user.preferences.get("accepted_warnings", [])
    if not warning or category in accepted:
        return ""
    code, shown = str(offer.code), request.session.get("desk_shown", [])
    if code in shown:
        return ""
    if request.GET.get("shown") == code:
        request.session["desk_shown"] = [*shown, code][-MOST_SHOWN:]
        return ""
    return warning


def offer_context(
    request: HtmxRequest, desk: Desk, offer: Offer, *, form: AnswerForm | None, taken_back: Label | None
) -> dict[str, Any]:
    responses = responses_shown(desk.campaign, offer)
    controls = controls_key(request, desk) if form is None and taken_back is None else None
    if form is None:
        initial = initial_answer(taken_back, campaign=desk.campaign) if taken_back is not None else {}
        form = AnswerForm(campaign=desk.campaign, response_ids=[response.pk for response in responses], initial=initial)
    return {
        "state": "offer",
        "offer": offer,
        "form": form,
        "controls": controls,
        "has_differences": "differences" in request.GET,
        **comparison_context(desk.campaign, offer.comparison, responses, differences="differences" in request.GET),
    }


def controls_key(request: HtmxRequest, desk: Desk) -> Hashable:
    """All that an empty answer form and the tools around it depend on; None where each offer has its own."""
    if desk.campaign.answer_mode == Campaign.AnswerMode.RANKING:
        return None
    keys = keys_of(desk.user.preferences)
    asked = (desk.campaign.asks_strength, *map(str, desk.campaign.criteria))
    is_learning, has_differences = desk.enrolment.is_learning, "differences" in request.GET
    return get_language(), desk.campaign.code, asked, tuple(keys.values()), is_learning, has_differences


def comparison_context(
    campaign: Campaign, comparison: Comparison, responses: list[Response], *, differences: bool = False
) -> dict[str, Any]:
    shown: Sides = render_sides(comparison.conversation, responses)
    if differences and len(shown.sides) == 2:
        shown = mark_differences(shown)
    return {
        "shown": shown,
        "is_ranking": campaign.answer_mode == Campaign.AnswerMode.RANKING,
        "places": [str(place) for place in range(1, len(responses) + 1)],
        "answers": answers_of(campaign),
    }


def responses_shown(campaign: Campaign, offer: Offer) -> list[Response]:
    """In the order shown: the pair as drawn; where the campaign ranks, all responses, shuffled by the offer's code."""
    pair = [offer.comparison.a, offer.comparison.b]
    if campaign.answer_mode == Campaign.AnswerMode.PAIR:
        return pair[::-1] if offer.b_first else pair
    responses = list(Response.objects.filter(conversation=offer.comparison.conversation_id).order_by("pk"))
    random.Random(offer.code.int).shuffle(responses)
    return responses


def answers_of(campaign: Campaign) -> list[dict[str, Any]]:
    """The answer buttons from left to right, in groups: A's, the tie, B's, both bad."""
    if not campaign.asks_strength:
        scale = [("first", "", _("A is better")), ("tie", "", _("Tie")), ("second", "", _("B is better"))]
    else:
        words = {1: _("slightly"), 2: _("clearly"), 3: _("much")}
        scale = [
            *(("first", f":{strength}", words[strength]) for strength in (3, 2, 1)),
            ("tie", "", _("Tie")),
            *(("second", f":{strength}", words[strength]) for strength in (1, 2, 3)),
        ]
    buttons = [*scale, ("both_bad", "", _("Both bad"))]
    return [
        {"choice": choice, "value": choice + strength, "text": text, "shortcut": f"answer_{place}"}
        for place, (choice, strength, text) in enumerate(buttons, start=1)
    ]
