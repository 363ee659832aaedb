"""Webhooks of a campaign: addresses of other programs, their secrets, and how the last deliveries went."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from annotation.forms.webhooks import WebhookForm
from annotation.models import Campaign, Role, Webhook, WebhookDelivery
from annotation.services.webhooks import add_webhook, switch_webhook
from annotation.views.pages import PageRequest, staff_page, told

SHOWN = 20
"""Deliveries on the page, and webhooks."""


@staff_page("GET", "POST", role=Role.Name.ADMIN)
def campaign_webhooks(request: PageRequest, campaign: Campaign) -> HttpResponse:
    form = WebhookForm(request.POST if request.method == "POST" else None)
    if form.is_valid() and told(
        request,
        lambda: add_webhook(campaign=campaign, user=request.user, **form.cleaned_data),
        _("Added. Its secret stands below: give it to the receiver."),
    ):
        return redirect("campaign_webhooks", code=campaign.code)
    deliveries = WebhookDelivery.objects.filter(webhook__campaign=campaign).select_related("webhook")
    context = {
        "campaign": campaign,
        "form": form,
        "webhooks": Webhook.objects.filter(campaign=campaign).order_by("-pk")[:SHOWN],
        "deliveries": deliveries.order_by("-pk")[:SHOWN],
    }
    return render(request, "annotation/campaign_webhooks.html", context)


@staff_page("POST", role=Role.Name.ADMIN)
def webhook_switch(request: PageRequest, campaign: Campaign, webhook: int) -> HttpResponse:
    """On or off, as the button said, so that a double click is one click."""
    found = get_object_or_404(Webhook, campaign=campaign, pk=webhook)
    switch_webhook(webhook=found, user=request.user, is_active=request.POST.get("to") == "on")
    return redirect("campaign_webhooks", code=campaign.code)
