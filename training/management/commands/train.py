"""`manage.py train CAMPAIGN --method rerank`: a run from here, seen through in this process, with its progress."""

import dataclasses
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotation.management.campaigns import find_campaign
from annotation.services.refusals import Refusal
from training.algorithms.config import METHODS, TrainingConfig
from training.models import Run, Work
from training.services.runs import read_config, start_run

TYPES = {"int": int, "float": float, "str": str}


class Command(BaseCommand):
    help = "Freeze a campaign's labels, fit the reward, train a policy and certify it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("campaign", help="the campaign's name, code or number")
        parser.add_argument("--method", default="rerank", choices=METHODS)
        parser.add_argument("--base-model", default="tiny", help="tiny, a hub id, or a path")
        parser.add_argument("--force", action="store_true", help="train although the design is deficient")
        parser.add_argument("--later", action="store_true", help="leave it to a worker of the gpu queue")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"any other setting: {', '.join(field.name for field in dataclasses.fields(TrainingConfig))}",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        values = {"method": options["method"], "base_model": options["base_model"], **read_settings(options["set"])}
        try:
            run = start_run(
                campaign=find_campaign(options["campaign"]),
                config=read_config(values),
                is_forced=options["force"],
                trigger="command line",
            )
        except Refusal as refusal:
            raise CommandError(str(refusal)) from refusal
        if options["later"]:
            self.stdout.write(f"Run {run.code} waits for a worker.")
            return
        from training.pipeline.supervision import supervise  # a second of imports that --later does not need

        supervise("run", run.pk)
        self.report(run)

    def report(self, run: Run) -> None:
        run.refresh_from_db()
        if run.state != Work.State.DONE:
            raise CommandError(f"The run {run.get_state_display().lower()}: {run.reason or 'see its log'}")
        policy = run.policy
        self.stdout.write(f"Policy {policy.code} lies in {policy.folder}.")
        reward = policy.evaluation.get("reward", {})
        if "accuracy" in reward:
            self.stdout.write(f"Held-out accuracy {reward['accuracy']:.3f} on {reward['labels']} labels.")
        if policy.certificate:
            self.stdout.write(f"Regret at most {policy.certificate['regret']:.3f} (M13).")


def read_settings(pairs: list[str]) -> dict[str, Any]:
    """["max_steps=5", …] by the types of the settings. raises CommandError for what is no setting, or no value of it"""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(TrainingConfig)}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in kinds:
            raise CommandError(f"There is no setting {name!r}.")
        kind = kinds[name].removesuffix(" | None").removeprefix("<class '").removesuffix("'>")
        try:
            found[name] = text.lower() in ("1", "true", "yes") if kind == "bool" else TYPES[kind](text)
        except ValueError as error:
            raise CommandError(f"{name} wants a value of type {kind}, not {text!r}.") from error
    return found
