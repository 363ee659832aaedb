"""Runs: the list, starting one, following it, stopping it, and the rules by which they start."""

from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from activelearning.models import Estimate
from annotation.models import Campaign
from annotation.services.refusals import Refusal
from annotation.views.keyset import newest_first
from training.algorithms.config import TrainingConfig
from training.forms import ResumeForm, RuleForm, StartRunForm
from training.models import Method, Run, RunMetric, StartRule
from training.plots import line_plot
from training.services.rules import add_rule, switch_rule
from training.services.runs import cancel_run, deficiency_of, is_silent, read_config, resume_run, start_run
from training.tasks import ask_for_work
from training.views.pages import PageRequest, research_page, svg, theme_of

PLOTS = {
    "loss": gettext_lazy("Loss"),
    "reward_margin": gettext_lazy("Reward margin"),
    "accuracy": gettext_lazy("Accuracy on the batch"),
    "kl": gettext_lazy("KL estimate on the batch"),
    "reward": gettext_lazy("Reward"),
    "pessimism": gettext_lazy("Pessimism"),
    "tokens_per_second": gettext_lazy("Tokens per second"),
    "gpu_memory_gib": gettext_lazy("GPU memory in GiB"),
}
PAGE = 25


@research_page("GET", "POST")
def runs(request: PageRequest, campaign: Campaign) -> HttpResponse:
    form = StartRunForm(request.POST or None, campaign=campaign)
    if request.method == "POST" and form.is_valid():
        try:
            run = start_run(
                campaign=campaign,
                config=form.config,
                user=request.user,
                is_forced=form.cleaned_data["is_forced"],
                label_set=form.cleaned_data["label_set"],
                parent=form.cleaned_data["parent"],
            )
        except Refusal as refusal:
            form.add_error(None, str(refusal))
        else:
            enqueue(run)
            return redirect("run", code=campaign.code, run=run.code)
    started = Run.objects.filter(campaign=campaign).select_related("label_set", "policy", "parent__run")
    estimate = Estimate.objects.filter(campaign=campaign).order_by("-id").first()
    context = {
        "campaign": campaign,
        "form": form,
        "page": newest_first(request, started, size=PAGE),
        "estimate": estimate,
        "deficiency": deficiency_of(estimate),
        "is_silent": is_silent(campaign, TrainingConfig()),
        "methods": list(Method),
        "rules": StartRule.objects.filter(campaign=campaign).order_by("id"),
    }
    return render(request, "training/runs.html", context, status=422 if form.errors else 200)


@research_page("GET")
def run(request: PageRequest, campaign: Campaign, run: UUID) -> HttpResponse:
    row = get_object_or_404(Run.objects.select_related("label_set", "policy", "parent"), campaign=campaign, code=run)
    numbers = RunMetric.objects.filter(run=row, stage="train")
    last = numbers.order_by("-step").first()
    seen = {name for values in numbers.order_by("-step").values_list("values", flat=True)[:20] for name in values}
    context = {
        "campaign": campaign,
        "run": row,
        "last": last,
        "plots": [(name, title) for name, title in PLOTS.items() if name in seen],
        "policy": getattr(row, "policy", None),
        "method": Method(row.method),
        "is_silent": is_silent(campaign, read_config(row.config)),
        "step_text": str(row.step),
        "share": round(100 * row.step / row.steps) if row.steps else None,
    }
    return render(request, "training/_run.html" if request.htmx else "training/run.html", context)


@research_page("GET")
def run_plot(request: PageRequest, campaign: Campaign, run: UUID, name: str) -> HttpResponse:
    row = get_object_or_404(Run, campaign=campaign, code=run)
    if name not in PLOTS:
        raise Http404
    rows = RunMetric.objects.filter(run=row, stage="train").values_list("step", "values").order_by("step")
    points = [(step, float(values[name])) for step, values in rows if isinstance(values.get(name), int | float)]
    return svg(line_plot([(str(PLOTS[name]), points)], x=_("step"), y=name, theme=theme_of(request)))


@research_page("POST")
def run_cancel(request: PageRequest, campaign: Campaign, run: UUID) -> HttpResponse:
    row = get_object_or_404(Run, campaign=campaign, code=run)
    cancel_run(run=row)
    messages.info(request, _("The run stops at its next step and keeps its last checkpoint."))
    return redirect("run", code=campaign.code, run=run)


@research_page("POST")
def run_resume(request: PageRequest, campaign: Campaign, run: UUID) -> HttpResponse:
    row = get_object_or_404(Run, campaign=campaign, code=run)
    form = ResumeForm(request.POST)
    limit = form.cleaned_data["time_limit_minutes"] if form.is_valid() else None
    try:
        resume_run(run=row, time_limit_seconds=None if limit is None else limit * 60)
    except Refusal as refusal:
        messages.error(request, str(refusal))
    else:
        enqueue(row)
    return redirect("run", code=campaign.code, run=run)


@research_page("GET", "POST")
def start_rules(request: PageRequest, campaign: Campaign) -> HttpResponse:
    form = RuleForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            add_rule(
                campaign=campaign,
                kind=form.cleaned_data["kind"],
                threshold=form.cleaned_data["threshold"],
                config=form.config,
            )
        except Refusal as refusal:
            form.add_error("threshold", str(refusal))
        else:
            messages.success(request, _("A run will start by itself when the threshold is met."))
            return redirect("start_rules", code=campaign.code)
    rules = StartRule.objects.filter(campaign=campaign).order_by("id")
    context = {
        "campaign": campaign,
        "form": form,
        "rules": rules,
        "is_silent": is_silent(campaign, TrainingConfig()),
        "methods": list(Method),
    }
    return render(request, "training/start_rules.html", context, status=422 if form.errors else 200)


@research_page("POST")
def switch_start_rule(request: PageRequest, campaign: Campaign, rule: int) -> HttpResponse:
    row = get_object_or_404(StartRule, campaign=campaign, pk=rule)
    switch_rule(rule=row, is_active=request.POST.get("active") == "yes")
    return redirect("start_rules", code=campaign.code)


def enqueue(row: Run) -> None:
    transaction.on_commit(lambda: ask_for_work("run", row.pk))
