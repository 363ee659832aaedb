"""Campaigns: the list, a new one, the overview with what to do next, settings, guidelines, copy and deletion."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from annotation.access import may_own, visible_campaigns
from annotation.forms.campaigns import CloneForm, GuidelinesForm, NewCampaignForm, SettingsForm
from annotation.markdown import render_text
from annotation.models import Campaign, Message, Offer, Role, User
from annotation.services.campaigns import (
    archive_campaign,
    change_settings,
    close_campaign,
    create_campaign,
    open_campaign,
    pause_campaign,
    publish_guidelines,
)
from annotation.services.copies import clone_campaign
from annotation.services.deletion import delete_campaign, preview_deletion
from annotation.services.teachers import present_now
from annotation.tasks import ask_for_replan
from annotation.views.keyset import read_key
from annotation.views.pages import PageRequest, anybody, find_owner, page_of, staff_page, told

PAGE = 50
VERBS = {
    "open": open_campaign,
    "pause": pause_campaign,
    "close": close_campaign,
    "archive": archive_campaign,
}


@page_of(anybody, "GET")
def campaigns(request: PageRequest, user: User) -> HttpResponse:
    """Every campaign that the user helps to run, newest first, keyset by id."""
    found = visible_campaigns(user).order_by("-id")
    if before := read_key(request, "before"):
        found = found.filter(pk__lt=before)
    page = list(found[: PAGE + 1])
    context = {"campaigns": page[:PAGE], "has_more": len(page) > PAGE, "may_own": may_own(user)}
    return render(request, "annotation/campaigns.html", context)


@page_of(find_owner, "GET", "POST")
def campaign_create(request: PageRequest, user: User) -> HttpResponse:
    form = NewCampaignForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        campaign = create_campaign(user=user, **form.cleaned_data)
        messages.success(request, _("The campaign is there, as a draft. Import conversations next."))
        return redirect("campaign", code=campaign.code)
    return render(request, "annotation/campaign_create.html", {"form": form})


@staff_page("GET")
def campaign(request: PageRequest, campaign: Campaign) -> HttpResponse:
    is_fragment = bool(request.htmx)
    template = "annotation/_campaign.html" if is_fragment else "annotation/campaign.html"
    return render(request, template, overview_of(request, campaign))


def overview_of(request: PageRequest, campaign: Campaign) -> dict[str, object]:
    """Counters that are kept, and short lists: nothing here grows with the campaign."""
    live = Offer.objects.filter(campaign=campaign, state__in=Offer.LIVE)
    steps = [
        (_("Import conversations"), campaign.comparison_count > 0, "campaign_imports"),
        (_("Write the guidelines"), campaign.guidelines.exists(), "campaign_guidelines"),
        (_("Choose a pool of teachers"), campaign.pools.exists(), "campaign_settings"),
        (_("Open the campaign"), campaign.state not in (Campaign.State.DRAFT,), ""),
    ]
    return {
        "campaign": campaign,
        "steps": steps,
        "is_ready": all(done for _name, done, _url in steps[:3]),
        "is_set_up": all(done for _name, done, _url in steps),
        "live": live.count(),
        "held": live.filter(state=Offer.State.HELD).count(),
        "present": present_now(campaign),
        "pools": campaign.pools.order_by("name"),
        "notices": campaign.notices.filter(read_at__isnull=True)[:5],
        "unanswered": Message.objects.filter(campaign=campaign, reply="").count(),
        "is_admin": visible_campaigns(request.user, role=Role.Name.ADMIN).filter(pk=campaign.pk).exists(),
        "verbs": verbs_of(campaign),
    }


def verbs_of(campaign: Campaign) -> list[tuple[str, str, str]]:
    """(verb, what the button says, its class), in the state that the campaign is in."""
    state = Campaign.State
    words = {
        state.DRAFT: [("open", _("Open"), "button-primary")],
        state.OPEN: [("pause", _("Pause"), ""), ("close", _("Close"), "")],
        state.PAUSED: [("open", _("Open again"), "button-primary"), ("close", _("Close"), "")],
        state.CLOSED: [("open", _("Open again"), ""), ("archive", _("Archive"), "")],
        state.ARCHIVED: [("close", _("Take out of the archive"), "")],
    }
    return words[state(campaign.state)]


@staff_page("POST", role=Role.Name.ADMIN)
def campaign_state(request: PageRequest, campaign: Campaign) -> HttpResponse:
    verb = VERBS.get(request.POST.get("verb", ""))
    if verb is not None and told(request, lambda: verb(campaign=campaign, user=request.user), ""):
        ask_for_replan(campaign.pk)
    return redirect("campaign", code=campaign.code)


@staff_page("GET", "POST", role=Role.Name.ADMIN)
def campaign_settings(request: PageRequest, campaign: Campaign) -> HttpResponse:
    form = SettingsForm(request.POST or None, instance=campaign, user=request.user)
    if request.method == "POST" and form.is_valid():
        stored = Campaign.objects.get(pk=campaign.pk)
        if told(
            request,
            lambda: change_settings(campaign=stored, user=request.user, **form.cleaned_data),
            _("The settings are stored."),
        ):
            ask_for_replan(campaign.pk)
            return redirect("campaign_settings", code=campaign.code)
    context = {"campaign": campaign, "form": form, "clone_form": CloneForm(initial={"name": f"{campaign.name} 2"})}
    return render(request, "annotation/campaign_settings.html", context)


@staff_page("GET", "POST", role=Role.Name.ADMIN)
def campaign_guidelines(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """The newest version to write on, and every older one to read."""
    versions = campaign.guidelines.all()[:20]
    newest = versions[0].text if versions else ""
    form = GuidelinesForm(request.POST or None, initial={"text": newest})
    is_preview = "preview" in request.POST
    if (
        request.method == "POST"
        and form.is_valid()
        and not is_preview
        and told(
            request,
            lambda: publish_guidelines(campaign=campaign, text=form.cleaned_data["text"], user=request.user),
            _("Published. Teachers read the new version before they go on."),
        )
    ):
        return redirect("campaign_guidelines", code=campaign.code)
    preview = render_text(request.POST.get("text", "")) if is_preview else ""
    context = {"campaign": campaign, "form": form, "versions": versions, "preview": preview}
    return render(request, "annotation/campaign_guidelines.html", context)


@staff_page("POST", role=Role.Name.ADMIN)
def campaign_clone(request: PageRequest, campaign: Campaign) -> HttpResponse:
    form = CloneForm(request.POST)
    if not form.is_valid():
        messages.warning(request, _("Give the copy a name."))
        return redirect("campaign_settings", code=campaign.code)
    copy = clone_campaign(campaign=campaign, user=request.user, **form.cleaned_data)
    messages.success(request, _("This is the copy, as a draft."))
    return redirect("campaign", code=copy.code)


@staff_page("GET", "POST", role=Role.Name.ADMIN)
def campaign_delete(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """What a deletion would remove, and the deletion, which asks for the name."""
    if request.method == "POST" and told(
        request,
        lambda: delete_campaign(
            campaign=campaign, user=request.user, confirmed_name=request.POST.get("confirmed_name", "")
        ),
        _("The campaign is deleted."),
    ):
        return redirect("campaigns")
    context = {"campaign": campaign, "removed": preview_deletion(campaign)}
    return render(request, "annotation/campaign_delete.html", context)
