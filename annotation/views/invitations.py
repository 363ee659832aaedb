"""Where invitations and panels lead: an account is opened or joined, terms are agreed to, and the work is near."""

from typing import cast

from allauth.core import ratelimit
from django.contrib import messages
from django.contrib.auth import login
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods

from annotation.forms.people import AccountForm
from annotation.models import Invitation, Membership, User
from annotation.services.invitations import accept_invitation, open_account, open_invitation
from annotation.services.panels import admit_participant, pool_of_key, read_participant
from annotation.services.pools import consent
from annotation.services.refusals import InvitationSpent, Refusal
from annotation.views.keyset import read_sent
from annotation.views.pages import PageRequest, page_of, told

BACKEND = "django.contrib.auth.backends.ModelBackend"


@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """What the link leads to; a click joins, and whoever has no account opens one on the way."""
    try:
        found = open_invitation(token)
    except InvitationSpent as refusal:
        return render(request, "annotation/invitation_spent.html", {"why": str(refusal)}, status=410)
    form = AccountForm(request.POST if request.method == "POST" and "username" in request.POST else None)
    if request.method == "POST":
        joined = _join(request, found, form)
        if joined is not None:
            return joined
    return render(request, "annotation/invitation.html", {"invitation": found, "form": form, "pool": found.pool})


def _join(request: HttpRequest, found: Invitation, form: AccountForm) -> HttpResponse | None:
    try:
        if isinstance(request.user, User):
            joined = accept_invitation(invitation=found, user=request.user)
        elif not form.is_valid():
            return None
        else:
            with transaction.atomic():  # of two who race for the last use, the one who loses opens no account
                user = open_account(invitation=found, **form.cleaned_data)
                joined = accept_invitation(invitation=found, user=user)
            login(request, user, backend=BACKEND)
    except Refusal as refusal:
        messages.warning(request, str(refusal))
        return None
    messages.success(request, _("Welcome."))
    if isinstance(joined, Membership):
        _agree(request, joined)
    return redirect("home")


def _agree(request: HttpRequest, member: Membership) -> bool:
    """To the version that the page showed. Where the terms have changed since, the next page puts them forward."""
    version, pay = read_sent(request, "version"), request.POST.get("pay", "")
    return told(request, lambda: consent(membership=member, version=version, pay=pay), "")


@require_GET
def panel(request: HttpRequest, key: str) -> HttpResponse:
    """The door for participants of an external panel, who are known by the parameters that the panel adds."""
    if (slowed := ratelimit.consume_or_429(request, action="panel", limit_get=True)) is not None:
        return cast(HttpResponse, slowed)
    try:
        membership = admit_participant(pool=pool_of_key(key), participant=read_participant(request.GET))
    except Refusal as refusal:
        return render(request, "annotation/invitation_spent.html", {"why": str(refusal)}, status=410)
    if membership.teacher.user is None:
        raise Http404
    login(request, membership.teacher.user, backend=BACKEND)
    return redirect("terms", member=membership.pk)


def find_membership(user: User, pk: int) -> Membership:
    """One's own. Raises Http404."""
    return get_object_or_404(Membership.objects.select_related("pool"), pk=pk, teacher__user=user)


@page_of(find_membership, "GET", "POST", key="member", is_own=True)
def terms(request: PageRequest, member: Membership) -> HttpResponse:
    """A pool's terms, to agree to."""
    if request.method == "POST" and _agree(request, member):
        return redirect("home")
    return render(request, "annotation/terms.html", {"member": member, "pool": member.pool})
