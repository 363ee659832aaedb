"""Before and around the work: guidelines read, terms agreed to, warnings answered, keys chosen, texts hidden."""

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from annotation.forms.desk import ShortcutsForm
from annotation.models import Enrolment, GuidelineVersion, Membership
from annotation.services.enrolments import read_guidelines
from annotation.services.offers import skip_offer
from annotation.services.people import accept_warning, decline_category, set_preferences
from annotation.services.pools import consent
from annotation.services.refusals import Refusal
from annotation.shortcuts import SHORTCUTS
from annotation.tasks import ask_for_replan
from annotation.views.desk import posted_offer
from annotation.views.desk_page import Desk, desk_view, show_desk
from annotation.views.keyset import read_sent
from annotation.views.pages import HtmxRequest


@desk_view("POST")
def confirm_guidelines(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """The version that the page showed was read, which need not be the newest any more."""
    known = GuidelineVersion.objects.filter(campaign=desk.campaign, version=read_sent(request, "version"))
    if read := known.first():
        desk.enrolment = read_guidelines(enrolment=desk.enrolment, version=read)
    if desk.enrolment.stage == Enrolment.Stage.TUTORIAL:
        desk.notices.append(("quiet", _("A short tutorial first: answer as you would, and see what was expected.")))
    return show_desk(request, desk)


@desk_view("POST")
def accept_terms(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """The terms that the page showed are agreed to; what was queued or held before is handed out again."""
    own = Membership.objects.filter(teacher=desk.teacher, pool__campaigns=desk.campaign)
    if found := own.filter(pk=read_sent(request, "member")).first():
        try:
            consent(membership=found, version=read_sent(request, "version"), pay=request.POST.get("pay", ""))
        except Refusal as refusal:
            desk.notices.append(("warn", str(refusal)))
        transaction.on_commit(lambda: ask_for_replan(desk.campaign.pk))
    return show_desk(request, desk)


@desk_view("POST")
def answer_warning(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """Show it this once, always show this category, or keep the category away from this teacher."""
    offer = posted_offer(request, desk)
    category, wish = offer.comparison.category, request.POST.get("wish", "")
    if wish == "always":
        accept_warning(user=desk.user, category=category)
    elif wish == "decline":
        decline_category(teacher=desk.teacher, category=category)
        try:
            is_warned = category in desk.campaign.content_warnings
            skip_offer(offer=offer, reason=f"opted out of {category}", is_declined=is_warned)
        except Refusal as refusal:
            desk.notices.append(("warn", str(refusal)))
        desk.notices.append(("quiet", _("You will not be shown this category again.")))
    return show_desk(request, desk)


@desk_view("POST")
def hide_texts(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """Switch whether responses are covered until asked for."""
    set_preferences(user=desk.user, hides_texts=request.POST.get("hide") == "on")
    return show_desk(request, desk)


@desk_view("GET", "POST")
def shortcuts(request: HtmxRequest, desk: Desk) -> HttpResponse:
    """Which key does what, and other keys for those who want them."""
    form = ShortcutsForm(request.POST or None, preferences=desk.user.preferences)
    if request.method == "POST" and "reset" in request.POST:
        set_preferences(user=desk.user, shortcuts={}, shortcuts_off=False)
        return redirect("desk_shortcuts", code=desk.campaign.code)
    if request.method == "POST" and form.is_valid():
        chosen = {shortcut.name: form.cleaned_data[shortcut.name] for shortcut in SHORTCUTS}
        set_preferences(user=desk.user, shortcuts=chosen, shortcuts_off=form.cleaned_data["shortcuts_off"])
        messages.success(request, _("Your keys are stored."))
        return redirect("desk", code=desk.campaign.code)
    return render(request, "annotation/desk_shortcuts.html", {"desk": desk, "campaign": desk.campaign, "form": form})
