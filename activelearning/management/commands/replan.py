"""`manage.py replan CAMPAIGN`: one plan, here and now; with --replay, whether old plans still come out the same."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from activelearning.models import Estimate, Plan
from activelearning.pipeline import replan, replay
from annotation.management.campaigns import find_campaign


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


class Command(BaseCommand):
    help = "Refit a campaign's estimate and fill its teachers' queues, or replay its plans."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("campaign", help="the campaign's name, code or number")
        parser.add_argument("--replay", type=positive, metavar="N", help="choose the last N plans again and compare")

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = find_campaign(options["campaign"])
        if options["replay"]:
            plans = Plan.objects.filter(campaign=campaign).order_by("-id")[: options["replay"]]
            kept = [plan for plan in plans if plan.inputs]
            differing = [plan for plan in kept if not replay(plan).is_same]
            if differing:
                raise CommandError(f"{len(differing)} of {len(kept)} plans came out differently: {differing[0].code}.")
            self.stdout.write(f"All of {len(kept)} plans came out the same.")
            if len(kept) < len(plans):
                self.stdout.write(f"The inputs of {len(plans) - len(kept)} older ones are no longer kept.")
            return
        offered = replan(campaign.pk)
        estimate = Estimate.objects.filter(campaign=campaign).order_by("-id").first()
        self.stdout.write(f"{offered} offers were made.")
        if estimate is not None:
            self.stdout.write(f"The estimate rests on {estimate.label_count} labels: {estimate.log_det:.2f} nats.")
