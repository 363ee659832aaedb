"""The first page after signing in: desks to sit at, and campaigns to look after."""

from django.contrib.auth.decorators import login_required
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotation.access import may_own, taught_campaigns, visible_campaigns
from annotation.models import Enrolment, Membership, User
from annotation.services.panels import completion_link

SHOWN = 12
"""Campaigns on the first page; the rest are a click away."""


def ways_back(user_id: int) -> list[tuple[Membership, str]]:
    """Where a panel's participant goes at the end, once they have answered something."""
    sent = Membership.objects.filter(
        teacher__user_id=user_id, label_count__gt=0, status=Membership.Status.ACTIVE
    ).exclude(pool__completion_url="")
    links = [(member, completion_link(member)) for member in sent.select_related("pool", "teacher")[:SHOWN]]
    return [(member, link) for member, link in links if link]


@login_required
@require_GET
def home(request: HttpRequest) -> HttpResponse:
    enrolments = Enrolment.objects.filter(teacher__user_id=request.user.pk or 0)
    context = {
        "taught": taught_campaigns(request.user).order_by("name")[:SHOWN],
        "answers": dict(enrolments.values_list("campaign_id", "label_count")),
        "unread_terms": Membership.objects.filter(
            teacher__user_id=request.user.pk or 0,
            status=Membership.Status.ACTIVE,
            accepted_terms__lt=F("pool__terms_version"),
        ).select_related("pool")[:SHOWN],
        "ways_back": ways_back(request.user.pk or 0),
        "may_own": isinstance(request.user, User) and may_own(request.user),
        "run": visible_campaigns(request.user).order_by("-id")[:SHOWN],
    }
    return render(request, "annotation/home.html", context)
