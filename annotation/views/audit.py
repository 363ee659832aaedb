"""The audit trail of a campaign: who did what to what."""

from django.http import HttpResponse
from django.shortcuts import render

from annotation.models import AuditEntry, Campaign, Role
from annotation.views.keyset import newest_first
from annotation.views.pages import PageRequest, staff_page


@staff_page("GET", role=Role.Name.ADMIN)
def campaign_audit(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """Newest first, of one user where asked."""
    found = AuditEntry.objects.filter(campaign=campaign).select_related("user")
    sought = request.GET.get("user", "").strip()
    page = newest_first(request, found.filter(user__username=sought) if sought else found)
    return render(request, "annotation/campaign_audit.html", {"campaign": campaign, "page": page, "sought": sought})
