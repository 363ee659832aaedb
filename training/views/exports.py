"""Exports: label sets, freezing one now, and downloads that stream."""

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from annotation.models import Campaign
from annotation.tasks import send_quietly
from annotation.views.keyset import newest_first
from training.datasets.exports import ROWS, WRITERS, export, rationalities_of
from training.datasets.frozen import freeze, lines_of, pack_left, read_lines
from training.models import LabelSet
from training.services.freezing import ask_to_freeze
from training.views.pages import PageRequest, research_page

AT_ONCE = 5000  # labels that are frozen within the request; more are frozen by a worker
TYPES = {
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
    "gzip": "application/gzip",
}
PAGE = 25


@research_page("GET", "POST")
def exports(request: PageRequest, campaign: Campaign) -> HttpResponse:
    if request.method == "POST":
        if campaign.label_count > AT_ONCE:
            asked = ask_to_freeze(campaign=campaign, user=request.user)
            transaction.on_commit(lambda: send_quietly("training.freeze", asked.pk))
        else:
            label_set = freeze(campaign, user=request.user)
            messages.success(
                request,
                _("%(count)d labels are frozen as %(digest)s.")
                % {"count": label_set.label_count, "digest": label_set.short_digest},
            )
        return redirect("exports", code=campaign.code)
    context = {
        "campaign": campaign,
        "page": newest_first(request, LabelSet.objects.filter(campaign=campaign), size=PAGE),
        "unerased": LabelSet.objects.filter(campaign=campaign).exclude(erasing_error="").defer("tombstones"),
        "freezing": campaign.freeze_requests.first(),
        "kinds": list(ROWS),
        "formats": list(WRITERS),
    }
    return render(request, "training/exports.html", context)


@research_page("GET")
def export_labels(request: PageRequest, campaign: Campaign, kind: str, format: str) -> StreamingHttpResponse:
    """The labels of this moment."""
    check(kind, format)
    rationalities = rationalities_of(campaign)
    pieces = export(lines_of(campaign), kind=kind, format=format, rationalities=rationalities)
    return download(pieces, name=f"{kind}.{format}", format=format)


@research_page("GET")
def export_label_set(
    request: PageRequest, campaign: Campaign, label_set: int, kind: str, format: str
) -> StreamingHttpResponse:
    """The labels of a frozen set, less those that were withdrawn since."""
    check(kind, format)
    row = get_object_or_404(LabelSet, campaign=campaign, pk=label_set)
    rationalities = rationalities_of(campaign)
    pieces = export(read_lines(row), kind=kind, format=format, rationalities=rationalities)
    return download(pieces, name=f"{kind}-{row.short_digest}.{format}", format=format)


@research_page("GET")
def download_label_set(request: PageRequest, campaign: Campaign, label_set: int) -> StreamingHttpResponse:
    """The frozen lines themselves: what the digest was computed over, less what was withdrawn since."""
    row = get_object_or_404(LabelSet, campaign=campaign, pk=label_set)
    return download(pack_left(row), name=f"label-set-{row.short_digest}.jsonl.gz", format="gzip")


def check(kind: str, format: str) -> None:
    if kind not in ROWS or format not in WRITERS:
        raise Http404


def download(pieces: Any, *, name: str, format: str) -> StreamingHttpResponse:
    response = StreamingHttpResponse(pieces, content_type=TYPES[format])
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
