"""Rehearse a campaign: simulated teachers answer through the real pages, for its strategy and for another one."""

import os
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from activelearning.arrays import load_pool
from activelearning.models import Estimate, Projection
from activelearning.rehearsal.browsing import Browser, NotServed
from activelearning.rehearsal.cloning import copy_campaign
from activelearning.rehearsal.curve import Curve, draw_curves, print_curves, read_curve
from activelearning.rehearsal.people import Actor, cast_recorded, cast_simulated
from activelearning.rehearsal.play import find_losses, play
from activelearning.rehearsal.truth import Truth, is_rehearsable, planted_truth, recorded_truth
from annotation.management.campaigns import find_campaign
from annotation.models import Campaign, RecordedJudgement
from annotation.tasks import ask_for_replan


class Command(BaseCommand):
    help = (
        "Let simulated teachers sign in and answer through the pages of the running platform, in copies of a campaign:"
        " one with its own strategy, one with another. Prints accuracy on held-out recorded choices against labels."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("campaign", help="name, code or id of a campaign")
        parser.add_argument("--teachers", type=int, default=20, help="how many simulated teachers")
        parser.add_argument("--labels", type=int, default=500, help="how many each strategy gets")
        parser.add_argument("--judges", action="store_true", help="replay the identified judges of the data instead")
        parser.add_argument("--against", default="uniform", help="the other strategy; an empty word for none")
        parser.add_argument(
            "--rationality", nargs=2, type=float, default=[0.3, 3.0], metavar=("LOW", "HIGH"),
            help="of the simulated teachers, drawn between these",
        )  # fmt: skip
        parser.add_argument("--think", type=float, default=0.0, help="mean seconds before each answer")
        parser.add_argument("--seed", type=int, default=1, help="of the truth, the teachers and their answers")
        parser.add_argument(
            "--site",
            default=f"http://127.0.0.1:{os.environ.get('PORT', '8000')}",
            help="where the platform answers; without it this machine's, at PORT",
        )
        parser.add_argument("--picture", type=Path, help="where to draw the curves (.svg, .png)")

    def handle(self, *args: Any, **options: Any) -> None:
        source = find_campaign(options["campaign"])
        strategies = list(dict.fromkeys(name for name in (source.strategy, options["against"]) if name))
        try:
            Browser(options["site"], patience=5).open_desk("/account/login/")
            self.wait_for_features(source)
            curves = [self.rehearse(source, strategy, options) for strategy in strategies]
        except (NotServed, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(print_curves(curves))
        if options["picture"]:
            draw_curves(curves, options["picture"], title=f"{source.name}: accuracy against labels")
            self.stdout.write(f"Drawn in {options['picture']}")

    def wait_for_features(self, campaign: Campaign) -> None:
        """Embedding runs in a worker; the rehearsal begins once every comparison has features."""
        ask_for_replan(campaign.pk)
        with tqdm(desc="features", unit="comparison", total=campaign.comparison_count) as bar:
            while True:
                projection = Projection.objects.filter(campaign=campaign).order_by("-id").first()
                pool = load_pool(campaign, projection)
                ready = int(pool.has_features.sum()) if projection else 0
                bar.update(ready - bar.n)
                if projection and len(pool) and ready == len(pool):
                    return
                time.sleep(1)

    def rehearse(self, source: Campaign, strategy: str, options: dict[str, Any]) -> Curve:
        rng = Random(options["seed"])
        campaign = copy_campaign(
            source,
            name=f"{source.name} · rehearsal of {strategy}",
            strategy=strategy,
            content_warnings={},
            label_target=None,
            overlap_limit=max(source.overlap_limit, 8) if options["judges"] else source.overlap_limit,
        )
        truth = self.find_truth(campaign)
        actors = self.cast(campaign, options, rng=rng)
        self.stdout.write(f"{campaign.name}: {len(actors)} teachers, {options['labels']} labels, {campaign.code}")
        ask_for_replan(campaign.pk)
        started = time.monotonic()
        with tqdm(desc=strategy, unit="label", total=options["labels"]) as bar:
            accepted = play(
                campaign,
                actors,
                truth,
                site=options["site"],
                labels=options["labels"],
                seed=options["seed"],
                think_seconds=options["think"],
                on_label=bar.update,
            )
        seconds = time.monotonic() - started
        lost = find_losses(accepted)
        self.stdout.write(
            f"{len(accepted)} answers accepted in {seconds:.1f} s ({len(accepted) / seconds:.1f} a second),"
            f" {len(lost)} lost"
        )
        if lost:
            raise ValueError(f"Accepted answers are not stored as they were given: {', '.join(lost[:5])}")
        self.wait_for_estimate(campaign)
        Campaign.objects.filter(pk=campaign.pk).update(state=Campaign.State.CLOSED)
        return read_curve(campaign, truth)

    def find_truth(self, campaign: Campaign) -> Truth:
        if is_rehearsable(campaign):
            return recorded_truth(campaign)
        projection = Projection.objects.filter(campaign=campaign).order_by("-id").first()
        while projection is None:  # made by the worker once it sees the copied features
            time.sleep(0.5)
            projection = Projection.objects.filter(campaign=campaign).order_by("-id").first()
        pool = load_pool(campaign, projection)
        return planted_truth(pool.ids, pool.design.astype(np.float64), seed=campaign.seed)

    def cast(self, campaign: Campaign, options: dict[str, Any], *, rng: Random) -> list[Actor]:
        if not options["judges"]:
            low, high = options["rationality"]
            return cast_simulated(campaign, count=options["teachers"], rationality=(low, high), rng=rng)
        named = RecordedJudgement.objects.filter(comparison__campaign=campaign).exclude(judge="")
        if not named.exists():
            raise ValueError("The data names no judges: leave --judges out to simulate teachers.")
        return cast_recorded(campaign, count=None)

    def wait_for_estimate(self, campaign: Campaign) -> None:
        """The last labels are learned from within seconds; a curve without its end would be wrong."""
        for _try in range(60):
            campaign.refresh_from_db()
            if Estimate.objects.filter(campaign=campaign, label_version__gte=campaign.label_version).exists():
                return
            ask_for_replan(campaign.pk)
            time.sleep(1)
        raise ValueError("The planner did not learn from the last labels within a minute: see the worker's log.")
