"""Conversations: searched and paged by key, read one by one, taken out, put back, made gold, asked sooner."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotation.access import has_role
from annotation.forms.conversations import PriorityForm, gold_form
from annotation.models import Campaign, Comparison, Conversation, Role
from annotation.rendering import render_messages
from annotation.services.campaigns import put_back_comparisons, set_gold, set_priority, take_out_comparisons
from annotation.services.readings import count_labels, read_conversations
from annotation.services.search import search_conversations
from annotation.tasks import ask_for_replan
from annotation.views.keyset import PAGE, cut, read_key, read_ticked
from annotation.views.pages import PageRequest, staff_page, told

Verb = Callable[..., int]
VERBS: dict[str, Verb] = {"out": take_out_comparisons, "back": put_back_comparisons}


@staff_page("GET")
def campaign_conversations(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """The page after a key, of those that hold the words and are of the category."""
    text, category = request.GET.get("q", "").strip(), request.GET.get("category", "").strip()
    found = search_conversations(
        campaign=campaign, text=text, category=category, after=read_key(request, "after") or 0, limit=PAGE + 1
    )
    page = cut(found, PAGE)
    context = {
        "campaign": campaign,
        "page": page,
        "readings": read_conversations(page.rows),
        "text": text,
        "category": category,
        "is_admin": has_role(request.user, campaign=campaign, role=Role.Name.ADMIN),
    }
    return render(request, "annotation/campaign_conversations.html", context)


@staff_page("POST", role=Role.Name.ADMIN)
def conversations_change(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """Take the comparisons of the ticked conversations out, put them back, or give them a priority."""
    ids = read_ticked(request, "conversation")
    change_comparisons(request, campaign, Comparison.objects.filter(campaign=campaign, conversation__in=ids))
    return redirect("campaign_conversations", code=campaign.code)


def change_comparisons(request: PageRequest, campaign: Campaign, chosen: QuerySet[Comparison]) -> None:
    verb, form = VERBS.get(request.POST.get("verb", "")), PriorityForm(request.POST)
    count = 0
    if verb is not None:
        count = verb(campaign=campaign, comparisons=chosen, user=request.user)
    elif request.POST.get("verb") == "priority" and form.is_valid():
        count = set_priority(
            campaign=campaign, comparisons=chosen, user=request.user, priority=form.cleaned_data["priority"],
            due_at=form.due_at, clears_due=form.cleaned_data["clears_due"],
        )  # fmt: skip
    elif request.POST.get("verb") == "priority":
        messages.error(request, " ".join(str(error) for errors in form.errors.values() for error in errors))
    messages.success(
        request, ngettext("%(count)d comparison changed.", "%(count)d comparisons changed.", count) % {"count": count}
    )
    ask_for_replan(campaign.pk)


@staff_page("POST", role=Role.Name.ADMIN)
def conversation_change(request: PageRequest, campaign: Campaign, conversation: int) -> HttpResponse:
    """All comparisons of a conversation, or the one that was sent."""
    found = get_object_or_404(Conversation, campaign=campaign, pk=conversation)
    chosen, ids = Comparison.objects.filter(conversation=found), read_ticked(request, "comparison", most=500)
    change_comparisons(request, campaign, chosen.filter(pk__in=ids) if ids else chosen)
    return redirect("campaign_conversation", code=campaign.code, conversation=found.pk)


@staff_page("GET")
def campaign_conversation(request: PageRequest, campaign: Campaign, conversation: int) -> HttpResponse:
    """One conversation with its responses, its comparisons and their labels in number."""
    found = get_object_or_404(Conversation, campaign=campaign, pk=conversation)
    comparisons = Comparison.objects.filter(conversation=found).order_by("pk")
    responses = list(found.responses.order_by("pk"))
    letters = {response.pk: place for place, response in enumerate(responses, start=1)}
    labels = count_labels(list(comparisons))
    context = {
        "campaign": campaign,
        "conversation": found,
        "turns": render_messages(found.messages),
        "responses": [(response, letters[response.pk], render_messages(response.messages)) for response in responses],
        "comparisons": [
            (one, letters[one.a_id], letters[one.b_id], labels.get(one.pk, 0), gold_form(one)) for one in comparisons
        ],
        "is_admin": has_role(request.user, campaign=campaign, role=Role.Name.ADMIN),
        "priority_form": PriorityForm(),
    }
    return render(request, "annotation/campaign_conversation.html", context)


@staff_page("POST", role=Role.Name.ADMIN)
def comparison_gold(request: PageRequest, campaign: Campaign, comparison: int) -> HttpResponse:
    found = get_object_or_404(Comparison, campaign=campaign, pk=comparison)
    form = gold_form(found, request.POST)
    if form.is_valid():
        known: dict[str, Any] = form.cleaned_data
        told(request, lambda: set_gold(comparison=found, user=request.user, **known), _("The known answer is stored."))
        ask_for_replan(campaign.pk)
    else:
        messages.warning(request, _("A tutorial needs the known answer."))
    return redirect("campaign_conversation", code=campaign.code, conversation=found.conversation_id)
