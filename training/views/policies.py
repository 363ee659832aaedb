"""Policies: what one is and is certified for, taking it away, and letting it write for the pool."""

import json
import math
import zipfile
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Q
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from annotation.models import Campaign, Label, Response
from annotation.services.refusals import Refusal
from training.datasets.exports import Sink
from training.forms import GenerateForm
from training.models import Generation, LabelSet, Policy, Run
from training.plots import line_plot
from training.services.generations import author_of, start_generation
from training.services.work import ask_to_cancel
from training.storage import files_of
from training.tasks import ask_for_work
from training.views.pages import PageRequest, research_page, svg, theme_of

PIECE = 1024 * 1024
PLOTS = ("curve", "best_of_n", "reliability")


@research_page("GET")
def policy(request: PageRequest, campaign: Campaign, policy: UUID) -> HttpResponse:
    row = get_object_or_404(
        Policy.objects.select_related("run__label_set", "run__estimate"), campaign=campaign, code=policy
    )
    return render(request, "training/policy.html", page_context(campaign, row, GenerateForm()))


@research_page("POST")
def policy_generate(request: PageRequest, campaign: Campaign, policy: UUID) -> HttpResponse:
    row = get_object_or_404(Policy, campaign=campaign, code=policy)
    form = GenerateForm(request.POST)
    if form.is_valid():
        try:
            generation = start_generation(policy=row, user=request.user, **form.cleaned_data)
        except Refusal as refusal:
            form.add_error(None, str(refusal))
        else:
            transaction.on_commit(lambda: ask_for_work("generation", generation.pk))
            messages.success(request, _("The policy writes. Its responses will enter the pool as comparisons."))
            return redirect("policy", code=campaign.code, policy=policy)
    return render(request, "training/policy.html", page_context(campaign, row, form), status=422)


@research_page("POST")
def generation_cancel(request: PageRequest, campaign: Campaign, generation: UUID) -> HttpResponse:
    row = get_object_or_404(Generation, policy__campaign=campaign, code=generation)
    ask_to_cancel(row)
    return redirect("policy", code=campaign.code, policy=row.policy.code)


@research_page("GET")
def policy_plot(request: PageRequest, campaign: Campaign, policy: UUID, name: str) -> HttpResponse:
    row = get_object_or_404(Policy, campaign=campaign, code=policy)
    if name not in PLOTS:
        raise Http404
    figures = row.evaluation.get("policy", {})
    if name == "reliability":
        bins = row.evaluation.get("reward", {}).get("reliability", [])
        points = [(sure, share) for sure, share, _count in bins]
        return svg(
            line_plot(
                [(_("held-out labels"), points)],
                x=_("confidence"),
                y=_("share right"),
                theme=theme_of(request),
                diagonal=True,
            )
        )
    rows = figures.get(name, [])
    if name == "curve":
        lines = [(_("mean"), "mean"), (_("lower bound"), "lower")]
        return svg(line_plot(_lines(rows, lines), x=_("KL to the reference"), y=_("reward"), theme=theme_of(request)))
    lines = [
        (_("greedy, mean"), "greedy_mean"),
        (_("greedy, lower bound"), "greedy_lower"),
        (_("pessimistic, mean"), "pessimistic_mean"),
        (_("pessimistic, lower bound"), "pessimistic_lower"),
    ]
    return svg(line_plot(_lines(rows, lines), x=_("KL to the reference"), y=_("reward"), theme=theme_of(request)))


@research_page("GET")
def policy_download(request: PageRequest, campaign: Campaign, policy: UUID) -> StreamingHttpResponse:
    """The policy's folder as a zip, streamed: what the manifest names, and nothing else."""
    row = get_object_or_404(Policy, campaign=campaign, code=policy)
    names = files_of(row.manifest)
    if any(not default_storage.exists(f"{row.folder}/{name}") for name in names):
        raise Http404(_("The policy's files are not on this server."))
    stem = f"policy-{str(row.code)[:8]}"
    response = StreamingHttpResponse(zip_stream(row.folder, names, stem=stem), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{stem}.zip"'
    return response


@research_page("GET")
def lineage(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """Rounds: label set, estimate, policy, responses, labels."""
    runs = Run.objects.filter(campaign=campaign).select_related("label_set", "estimate", "policy", "parent")
    rounds = [(run, _written(run)) for run in runs.filter(policy__isnull=False).order_by("id")]
    frozen = LabelSet.objects.filter(campaign=campaign, runs__isnull=True).order_by("id")
    return render(request, "training/lineage.html", {"campaign": campaign, "rounds": rounds, "unused": frozen})


def page_context(campaign: Campaign, row: Policy, form: GenerateForm) -> dict[str, Any]:
    figures = row.evaluation.get("policy", {})
    generations = Generation.objects.filter(policy=row)
    return {
        "campaign": campaign,
        "policy": row,
        "run": row.run,
        "form": form,
        "reward": row.evaluation.get("reward", {}),
        "figures": figures,
        "coverage": figures.get("coverage", {}),
        "silent": row.evaluation.get("fit", {}).get("silent"),
        "contrast": row.evaluation.get("contrast", {}),
        "certificate": row.certificate,
        "odds": preferred_over(row.certificate),
        "config": sorted(row.manifest.get("config", {}).items()),
        "files": sorted(row.manifest.get("files", {}).items()),
        "manifest": json.dumps(row.manifest, indent=1, sort_keys=True),
        "generations": generations,
        "is_writing": generations.filter(state__in=("waiting", "running")).exists(),
        "plots": [name for name in PLOTS if figures.get(name) or row.evaluation.get("reward", {}).get(name)],
    }


def preferred_over(certificate: dict[str, Any]) -> float | None:
    """The regret as a chance: how often a teacher of rationality 1 prefers a response that is better by so much."""
    regret = certificate.get("regret")
    return 1 / (1 + math.exp(-min(regret, 700.0))) if isinstance(regret, int | float) else None


def zip_stream(folder: str, names: list[str], *, stem: str) -> Iterator[bytes]:
    """A zip of stored files, handed out while it is written: nothing is held but a piece of one file."""
    sink = Sink()
    with zipfile.ZipFile(sink, mode="w", compression=zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in names:
            entry = zipfile.ZipInfo(f"{stem}/{name}", date_time=(2026, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            stored = default_storage.open(f"{folder}/{name}")
            with stored as source, archive.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(PIECE):
                    target.write(piece)
                    yield sink.drain()
            yield sink.drain()
    yield sink.drain()


def _lines(rows: list[dict[str, float]], names: list[tuple[str, str]]) -> list[tuple[str, list[tuple[float, float]]]]:
    """Lines over `kl`; sampled KL is not monotone in the path, so the points are put in order."""
    ordered = sorted(rows, key=lambda row: row["kl"])
    return [(title, [(row["kl"], row[name]) for row in ordered if name in row]) for title, name in names]


def _written(run: Run) -> dict[str, int]:
    """What the run's policy wrote, and what people have said of it against the responses of others since."""
    author = author_of(run.policy)
    of_a, of_b = Q(comparison__a__author=author), Q(comparison__b__author=author)
    labels = Label.objects.filter(campaign=run.campaign, state=Label.State.CURRENT).filter(of_a ^ of_b)
    a_won = Q(b_first=False, choice="first") | Q(b_first=True, choice="second")
    b_won = Q(b_first=True, choice="first") | Q(b_first=False, choice="second")
    return {
        "responses": Response.objects.filter(conversation__campaign=run.campaign, author=author).count(),
        "labels": labels.count(),
        "preferred": labels.filter((of_a & a_won) | (of_b & b_won)).count(),
    }
