"""What the platform tells a campaign's staff: money, target, queues, runs."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import ngettext

from annotation.models import Campaign
from annotation.services.notices import read_notices
from annotation.views.keyset import newest_first
from annotation.views.pages import PageRequest, staff_page


@staff_page("GET", "POST")
def campaign_notices(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """All of them, newest first; a click marks them as read, for everybody."""
    if request.method == "POST":
        count = read_notices(campaign=campaign)
        messages.success(
            request,
            ngettext("%(count)d notice is read now.", "%(count)d notices are read now.", count) % {"count": count},
        )
        return redirect("campaign_notices", code=campaign.code)
    context = {
        "campaign": campaign,
        "page": newest_first(request, campaign.notices.all()),
        "has_unread": campaign.notices.filter(read_at__isnull=True).exists(),
    }
    return render(request, "annotation/campaign_notices.html", context)
