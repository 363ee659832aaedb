"""Import conversations from a file, a folder or a hub id into a campaign, with a progress bar."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db.models import CharField
from tqdm import tqdm

from annotation.imports import SAMPLE, finish, hub_source, located, run_import, start_source_import
from annotation.management.campaigns import find_campaign
from annotation.models import Campaign, ImportJob, User
from annotation.services.campaigns import create_campaign

PROBLEMS_SHOWN = 20
STOPPED = "Stopped by hand. What went in stays; import it again for the rest."


class Command(BaseCommand):
    """manage.py import_conversations CAMPAIGN SOURCE"""

    help = __doc__ or ""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("campaign", help="the campaign's name, code or number")
        parser.add_argument(
            "source",
            help="a file (.jsonl, .jsonl.gz, .json, .parquet), a folder, a hub id such as org/name, or `sample`",
        )
        parser.add_argument("--new", action="store_true", help="make a draft campaign of that name if there is none")
        parser.add_argument("--split", help="the split of a hub set (default: train)")
        parser.add_argument("--config", help="the configuration of a hub set that has several")
        parser.add_argument("--revision", help="the revision of a hub set: a branch, a tag or a commit")

    def handle(self, *args: Any, **options: Any) -> None:
        source = str(SAMPLE) if options["source"] == "sample" else options["source"]
        try:
            if not Path(source).is_file():
                source = hub_source(
                    source, config=options["config"], split=options["split"], revision=options["revision"]
                )
            check_length(ImportJob._meta.get_field("source"), located(source))
        except OSError as error:
            raise CommandError(f"{source} cannot be read: {error.strerror}.") from error
        campaign = make_campaign(options["campaign"]) if options["new"] else find_campaign(options["campaign"])
        job = start_source_import(campaign=campaign, source=source)
        self.report(follow(job))

    def report(self, job: ImportJob) -> None:
        self.stdout.write(
            f"{job.format}: {job.conversations_added:,} conversations imported with {job.comparisons_added:,} "
            f"comparisons and {job.judgements_added:,} recorded judgements; "
            f"{job.conversations_known:,} were there already."
        )
        if job.problem_count:
            self.stdout.write(f"Left out, {job.problem_count:,}:")
        for problem in job.problems.all()[:PROBLEMS_SHOWN]:
            self.stdout.write(f"  line {problem.line}: {problem.reason}")
        if job.problem_count > PROBLEMS_SHOWN:
            self.stdout.write("  … the campaign's page lists the others.")
        if job.state == ImportJob.State.FAILED:
            raise CommandError(job.reason)


def follow(job: ImportJob) -> ImportJob:
    with tqdm(desc=job.name[-40:], unit="B", unit_scale=True, leave=False) as bar:

        def show(done: int, total: int | None) -> None:
            if total is None:
                bar.unit = " rows"
            bar.total = total
            bar.update(done - bar.n)

        try:
            return run_import(job.pk, on_progress=show)
        except KeyboardInterrupt:  # else the beat would give it to a worker
            finish(job, state=ImportJob.State.FAILED, reason=STOPPED)
            return job


def check_length(field: CharField[Any, Any], text: str) -> None:
    """SQLite would take it, PostgreSQL would not. raises CommandError."""
    try:
        field.run_validators(text)
    except ValidationError as error:
        raise CommandError(f"The {field.verbose_name}: {' '.join(error.messages)}") from error


def make_campaign(name: str) -> Campaign:
    """The campaign of that name, or a new draft that belongs to the first superuser. raises CommandError."""
    if found := Campaign.objects.filter(name=name).first():
        return found
    check_length(Campaign._meta.get_field("name"), name)
    owner = User.objects.filter(is_superuser=True).order_by("pk").first()
    if owner is None:
        raise CommandError("A campaign needs an owner: manage.py createsuperuser.")
    return create_campaign(user=owner, name=name)
