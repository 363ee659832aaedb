"""Imports: an upload, its progress, the rows that were left out, and recorded judgements that become labels."""

from dataclasses import dataclass
from functools import partial
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.db import transaction
from django.db.models import Sum
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from annotation.forms.campaigns import UploadForm
from annotation.imports import start_import
from annotation.models import Adoption, Campaign, ImportJob, Role
from annotation.services.adoptions import ask_for_adoption
from annotation.services.judgements import judges_of
from annotation.tasks import send_quietly
from annotation.views.pages import PageRequest, staff_page, told

SHOWN = 20
PROBLEMS_SHOWN = 200
JUDGES_SECONDS = 3600
JUDGES_SUGGESTED = 500
"""Names to choose from. A file may have a name for each of a hundred thousand votes; others are typed."""


@staff_page("GET", "POST", role=Role.Name.ADMIN)
def campaign_imports(request: PageRequest, campaign: Campaign) -> HttpResponse:
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        upload = form.cleaned_data["file"]
        job = start_import(campaign=campaign, name=upload.name, file=upload, user=request.user)
        transaction.on_commit(lambda: send_quietly(settings.IMPORT_TASK, job.pk))
        return redirect("campaign_import", code=campaign.code, job=job.code)
    adoptions = campaign.adoptions.order_by("-id")[:SHOWN]
    context = {
        "campaign": campaign,
        "form": form,
        "jobs": campaign.imports.order_by("-id")[:SHOWN],
        "judges": judges_found(campaign),
        "adoptions": adoptions,
        "is_adopting": any(one.state in (ImportJob.State.WAITING, ImportJob.State.RUNNING) for one in adoptions),
    }
    is_fragment = request.htmx.target == "adoptions"
    return render(request, f"annotation/{'_adoptions' if is_fragment else 'campaign_imports'}.html", context)


@dataclass(frozen=True)
class Judges:
    """Whom the data records as judges."""

    names: list[str]
    """The first of those with a name."""
    count: int
    """Of all with a name."""
    has_unnamed: bool


def judges_found(campaign: Campaign) -> Judges:
    """They are looked for once after each import: it costs a walk over all judgements."""
    brought = campaign.imports.aggregate(Sum("judgements_added"))["judgements_added__sum"] or 0
    key = f"judges-found-{campaign.pk}-{brought}"
    return cache.get_or_set(key, lambda: read_judges(campaign), JUDGES_SECONDS) or read_judges(campaign)


def read_judges(campaign: Campaign) -> Judges:
    named = judges_of(campaign).exclude(judge="")
    names = list(named[:JUDGES_SUGGESTED])
    count = named.count() if len(names) == JUDGES_SUGGESTED else len(names)
    return Judges(names, count, has_unnamed=judges_of(campaign).filter(judge="").exists())


@staff_page("GET", role=Role.Name.ADMIN)
def campaign_import(request: PageRequest, campaign: Campaign, job: UUID) -> HttpResponse:
    """One import; its fragment refreshes until it is finished."""
    found = get_object_or_404(ImportJob, campaign=campaign, code=job)
    is_finished = found.state in (ImportJob.State.DONE, ImportJob.State.FAILED)
    context = {
        "campaign": campaign,
        "job": found,
        "is_finished": is_finished,
        "problems": found.problems.all()[:PROBLEMS_SHOWN],
    }
    template = "annotation/_import.html" if request.htmx else "annotation/campaign_import.html"
    return render(request, template, context)


def send_adoption(adoption: Adoption) -> None:
    transaction.on_commit(partial(send_quietly, "annotation.adopt", adoption.pk))


@staff_page("POST", role=Role.Name.ADMIN)
def campaign_judgements(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """An admin says so: what one recorded judge chose becomes labels, of a teacher who stands for that judge."""
    judge = request.POST.get("judge", "")
    if not judges_of(campaign).filter(judge=judge).exists():
        messages.warning(request, _("No judge of this name is recorded here. Choose a name from the list."))
    else:
        told(
            request,
            lambda: send_adoption(ask_for_adoption(campaign=campaign, judge=judge, user=request.user)),
            _("The recorded judgements are becoming labels."),
        )
    return redirect("campaign_imports", code=campaign.code)
