"""Pools: their terms, their members, and the invitations that lead into them."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _

from annotation.access import visible_campaigns, visible_pools
from annotation.forms.people import InviteForm, MemberForm, PoolForm
from annotation.models import Invitation, Membership, Pool
from annotation.services.invitations import invite, invite_by_email, read_addresses, revoke_invitation
from annotation.services.panels import panel_key
from annotation.services.pools import (
    change_member,
    change_terms,
    create_pool,
    depart_members,
    readmit_members,
    suspend_members,
)
from annotation.views.pages import PageRequest, owner_page, told

PAGE = 50
MEMBER_VERBS = {"suspend": suspend_members, "depart": depart_members, "readmit": readmit_members}


@owner_page("GET", "POST")
def pools(request: PageRequest) -> HttpResponse:
    form = PoolForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made: list[Pool] = []
        if told(request, lambda: made.append(create_pool(user=request.user, **form.cleaned_data)), ""):
            return redirect("pool", pool=made[0].pk)
    context = {"pools": visible_pools(request.user).order_by("name")[:PAGE], "form": form}
    return render(request, "annotation/pools.html", context)


@owner_page("GET", "POST")
def pool(request: PageRequest, pool: int) -> HttpResponse:
    """One pool: terms to change, members a page at a time by key, open invitations."""
    found = find_pool(request, pool)
    form = PoolForm(request.POST or None, instance=found)
    if request.method == "POST" and form.is_valid():
        stored = Pool.objects.get(pk=found.pk)
        if told(
            request,
            lambda: change_terms(pool=stored, user=request.user, **form.cleaned_data),
            _("The terms are stored."),
        ):
            return redirect("pool", pool=found.pk)
    after = request.GET.get("after", "")
    members = found.memberships.select_related("teacher__user").order_by("pk")
    if sought := request.GET.get("q", "").strip():
        members = members.filter(teacher__pseudonym__istartswith=sought)
    page = list(members.filter(pk__gt=int(after) if after.isdecimal() else 0)[: PAGE + 1])
    context = {
        "pool": found,
        "form": form,
        "invite_form": InviteForm(),
        "members": page[:PAGE],
        "has_more": len(page) > PAGE,
        "sought": sought,
        "invitations": [
            (one, invitation_link(request, one)) for one in found.invitations.usable().order_by("-pk")[:PAGE]
        ],
        "panel_link": request.build_absolute_uri(reverse("panel", args=[panel_key(found)])),
        "campaigns": visible_campaigns(request.user).filter(pools=found).order_by("name"),
    }
    return render(request, "annotation/pool.html", context)


@owner_page("POST")
def pool_invite(request: PageRequest, pool: int) -> HttpResponse:
    """A link to pass on; or, where addresses are given, a letter to each."""
    found = find_pool(request, pool)
    form = InviteForm(request.POST, request.FILES)
    if not form.is_valid():
        messages.warning(request, _("Say for how many people the link is, from 1 to 10000."))
        return redirect("pool", pool=found.pk)
    text = form.cleaned_data["addresses"]
    if form.cleaned_data["file"]:
        text += "\n" + form.cleaned_data["file"].read(1_000_000).decode("utf-8", errors="replace")
    if text.strip():
        _write_letters(request, found, text)
    else:
        invite(user=request.user, pool=found, uses=form.cleaned_data["uses"])
        messages.success(request, _("The link is below: pass it on."))
    return redirect("pool", pool=found.pk)


def _write_letters(request: PageRequest, pool: Pool, text: str) -> None:
    addresses, wrong = read_addresses(text)
    sent = invite_by_email(
        user=request.user, addresses=addresses, pool=pool, link=lambda one: invitation_link(request, one)
    )
    messages.success(request, _("%(count)d letters are on their way.") % {"count": len(sent)})
    for line, found in wrong[:20]:
        messages.warning(request, _("Line %(line)d is no address: %(found)s") % {"line": line, "found": found})


@owner_page("POST")
def invitation_revoke(request: PageRequest, pool: int, invitation: int) -> HttpResponse:
    found = get_object_or_404(Invitation, pk=invitation, pool=find_pool(request, pool))
    revoke_invitation(invitation=found, user=request.user)
    messages.success(request, _("The link leads nowhere now."))
    return redirect("pool", pool=pool)


@owner_page("POST")
def pool_members(request: PageRequest, pool: int) -> HttpResponse:
    """One verb for the ticked members."""
    ids = [int(pk) for pk in request.POST.getlist("member") if pk.isdecimal()]
    members = list(Membership.objects.filter(pool=find_pool(request, pool), pk__in=ids))
    verb: Any = MEMBER_VERBS.get(request.POST.get("verb", ""))
    if verb is not None and members:
        count = verb(memberships=members, user=request.user)
        messages.success(request, _("%(count)d members changed.") % {"count": count})
    return redirect("pool", pool=pool)


@owner_page("GET", "POST")
def pool_member(request: PageRequest, pool: int, teacher: UUID) -> HttpResponse:
    """What holds for one member alone: pay, capacity, categories, known rationality."""
    found = get_object_or_404(
        Membership.objects.select_related("teacher", "pool"), pool=find_pool(request, pool), teacher__code=teacher
    )
    form = MemberForm(request.POST or None, instance=found, initial={"rationality": found.rationality.get("")})
    if request.method == "POST" and form.is_valid():
        change_member(membership=found, user=request.user, **form.cleaned_data)
        messages.success(request, _("Stored."))
        return redirect("pool", pool=pool)
    return render(request, "annotation/pool_member.html", {"pool": found.pool, "member": found, "form": form})


def find_pool(request: PageRequest, pk: int) -> Pool:
    """The pool, if it is the user's to run. Raises Http404."""
    return get_object_or_404(visible_pools(request.user), pk=pk)


def invitation_link(request: PageRequest, invitation: Invitation) -> str:
    return request.build_absolute_uri(reverse("invitation", args=[invitation.token]))
