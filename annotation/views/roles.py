"""Who helps to run a campaign: roles given, taken back, and offered by a link."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from annotation.forms.roles import GrantForm, RoleLinkForm
from annotation.models import Campaign, Invitation, Role
from annotation.services.invitations import grant_role, invite, revoke_invitation, revoke_role
from annotation.views.pages import PageRequest, staff_page, told

SHOWN = 100


@staff_page("GET", "POST", role=Role.Name.ADMIN)
def campaign_roles(request: PageRequest, campaign: Campaign) -> HttpResponse:
    form = GrantForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        grant_role(campaign=campaign, user=form.user, name=form.cleaned_data["role"], by=request.user)
        messages.success(request, _("%(name)s has the role.") % {"name": form.user.username})
        return redirect("campaign_roles", code=campaign.code)
    links = Invitation.objects.usable().filter(campaign=campaign, pool__isnull=True).order_by("-pk")
    context = {
        "campaign": campaign,
        "form": form,
        "link_form": RoleLinkForm(),
        "roles": campaign.roles.select_related("user").order_by("name", "user__username")[:SHOWN],
        "links": [
            (one, Role.Name(one.role).label, request.build_absolute_uri(reverse("invitation", args=[one.token])))
            for one in links[:SHOWN]
        ],
    }
    return render(request, "annotation/campaign_roles.html", context)


@staff_page("POST", role=Role.Name.ADMIN)
def role_revoke(request: PageRequest, campaign: Campaign, role: int) -> HttpResponse:
    found = get_object_or_404(Role.objects.select_related("user"), campaign=campaign, pk=role)
    told(request, lambda: revoke_role(role=found, by=request.user), _("The role is taken back."))
    if found.user_id == request.user.pk and not request.user.is_superuser:
        return redirect("campaigns")
    return redirect("campaign_roles", code=campaign.code)


@staff_page("POST", role=Role.Name.ADMIN)
def role_link(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """A link that gives the role to one person."""
    form = RoleLinkForm(request.POST)
    if form.is_valid():
        invite(user=request.user, campaign=campaign, role=form.cleaned_data["role"])
        messages.success(request, _("The link is below: pass it on."))
    return redirect("campaign_roles", code=campaign.code)


@staff_page("POST", role=Role.Name.ADMIN)
def role_link_revoke(request: PageRequest, campaign: Campaign, invitation: int) -> HttpResponse:
    found = get_object_or_404(Invitation, campaign=campaign, pool__isnull=True, pk=invitation)
    revoke_invitation(invitation=found, user=request.user)
    messages.success(request, _("The link leads nowhere now."))
    return redirect("campaign_roles", code=campaign.code)
