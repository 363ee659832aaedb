"""The teacher's desk: see, answer, skip, take back, tell the admins."""

from uuid import UUID

from django.db import transaction
from django.db.models import BigIntegerField, UUIDField
from django.forms import Form
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.html import format_html_join
from django.utils.translation import gettext as _
from django_htmx.http import reswap, retarget

from annotation.forms.desk import AnswerForm, MessageForm, OfferForm, SkipForm
from annotation.markdown import render_text
from annotation.models import Enrolment, Label, Message, Offer
from annotation.prepared import PreparedSelect, Slot
from annotation.services.labels import record_label, undo_label
from annotation.services.notices import send_message
from annotation.services.offers import lapse_offer, peek_offer, skip_offer
from annotation.services.refusals import OfferLapsed, Refusal
from annotation.services.terms import has_consented
from annotation.tasks import ask_for_replan
from annotation.views.desk_page import Desk, comparison_context, desk_view, responses_shown, show_desk
from annotation.views.pages import HtmxRequest


@desk_view("GET")
def show(request: HtmxRequest, desk: Desk) -> HttpResponse:
    return show_desk(request, desk)


@desk_view("POST")
def answer(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """One answer in, the next comparison out. The same answer again is the same label."""
    offer = posted_offer(request, desk)
    form = AnswerForm(request.POST, campaign=desk.campaign, response_ids=_response_ids(desk, offer))
    if not form.is_valid():
        desk.notices += [("bad", str(error)) for errors in form.errors.values() for error in errors]
        return refused(show_desk(request, desk, form=form if offer.state == Offer.State.HELD else None), offer)
    stage = desk.enrolment.stage
    try:
        label = record_label(offer=offer, **form.answer_given, enrolment=desk.enrolment)
    except Refusal as refusal:
        if isinstance(refusal, OfferLapsed):
            lapse_offer(offer=offer)
        desk.notices.append(("warn", str(refusal)))
        return refused(show_desk(request, desk), offer)
    transaction.on_commit(lambda: ask_for_replan(desk.campaign.pk))
    desk.said = _("Stored.")
    desk.notices += feedback_on(label, desk=desk, stage=stage)
    return settled(show_desk(request, desk), offer)


@desk_view("POST")
def skip(request: HtmxRequest, desk: Desk) -> HttpResponse:
    offer = posted_offer(request, desk)
    form = SkipForm(request.POST)
    try:
        skip_offer(offer=offer, reason=form.cleaned_data["reason"] if form.is_valid() else "")
    except Refusal as refusal:
        desk.notices.append(("warn", str(refusal)))
        return refused(show_desk(request, desk), offer)
    desk.said = _("Skipped.")
    transaction.on_commit(lambda: ask_for_replan(desk.campaign.pk))
    return settled(show_desk(request, desk), offer)


@desk_view("POST")
def undo(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """The last answer is taken back and its comparison shown again, with what was written."""
    try:
        offer = undo_label(campaign=desk.campaign, teacher=desk.teacher)
    except Refusal as refusal:
        desk.notices.append(("warn", str(refusal)))
        return show_desk(request, desk)
    desk.said = _("Taken back.") if offer else _("There is no answer of yours to take back.")
    desk.notices.append(("quiet", desk.said))
    if offer is not None:
        transaction.on_commit(lambda: ask_for_replan(desk.campaign.pk))
        desk.enrolment.refresh_from_db()
    return show_desk(request, desk)


@desk_view("GET")
def peek(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """The comparison that probably comes next, for the browser to keep ready. Nothing is held by looking.

    Empty where the next one begins with something else: a warning, a lesson, new terms, or nothing.
    """
    if not desk.campaign.is_open or desk.enrolment.stage != Enrolment.Stage.WORKING:
        return HttpResponse(status=204)
    offer = peek_offer(campaign=desk.campaign, teacher=desk.teacher, enrolment=desk.enrolment)
    is_ready = (
        offer is not None
        and offer.comparison.category not in desk.campaign.content_warnings
        and not desk.user.preferences.get("hides_texts")
        and has_consented(offer.membership, teacher=desk.teacher)
    )
    if offer is None or not is_ready:
        return HttpResponse(status=204)
    context = comparison_context(desk.campaign, offer.comparison, responses_shown(desk.campaign, offer))
    return render(request, "annotation/_comparison.html", context | {"offer": offer, "is_preview": True})


@desk_view("GET", "POST")
def tell(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """A message to the admins, about the comparison in view or about none; and their answers."""
    form = MessageForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        own = Offer.objects.filter(campaign=desk.campaign, teacher=desk.teacher)
        offer = own.filter(code=form.cleaned_data["offer"]).first()
        send_message(campaign=desk.campaign, teacher=desk.teacher, offer=offer, text=form.cleaned_data["text"])
        desk.said = _("Your message is with the admins.")
        desk.notices.append(("ok", desk.said))
        return show_desk(request, desk)
    if request.method == "POST" and request.htmx:
        return reswap(retarget(notices_of(form), "#message-notice"), "innerHTML")  # what was typed stays where it is
    messages = Message.objects.filter(campaign=desk.campaign, teacher=desk.teacher)[:50]
    return render(
        request,
        "annotation/desk_messages.html",
        {"desk": desk, "campaign": desk.campaign, "form": form, "sent": messages},
    )


def notices_of(form: Form) -> HttpResponse:
    """Why a form is not taken, for the place beside it."""
    sentences = (str(error) for errors in form.errors.values() for error in errors)
    return HttpResponse(format_html_join("", '<p class="notice notice-warn">{}</p>', ((one,) for one in sentences)))


def posted_offer(request: HtmxRequest, desk: Desk) -> Offer:
    """The offer that a post speaks of, if it is the teacher's own. Raises Http404."""
    form = OfferForm(request.POST)
    code: UUID | None = form.cleaned_data["offer"] if form.is_valid() else None
    offer = POSTED.first(code=code, campaign=desk.campaign.pk, teacher=desk.teacher.pk)
    if offer is None:
        raise Http404
    offer.campaign, offer.teacher = desk.campaign, desk.teacher
    return offer


POSTED = PreparedSelect(
    lambda: Offer.objects.select_related("comparison", "membership__pool").filter(
        code=Slot("code", UUIDField()),
        campaign=Slot("campaign", BigIntegerField()),
        teacher=Slot("teacher", BigIntegerField()),
    )
)


def settled(response: HttpResponse, offer: Offer) -> HttpResponse:
    """Tells the browser that it may forget the answer to this offer, and what was typed: it is stored, or skipped."""
    response["X-Settled"] = str(offer.code)
    return response


def refused(response: HttpResponse, offer: Offer) -> HttpResponse:
    """Tells the browser that the answer was not taken, and will not be as it is; what was typed stays a draft."""
    response["X-Refused"] = str(offer.code)
    return response


def _response_ids(desk: Desk, offer: Offer) -> list[int]:
    if desk.campaign.answer_mode == desk.campaign.AnswerMode.PAIR:
        return [offer.comparison.a_id, offer.comparison.b_id]
    return [response.pk for response in responses_shown(desk.campaign, offer)]


def feedback_on(label: Label, *, desk: Desk, stage: str) -> list[tuple[str, str]]:
    """After a lesson, what the answer should have been; after the last one, what comes now. Work gets no feedback."""
    notices: list[tuple[str, str]] = []
    if stage in (Enrolment.Stage.TUTORIAL, Enrolment.Stage.QUALIFICATION):
        comparison = label.comparison
        if comparison.gold_outcome is not None:
            is_right = label.outcome == comparison.gold_outcome
            verdict = _("Your last answer is the expected one.") if is_right else _("Another answer was expected.")
            notices.append(("ok" if is_right else "warn", f"{verdict} {comparison.gold_feedback}".strip()))
        elif comparison.gold_feedback:
            notices.append(("quiet", comparison.gold_feedback))
    if desk.enrolment.stage != stage and desk.enrolment.stage == Enrolment.Stage.QUALIFICATION:
        notices.append(
            ("quiet", _("The tutorial is done. The next comparisons have known answers: they show how you judge."))
        )
    if desk.enrolment.stage != stage and desk.enrolment.stage == Enrolment.Stage.WORKING:
        notices.append(("ok", _("You are in. From now on every answer counts.")))
    return notices


@desk_view("GET")
def guidelines(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """The guidelines on a page of their own, or as the panel beside the work."""
    if desk.guidelines is None:
        return redirect("desk", code=desk.campaign.code)
    template = "annotation/_guidelines.html" if request.htmx else "annotation/desk_guidelines.html"
    context = {"desk": desk, "campaign": desk.campaign, "guidelines_html": render_text(desk.guidelines.text)}
    return render(request, template, context)
