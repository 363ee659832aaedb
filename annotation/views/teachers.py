"""The teachers of a campaign: the list with its bulk verbs, one teacher, and a withdrawal that shows itself before."""

from typing import Any
from uuid import UUID, uuid4

from django.contrib import messages
from django.contrib.auth import logout
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotation.access import visible_campaigns, visible_pools
from annotation.forms.ledger import BonusForm
from annotation.models import Campaign, Enrolment, Label, Membership, Role, Teacher, User
from annotation.services.ledger import balance, grant_bonus
from annotation.services.people import ANONYMISE, REMOVE, preview_withdrawal, withdraw_teacher
from annotation.services.pools import depart_members, readmit_members, suspend_members
from annotation.services.teachers import members_found, places_of
from annotation.tasks import ask_for_replan, replan_all
from annotation.views.keyset import oldest_first, read_ticked
from annotation.views.pages import PageRequest, page_of, staff_page, told

VERBS: dict[str, Any] = {"suspend": suspend_members, "depart": depart_members, "readmit": readmit_members}
WAYS = (REMOVE, ANONYMISE)
LABELS_SHOWN = 20


@staff_page("GET", "POST", role=Role.Name.ADMIN)
def campaign_teachers(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """Members of the campaign's pools; a post is one verb for those that are ticked."""
    if request.method == "POST":
        change_ticked(request, campaign)
        return redirect("campaign_teachers", code=campaign.code)
    text, status = request.GET.get("q", "").strip(), request.GET.get("status", "")
    page = oldest_first(request, members_found(campaign, text=text, status=status))
    context = {
        "campaign": campaign,
        "page": page,
        "places": places_of(campaign, page.rows),
        "statuses": Membership.Status.choices,
        "text": text,
        "status": status,
        "pools": campaign.pools.order_by("name"),
    }
    return render(request, "annotation/campaign_teachers.html", context)


def change_ticked(request: PageRequest, campaign: Campaign) -> None:
    verb = VERBS.get(request.POST.get("verb", ""))
    ids = read_ticked(request, "member")
    members = list(members_found(campaign).filter(pk__in=ids).distinct())
    if verb is None or not members:
        messages.warning(request, _("Tick the teachers first, then say what to do."))
        return
    count = verb(memberships=members, user=request.user)
    messages.success(
        request, ngettext("%(count)d teacher changed.", "%(count)d teachers changed.", count) % {"count": count}
    )
    ask_for_replan(campaign.pk)


@staff_page("GET", "POST", role=Role.Name.ADMIN)
def campaign_teacher(request: PageRequest, campaign: Campaign, teacher: UUID) -> HttpResponse:
    """One teacher in this campaign: counters, terms, money, the latest answers. A post grants a bonus."""
    found = find_teacher(campaign, teacher)
    form = BonusForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and told(
        request,
        lambda: grant_bonus(campaign=campaign, teacher=found, user=request.user, **form.cleaned_data),
        _("The bonus is booked."),
    ):
        return redirect("campaign_teacher", code=campaign.code, teacher=found.code)
    latest = Label.objects.filter(campaign=campaign, teacher=found).select_related("comparison").order_by("-pk")
    context = {
        "campaign": campaign,
        "teacher": found,
        "enrolment": Enrolment.objects.filter(campaign=campaign, teacher=found).first(),
        "members": Membership.objects.filter(teacher=found, pool__campaigns=campaign).select_related("pool"),
        "owed": balance(found, campaign=campaign),
        "labels": latest[:LABELS_SHOWN],
        "form": form,
        "movement": uuid4(),  # a page of its own, also after a refusal: what is sent from it is another bonus
        "may_withdraw": may_withdraw(request.user, found),
    }
    return render(request, "annotation/campaign_teacher.html", context)


@staff_page("GET", "POST", role=Role.Name.ADMIN)
def teacher_withdraw(request: PageRequest, campaign: Campaign, teacher: UUID) -> HttpResponse:
    """What a withdrawal would take, from every campaign; and, with a way chosen, the withdrawal."""
    found = find_teacher(campaign, teacher)
    if not may_withdraw(request.user, found):
        raise Http404
    how = request.POST.get("how", "")
    if request.method == "POST" and how in WAYS:
        withdraw_teacher(teacher=found, how=how, user=request.user)
        replan_all(Campaign.objects.filter(labels__teacher=found).distinct())
        messages.success(request, _("The teacher is withdrawn."))
        return redirect("campaign_teachers", code=campaign.code)
    context = {"campaign": campaign, "teacher": found, "effect": preview_withdrawal(found), "is_self": False}
    return render(request, "annotation/teacher_withdraw.html", context)


def find_self(user: User) -> Teacher:
    """The teacher that the user is. Raises Http404."""
    return get_object_or_404(Teacher, user=user, withdrawn_at__isnull=True)


@page_of(find_self, "GET", "POST", is_own=True)
def account_withdraw(request: PageRequest, found: Teacher) -> HttpResponse:
    """A teacher's own withdrawal from everything, shown before it is done."""
    how = request.POST.get("how", "")
    if request.method == "POST" and how in WAYS:
        withdraw_teacher(teacher=found, how=how, user=None)
        logout(request)
        replan_all(Campaign.objects.filter(labels__teacher=found).distinct())
        messages.success(request, _("You have withdrawn. Thank you for what you gave."))
        return redirect("account_login")
    return render(request, "annotation/teacher_withdraw.html", {
        "teacher": found, "effect": preview_withdrawal(found), "is_self": True,
    })  # fmt: skip


def find_teacher(campaign: Campaign, code: UUID) -> Teacher:
    """A member of the campaign's pools, or somebody who once worked in it. Raises Http404."""
    known = Teacher.objects.filter(memberships__pool__campaigns=campaign) | Teacher.objects.filter(
        enrolments__campaign=campaign
    )
    return get_object_or_404(known.select_related("user").distinct(), code=code)


def may_withdraw(user: User, teacher: Teacher) -> bool:
    """It touches every campaign and pool of the teacher: a superuser may, or whoever runs all of them."""
    administered = visible_campaigns(user, role=Role.Name.ADMIN)
    elsewhere = Campaign.objects.filter(enrolments__teacher=teacher).exclude(pk__in=administered.values("pk"))
    others = Membership.objects.filter(teacher=teacher, status=Membership.Status.ACTIVE).exclude(
        pool__in=visible_pools(user)
    )
    return teacher.withdrawn_at is None and not elsewhere.exists() and not others.exists()
