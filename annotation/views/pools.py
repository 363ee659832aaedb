"""Pools: their terms, their members, and the invitations that lead into them."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from annotation.access import visible_campaigns, visible_pools
from annotation.forms.people import InviteForm, MemberForm, PoolForm
from annotation.models import Invitation, Membership, Pool, User
from annotation.services.invitations import invite, invite_by_email, read_addresses, revoke_invitation
from annotation.services.letters import AT_ONCE, failed_letters, retry_letters
from annotation.services.panels import panel_key
from annotation.services.pools import (
    change_member,
    change_terms,
    create_pool,
    depart_members,
    readmit_members,
    suspend_members,
)
from annotation.services.refusals import Refusal
from annotation.tasks import replan_all, send_quietly
from annotation.views.keyset import oldest_first, read_sent, read_ticked
from annotation.views.pages import PageRequest, find_owner, page_of, told

PAGE = 50
MOST_BYTES = 1_000_000
"""Of a file of addresses."""
MEMBER_VERBS = {"suspend": suspend_members, "depart": depart_members, "readmit": readmit_members}


def find_pool(user: User, pk: int) -> Pool:
    """The pool, if it is the user's to run. Raises Http404."""
    return get_object_or_404(visible_pools(user), pk=pk)


@page_of(find_owner, "GET", "POST")
def pools(request: PageRequest, user: User) -> HttpResponse:
    form = PoolForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made: list[Pool] = []
        if told(request, lambda: made.append(create_pool(user=user, **form.cleaned_data)), ""):
            return redirect("pool", pool=made[0].pk)
    context = {"pools": visible_pools(user).order_by("name")[:PAGE], "form": form}
    return render(request, "annotation/pools.html", context)


@page_of(find_pool, "GET", "POST", key="pool")
def pool(request: PageRequest, pool: Pool) -> HttpResponse:
    """One pool: terms to change, members a page at a time by key, open invitations."""
    form = PoolForm(request.POST or None, instance=pool)
    if request.method == "POST" and form.is_valid():
        stored = Pool.objects.get(pk=pool.pk)
        if told(
            request,
            lambda: change_terms(pool=stored, user=request.user, **form.cleaned_data),
            _("The terms are stored."),
        ):
            return redirect("pool", pool=pool.pk)
    members = pool.memberships.select_related("teacher__user")
    if sought := request.GET.get("q", "").strip():
        members = members.filter(teacher__pseudonym__istartswith=sought)
    page = oldest_first(request, members, size=PAGE)
    context = {
        "pool": pool,
        "form": form,
        "invite_form": InviteForm(),
        "page": page,
        "sought": sought,
        "invitations": [
            (one, invitation_link(request, one))
            for one in pool.invitations.usable().select_related("letter").order_by("-pk")[:PAGE]
        ],
        "failed": failed_letters(pool)[:PAGE],
        "panel_link": request.build_absolute_uri(reverse("panel", args=[panel_key(pool)])),
        "campaigns": visible_campaigns(request.user).filter(pools=pool).order_by("name"),
    }
    return render(request, "annotation/pool.html", context)


@page_of(find_pool, "POST", key="pool")
def pool_invite(request: PageRequest, pool: Pool) -> HttpResponse:
    """A link to pass on; or, where addresses are given, a letter to each."""
    form = InviteForm(request.POST, request.FILES)
    if not form.is_valid():
        messages.warning(request, _("Say for how many people the link is, from 1 to 10000."))
        return redirect("pool", pool=pool.pk)
    lists = [form.cleaned_data["addresses"]]
    if file := form.cleaned_data["file"]:
        if file.size > MOST_BYTES:
            messages.warning(request, _("This file is too large, and nobody was invited: at most 1 MB. Divide it."))
            return redirect("pool", pool=pool.pk)
        lists.append(file.read().decode("utf-8", errors="replace"))
    if any(text.strip() for text in lists):
        _write_letters(request, pool, lists)
    else:
        invite(user=request.user, pool=pool, uses=form.cleaned_data["uses"])
        messages.success(request, _("The link is below: pass it on."))
    return redirect("pool", pool=pool.pk)


def _write_letters(request: PageRequest, pool: Pool, lists: list[str]) -> None:
    """What was typed and what was uploaded are read one by one: each may have its own header."""
    try:
        read = [read_addresses(text) for text in lists]
    except Refusal as refusal:
        messages.warning(request, str(refusal))
        return
    letters = invite_by_email(
        user=request.user,
        pool=pool,
        addresses=list(dict.fromkeys(address for found, _wrong in read for address in found)),
        origin=request.build_absolute_uri("/"),
        language=get_language() or "en",
    )
    _send(request, letters)
    wrong = [one for _found, lines in read for one in lines]
    for line, text in wrong[:20]:
        messages.warning(request, _("Line %(line)d is no address: %(found)s") % {"line": line, "found": text})


def _send(request: PageRequest, letters: list[int]) -> None:
    """To the workers; what is beyond a request's share the beat finds."""
    for letter_id in letters[:AT_ONCE]:
        send_quietly("annotation.send_letter", letter_id)
    messages.success(
        request,
        ngettext("%(count)d letter is on its way.", "%(count)d letters are on their way.", len(letters))
        % {"count": len(letters)},
    )


@page_of(find_pool, "POST", key="pool")
def letters_retry(request: PageRequest, pool: Pool) -> HttpResponse:
    """Send a letter that was given up once more; or all of them, where the button names none."""
    failed = failed_letters(pool)
    if request.POST.get("letter"):
        failed = failed.filter(pk=read_sent(request, "letter"))
    _send(request, retry_letters(letters=failed, user=request.user))
    return redirect("pool", pool=pool.pk)


@page_of(find_pool, "POST", key="pool")
def invitation_revoke(request: PageRequest, pool: Pool, invitation: int) -> HttpResponse:
    found = get_object_or_404(Invitation, pk=invitation, pool=pool)
    revoke_invitation(invitation=found, user=request.user)
    messages.success(request, _("The link leads nowhere now."))
    return redirect("pool", pool=pool.pk)


@page_of(find_pool, "POST", key="pool")
def pool_members(request: PageRequest, pool: Pool) -> HttpResponse:
    """One verb for the ticked members."""
    members = list(Membership.objects.filter(pool=pool, pk__in=read_ticked(request, "member")))
    verb: Any = MEMBER_VERBS.get(request.POST.get("verb", ""))
    if verb is not None and members:
        count = verb(memberships=members, user=request.user)
        messages.success(request, _("%(count)d members changed.") % {"count": count})
        replan_all(pool.campaigns.all())
    return redirect("pool", pool=pool.pk)


@page_of(find_pool, "GET", "POST", key="pool")
def pool_member(request: PageRequest, pool: Pool, teacher: UUID) -> HttpResponse:
    """What holds for one member alone: pay, capacity, categories, known rationality."""
    found = get_object_or_404(Membership.objects.select_related("teacher", "pool"), pool=pool, teacher__code=teacher)
    form = MemberForm(request.POST or None, instance=found, initial={"rationality": found.rationality.get("")})
    if request.method == "POST" and form.is_valid():
        change_member(membership=found, user=request.user, **form.cleaned_data)
        messages.success(request, _("Stored."))
        return redirect("pool", pool=pool.pk)
    return render(request, "annotation/pool_member.html", {"pool": pool, "member": found, "form": form})


def invitation_link(request: PageRequest, invitation: Invitation) -> str:
    return request.build_absolute_uri(reverse("invitation", args=[invitation.token]))
