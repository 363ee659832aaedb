"""What does the reward say of this text, and how sure is it? A form, a row, and a page that follows."""

from uuid import UUID

from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from annotation.models import Campaign
from annotation.services.refusals import Refusal
from training.forms import RewardForm
from training.models import RewardQuestion
from training.services.questions import ask_reward
from training.tasks import ask_for_answer
from training.views.pages import PageRequest, research_page

KEPT = 10  # questions listed on the page


@research_page("GET", "POST")
def reward(request: PageRequest, campaign: Campaign) -> HttpResponse:
    form = RewardForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            question = ask_reward(
                campaign=campaign, prompt=form.cleaned_data["prompt"], responses=form.responses, user=request.user
            )
        except Refusal as refusal:
            form.add_error(None, str(refusal))
        else:
            transaction.on_commit(lambda: ask_for_answer(question.pk))
            return redirect("reward_answer", code=campaign.code, question=question.code)
    questions = RewardQuestion.objects.filter(campaign=campaign)[:KEPT]
    context = {"campaign": campaign, "form": form, "questions": questions}
    return render(request, "training/reward.html", context, status=422 if form.errors else 200)


@research_page("GET")
def reward_answer(request: PageRequest, campaign: Campaign, question: UUID) -> HttpResponse:
    row = get_object_or_404(RewardQuestion, campaign=campaign, code=question)
    figures = row.answer.get("responses", [])
    answers = [
        {"text": text, **(figures[place] if place < len(figures) else {})} for place, text in enumerate(row.responses)
    ]
    context = {"campaign": campaign, "question": row, "answers": answers}
    template = "training/_reward_answer.html" if request.htmx else "training/reward_answer.html"
    return render(request, template, context)
