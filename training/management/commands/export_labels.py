"""`manage.py export_labels CAMPAIGN FILE`: labels as preferences, ties or whole labels; frozen first with --freeze."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotation.management.campaigns import find_campaign
from training.datasets.exports import ROWS, WRITERS, export, rationalities_of
from training.datasets.frozen import freeze, lines_of, read_lines
from training.models import LabelSet


class Command(BaseCommand):
    help = "Write a campaign's labels to a file that TRL and datasets load."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("campaign", help="the campaign's name, code or number")
        parser.add_argument("file", type=Path, help="where to write; its ending says the format: " + ", ".join(WRITERS))
        parser.add_argument("--kind", choices=list(ROWS), default="preferences")
        parser.add_argument("--freeze", action="store_true", help="freeze the labels first, and export the label set")
        parser.add_argument(
            "--label-set", metavar="DIGEST", help="export this label set; the digest's beginning is enough"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        campaign, path = find_campaign(options["campaign"]), options["file"]
        format = path.suffix.removeprefix(".")
        if format not in WRITERS:
            raise CommandError(f"The file's name must end in one of: {', '.join(WRITERS)}.")
        lines = lines_of(campaign)
        if options["label_set"]:
            lines = read_lines(self.find_label_set(campaign.pk, options["label_set"]))
        elif options["freeze"]:
            label_set = freeze(campaign)
            self.stdout.write(f"Froze {label_set.label_count} labels as {label_set.digest}.")
            lines = read_lines(label_set)
        partial = path.with_name(f"{path.name}.partial")
        pieces = export(lines, kind=options["kind"], format=format, rationalities=rationalities_of(campaign))
        try:
            with partial.open("wb") as target:
                target.writelines(pieces)
            partial.replace(path)
        except OSError as error:
            raise CommandError(f"{path} could not be written: {error.strerror}.") from error
        self.stdout.write(f"Wrote {path} ({path.stat().st_size} bytes).")

    def find_label_set(self, campaign: int, digest: str) -> LabelSet:
        found = list(LabelSet.objects.filter(campaign_id=campaign, digest__startswith=digest)[:2])
        if len(found) != 1:
            raise CommandError(f"{'Several label sets begin' if found else 'No label set begins'} with {digest!r}.")
        return found[0]
