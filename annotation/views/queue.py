"""The live queue: what waits for whom, what lies on a desk, and until when."""

from django.contrib import messages
from django.db.models import Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import ngettext

from annotation.models import Campaign, Offer, Role
from annotation.services.offers import withdraw_offers
from annotation.tasks import ask_for_replan
from annotation.views.keyset import PAGE, Page, cut, read_key, read_ticked
from annotation.views.pages import PageRequest, staff_page


@staff_page("GET", role=Role.Name.ADMIN)
def campaign_queue(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """Live offers only, teacher by teacher in the order of their queues; the fragment refreshes itself."""
    state, sought = request.GET.get("state", ""), request.GET.get("teacher", "").strip()
    context = {
        "campaign": campaign,
        "page": read_queue(request, campaign, state=state, sought=sought),
        "state": state if state in Offer.LIVE else "",
        "states": [(one.value, one.label) for one in Offer.LIVE],
        "sought": sought,
        "after": read_key(request, "after"),
        "now": timezone.now(),
    }
    return render(request, f"annotation/{'_queue' if request.htmx else 'campaign_queue'}.html", context)


def read_queue(request: PageRequest, campaign: Campaign, *, state: str, sought: str) -> Page[Offer]:
    """The page after an offer, in the order of the index `offer_queue`: teacher, rank, id."""
    live = Offer.objects.filter(campaign=campaign, state__in=[state] if state in Offer.LIVE else Offer.LIVE)
    if sought:
        live = live.filter(teacher__pseudonym__istartswith=sought)
    last = Offer.objects.filter(campaign=campaign, pk=read_key(request, "after") or 0).first()
    if last is not None:
        live = live.filter(
            Q(teacher_id__gt=last.teacher_id)
            | Q(teacher_id=last.teacher_id, rank__gt=last.rank)
            | Q(teacher_id=last.teacher_id, rank=last.rank, pk__gt=last.pk)
        )
    rows = live.select_related("teacher", "comparison").order_by("teacher_id", "rank", "pk")
    return cut(list(rows[: PAGE + 1]), PAGE)


@staff_page("POST", role=Role.Name.ADMIN)
def queue_withdraw(request: PageRequest, campaign: Campaign) -> HttpResponse:
    """Take the ticked offers back, from desks too; the planner finds other work for their teachers."""
    ids = read_ticked(request, "offer")
    count = withdraw_offers(offers=Offer.objects.filter(campaign=campaign, pk__in=ids), also_held=True)
    messages.success(
        request,
        ngettext("%(count)d offer is taken back.", "%(count)d offers are taken back.", count) % {"count": count},
    )
    ask_for_replan(campaign.pk)
    return redirect("campaign_queue", code=campaign.code)
