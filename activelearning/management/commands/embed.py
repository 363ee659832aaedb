"""`manage.py embed CAMPAIGN`: compute the features that are missing, here and now."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from activelearning.models import EmbeddingProgress
from activelearning.pipeline import embed
from activelearning.pipeline.embedding import current_projection
from annotation.management.campaigns import find_campaign


class Command(BaseCommand):
    help = "Compute the features that a campaign's responses lack."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("campaign", help="the campaign's name, code or number")

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = find_campaign(options["campaign"])
        if not embed(campaign.pk):
            raise CommandError("A worker is computing this campaign's features at the moment. Wait until it is done.")
        progress = EmbeddingProgress.objects.get(campaign=campaign)
        self.stdout.write(f"{progress.done} responses have features.")
        if projection := current_projection(campaign):
            self.stdout.write(
                f"{projection.dimensions} dimensions keep {projection.kept_variance:.0%} of what differs in a prompt."
            )
