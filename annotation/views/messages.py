"""What teachers wrote to the admins, and the answers."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from annotation.models import Campaign, Message, Role
from annotation.services.notices import reply_to_message
from annotation.views.keyset import newest_first
from annotation.views.pages import PageRequest, staff_page, told


@staff_page("GET", role=Role.Name.ADMIN)
def campaign_messages(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """Newest first; those that wait for an answer where asked."""
    is_waiting = request.GET.get("show") == "waiting"
    found = Message.objects.filter(campaign=campaign).select_related("teacher", "offer__comparison", "replied_by")
    page = newest_first(request, found.filter(reply="") if is_waiting else found)
    context = {"campaign": campaign, "page": page, "is_waiting": is_waiting}
    return render(request, "annotation/campaign_messages.html", context)


@staff_page("POST", role=Role.Name.ADMIN)
def message_reply(request: PageRequest, campaign: Campaign, message: int) -> HttpResponse:
    found = get_object_or_404(Message, campaign=campaign, pk=message)
    text = request.POST.get("text", "")
    told(
        request,
        lambda: reply_to_message(message=found, user=request.user, text=text),
        _("Answered. The teacher sees it under Messages."),
    )
    return redirect("campaign_messages", code=campaign.code)
