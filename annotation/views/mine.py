"""What the site keeps about the person who is signed in: their work, their settings, and all of it as a file."""

from collections.abc import Iterator
from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.decorators import login_required
from django.core.serializers.json import DjangoJSONEncoder
from django.forms import Form
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import get_language
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods

from annotation.access import taught_campaigns
from annotation.forms.hours import HoursForm, TimeOffForm, ZoneForm
from annotation.languages import codes_of
from annotation.models import (
    Adjudication,
    AuditEntry,
    Enrolment,
    Label,
    LedgerEntry,
    Membership,
    Message,
    Offer,
    Role,
    Teacher,
    User,
)
from annotation.services.enrolments import set_languages
from annotation.services.news import teacher_of_token, want_news
from annotation.services.people import set_preferences
from annotation.views.pages import PageRequest, page_of

CHUNK = 500
LABEL_FIELDS = (
    "campaign__name", "offer__code", "comparison_id", "b_first", "choice", "strength", "criteria", "ranking",
    "reason", "is_flagged", "seconds", "state", "cost", "created_at", "guidelines__version",
)  # fmt: skip
MEMBERSHIP_FIELDS = (
    "pool__name", "status", "accepted_terms", "joined_at", "label_count", "cost_per_label", "capacity",
)  # fmt: skip


def own_teacher(user: User) -> Teacher | None:
    """The teacher that the user is; None where they only run or look."""
    return Teacher.objects.filter(user=user).first()


own_verb = page_of(own_teacher, "POST", is_own=True, page="account")
"""Something done on the page of oneself."""


@login_required
@require_GET
def account(request: PageRequest) -> HttpResponse:
    return show_account(request)


def show_account(request: PageRequest, **forms: Form) -> HttpResponse:
    """The page of oneself, with a form that could not be taken in place of a fresh one."""
    teacher = own_teacher(request.user)
    enrolments = Enrolment.objects.filter(teacher=teacher).select_related("campaign").order_by("-id") if teacher else []
    context = {
        "teacher": teacher,
        "enrolments": enrolments,
        "open_codes": set(taught_campaigns(request.user).values_list("code", flat=True)),
        "accepted_warnings": request.user.preferences.get("accepted_warnings", []),
        "is_away": teacher is not None and teacher.away_until is not None and teacher.away_until > timezone.now(),
        "zone_form": ZoneForm(initial={"time_zone": request.user.time_zone}),
        "time_off_form": TimeOffForm(),
        "hours_form": HoursForm(hours=teacher.working_hours if teacher else []),
        **forms,
    }
    return render(request, "annotation/account.html", context)


@own_verb
def allow_warnings(request: PageRequest, teacher: Teacher | None) -> HttpResponse:
    """Take back an opt-out, or an acceptance, of a content warning: it stands before its category again."""
    category = request.POST.get("category", "")
    accepted = request.user.preferences.get("accepted_warnings", [])
    if category in accepted:
        set_preferences(user=request.user, accepted_warnings=[name for name in accepted if name != category])
    if teacher is not None:
        declined = [name for name in teacher.declined_warnings if name != category]
        Teacher.objects.filter(pk=teacher.pk).update(declined_warnings=declined)
    return redirect("account")


@own_verb
def choose_languages(request: PageRequest, teacher: Teacher | None) -> HttpResponse:
    """The languages that one reads, as words or codes with commas between; none means all."""
    if teacher is not None:
        set_languages(teacher=teacher, languages=codes_of(request.POST.get("languages", "")[:500].split(",")))
    return redirect("account")


@own_verb
def choose_news(request: PageRequest, teacher: Teacher | None) -> HttpResponse:
    """Letters when there is work again, on or off. Their links lead to the address that the teacher came by."""
    if teacher is not None:
        origin = request.build_absolute_uri("/") if request.POST.get("news") == "on" else ""
        want_news(teacher=teacher, origin=origin, language=get_language() or "")
    return redirect("account")


@csrf_exempt  # a mail program posts here by itself (RFC 8058); the token is what allows it
@require_http_methods(["GET", "POST"])
def stop_news(request: HttpRequest, news: str) -> HttpResponse:
    """From a letter, without signing in. Only a POST stops them: mail filters open every link."""
    teacher = teacher_of_token(news)
    if teacher is None:
        return render(request, "annotation/news_stop.html", {"is_known": False}, status=410)
    if request.method == "POST":
        want_news(teacher=teacher, origin="")
    return render(request, "annotation/news_stop.html", {"is_known": True, "wants_news": bool(teacher.news_origin)})


@login_required
@require_GET
def data(request: PageRequest) -> StreamingHttpResponse:
    """Everything about oneself, streamed, so that years of work come in flat memory."""
    written = _write_data(request.user, own_teacher(request.user))
    response = StreamingHttpResponse(written, content_type="application/json")
    response["Content-Disposition"] = 'attachment; filename="my-data.json"'
    return response


def _write_data(user: User, teacher: Teacher | None) -> Iterator[str]:
    """One JSON object; the lists in it row by row."""
    dump = DjangoJSONEncoder(ensure_ascii=False).encode
    person = {
        "username": user.username,
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "date_joined": user.date_joined,
        "last_login": user.last_login,
        "time_zone": user.time_zone,
        "preferences": user.preferences,
    }
    yield f'{{"written_at": {dump(timezone.now())}, "account": {dump(person)}'
    if teacher is not None:
        known = (
            "pseudonym",
            "last_seen",
            "away_until",
            "working_hours",
            "declined_warnings",
            "languages",
            "created_at",
            "told_at",
            "external",
        )
        yield f', "teacher": {dump({name: getattr(teacher, name) for name in known})}'
    for name, rows in _lists(user, teacher):
        yield f', "{name}": ['
        for place, row in enumerate(rows):
            yield (", " if place else "") + dump(row)
        yield "]"
    yield "}\n"


def _lists(user: User, teacher: Teacher | None) -> Iterator[tuple[str, Iterator[Any]]]:
    addresses = EmailAddress.objects.filter(user=user).order_by("pk")
    yield "addresses", addresses.values("email", "verified", "primary").iterator(CHUNK)
    connected = SocialAccount.objects.filter(user=user).order_by("pk")
    yield (
        "connected_accounts",
        connected.values("provider", "uid", "extra_data", "date_joined", "last_login").iterator(CHUNK),
    )
    yield "roles", Role.objects.filter(user=user).order_by("pk").values("campaign__name", "name").iterator(CHUNK)
    decided = Adjudication.objects.filter(reviewer=user).order_by("pk")
    yield (
        "decisions",
        decided.values("campaign__name", "comparison_id", "verdict", "note", "state", "created_at").iterator(CHUNK),
    )
    acts = AuditEntry.objects.filter(user=user).order_by("pk")
    yield "audit", acts.values("campaign__name", "verb", "object", "created_at").iterator(CHUNK)
    if teacher is None:
        return
    memberships = Membership.objects.filter(teacher=teacher)
    yield "memberships", memberships.values(*MEMBERSHIP_FIELDS).iterator(CHUNK)
    enrolments = Enrolment.objects.filter(teacher=teacher)
    yield (
        "enrolments",
        enrolments.values("campaign__name", "stage", "label_count", "earned", "joined_at").iterator(CHUNK),
    )
    yield "labels", Label.objects.filter(teacher=teacher).order_by("pk").values(*LABEL_FIELDS).iterator(CHUNK)
    skipped = Offer.objects.filter(teacher=teacher, state=Offer.State.SKIPPED)
    yield "skips", skipped.values("campaign__name", "comparison_id", "skip_reason", "closed_at").iterator(CHUNK)
    sent = Message.objects.filter(teacher=teacher)
    yield "messages", sent.values("campaign__name", "text", "reply", "created_at", "replied_at").iterator(CHUNK)
    paid = LedgerEntry.objects.filter(teacher=teacher, account=LedgerEntry.Account.TEACHER)
    yield "ledger", paid.values("amount", "currency", "memo", "created_at").iterator(CHUNK)
