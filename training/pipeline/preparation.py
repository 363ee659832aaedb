"""From a run's row to the data it trains on: freeze, embed what is missing, fit on the frozen labels alone."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from django.db.models import Max

from activelearning.algorithms.estimation import fit
from activelearning.algorithms.features import Projection as Pca
from activelearning.algorithms.rationality import fit_jointly
from activelearning.algorithms.types import Floats
from activelearning.arrays import load_pool
from activelearning.models import Embedding, Projection
from activelearning.pipeline.embedding import current_projection, embed
from activelearning.pipeline.estimating import PULL, next_ridge
from activelearning.pipeline.known import latest
from activelearning.storage import read_arrays
from annotation.models import Campaign, Comparison
from training.algorithms.config import TrainingConfig
from training.algorithms.data import Preference, TrainingData, count_labels
from training.datasets.arrays import (
    Features,
    Judged,
    candidate_ids,
    candidates_of,
    labels_of,
    preferences_of,
    read_pairs,
    recorded_pairs,
)
from training.datasets.exports import Rationalities, rationalities_of, rationality_of
from training.datasets.frozen import read_lines
from training.models import LabelSet, Run
from training.pipeline.forgetting import SEEN, count_withdrawn, is_outdated, start_over
from training.pipeline.supervision import log_path
from training.services.runs import deficiency, encoder_named

EMBED_PATIENCE = 1800.0  # seconds to wait for another process that computes the features


class CannotTrain(Exception):
    """The data do not carry the run; the sentence says why and what to do."""


@dataclass(frozen=True)
class Fit:
    """The reward on the frozen labels, and the rationality of each (teacher, category) by which others are judged too.

    information  (d, d)  H of the labels; where rationalities are estimated, what is left after not knowing them (M10)
    least        the smallest eigenvalue of H (M4) in either case
    """

    theta: Floats
    information: Floats
    ridge: float
    rationality: Rationalities
    least: float


def prepare(run: Run, *, label_set: LabelSet, folder: Path) -> TrainingData:
    """The run's data, made once and kept in its folder: a resumed run trains on the very same arrays.

    Unless labels were withdrawn since: then what came of the old ones goes, and it begins anew on those that remain.

    raises  CannotTrain, BrokenLabelSet
    """
    kept = folder / "data"
    if kept.exists() and is_outdated(kept, label_set=label_set):
        start_over(folder, but=log_path(run))
    if not kept.exists():
        partial = folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        seen = count_withdrawn(label_set)  # before the lines are read: who withdraws meanwhile counts as not yet seen
        data = build(run, label_set=label_set)
        partial.mkdir(parents=True)
        (partial / SEEN).write_text(str(seen))  # first: what a full disk or a death leaves here is found by it
        data.save(partial)
        partial.rename(kept)
    return TrainingData.load(kept)


def build(run: Run, *, label_set: LabelSet) -> TrainingData:
    """Read the label set, fit on it, and gather the prompts that the policy will answer."""
    campaign = run.campaign
    stated = _stated(campaign)  # before the lines, which take minutes: who leaves meanwhile has one name in both
    judged = read_pairs(read_lines(label_set))
    if not judged.fitted:
        raise CannotTrain("The label set has no label that may be learned from: all are held out, or of other arms.")
    features, row = load_features(campaign)
    _check_features(judged, features)
    config = TrainingConfig.from_json(run.config)
    ridge = next_ridge(campaign, latest(campaign))
    fitted = fit_reward(judged, features, stated=stated, ridge=ridge)
    if not run.is_forced and (reason := deficiency(fitted.least, ridge=ridge)):
        raise CannotTrain(reason)
    preferences = preferences_of(judged.fitted, features, rationality=fitted.rationality)
    if not any(row.target != 0.5 for row in preferences) and config.method != "rerank":
        raise CannotTrain("Every label is a tie: there is no preference to train a model on.")
    held_out = preferences_of(judged.held_out, features, rationality=fitted.rationality)
    pairs = recorded_pairs(campaign, known=judged.held_out)
    pairs = [pair for pair in pairs if features.has(pair.a["id"]) and features.has(pair.b["id"])]
    recorded = preferences_of(pairs, features, rationality={})
    return TrainingData(
        preferences=preferences,
        held_out=[*held_out, *recorded],
        candidates=list(candidates_of(candidate_ids(campaign), features)),
        theta=fitted.theta,
        information=fitted.information,
        ridge=ridge,
        projection=Pca(**read_arrays(row.file)),
        encoder=encoder_named(row.encoder),
        label_set=label_set.digest,
        lineage={
            "campaign": str(campaign.code),
            "run": str(run.code),
            "label_set": label_set.digest,
            "estimate": str(run.estimate.code) if run.estimate else "",
            "parent": str(run.parent.code) if run.parent else "",
            "held_out": _say_held_out(judged, held_out, recorded),
        },
    )


def _stated(campaign: Campaign) -> Rationalities | None:
    """None where rationalities are to be estimated on the labels."""
    is_estimated = campaign.rationality_mode == Campaign.RationalityMode.ESTIMATED
    return None if is_estimated else rationalities_of(campaign)


def _say_held_out(judged: Judged, labels: Sequence[Preference], recorded: Sequence[Preference]) -> str:
    count = count_labels(labels)
    silent = len({pair.label for pair in judged.held_out}) - count
    said = f"{count} labels, {len(recorded)} recorded judgements"
    return f"{said} (left out for a rationality that is not above 0: {silent})" if silent else said


def fit_reward(judged: Judged, features: Features, *, stated: Rationalities | None, ridge: float) -> Fit:
    """theta_hat on the frozen labels (M5), with rationalities as stated or, jointly, estimated (M10)."""
    labels = labels_of(judged, features)
    if stated is None:
        joint = fit_jointly(labels, teachers=len(judged.teachers), categories=len(judged.categories), ridge=ridge)
        least = float(np.linalg.eigvalsh(joint.information)[0])
        return Fit(joint.theta, joint.marginal_information, ridge, _named(judged, joint.rationality), least)
    rationality = np.array(
        [[rationality_of(stated, teacher, name) for name in judged.categories] for teacher in judged.teachers]
    )
    estimate = fit(labels, rationality=rationality, ridge=ridge, bias_prior=PULL)
    least = float(np.linalg.eigvalsh(estimate.information)[0])
    return Fit(estimate.theta, estimate.information, ridge, stated, least)


def load_features(campaign: Campaign) -> tuple[Features, Projection]:
    """phi of every response of the campaign, and the projection that made it; what is missing is computed first.

    raises  CannotTrain  there are too few responses to have features
    """
    started = time.monotonic()
    while not has_features(campaign) and not embed(campaign.pk) and time.monotonic() - started < EMBED_PATIENCE:
        time.sleep(1.0)
    by_encoder = Projection.objects.filter(campaign=campaign, encoder=campaign.encoder).order_by("-id")
    row = current_projection(campaign) or by_encoder.first()
    if row is None:
        raise CannotTrain(
            "The campaign's texts have no features of its encoder. Import conversations with two responses or more, "
            "or resume once they are embedded."
        )
    pool = load_pool(campaign, row)
    return Features(ids=pool.response_ids, matrix=pool.phi), row


def has_features(campaign: Campaign) -> bool:
    """Whether the campaign's encoder has a projection, and has embedded every response that somebody judged."""
    rows = {"campaign": campaign, "encoder": campaign.encoder}
    if not Projection.objects.filter(**rows).exists():
        return False
    last = Embedding.objects.filter(**rows).aggregate(last=Max("last_response"))["last"] or 0
    newest = Comparison.objects.filter(campaign=campaign, labels__isnull=False).aggregate(last=Max("b_id"))["last"] or 0
    return bool(newest <= last)


def _check_features(judged: Judged, features: Features) -> None:
    """raises CannotTrain where a judged response has no features"""
    missing = [one for one in judged.responses.tolist() if not features.has(one)]
    if missing:
        raise CannotTrain(
            f"{len(missing)} responses of the label set have no features yet. Resume once they are embedded."
        )


def _named(judged: Judged, rationality: Floats) -> Rationalities:
    """(k, c) by names, and under "" each teacher's mean, for categories that the fit has not seen."""
    found = {
        (teacher, category): float(rationality[k, c])
        for k, teacher in enumerate(judged.teachers)
        for c, category in enumerate(judged.categories)
    }
    return found | {(teacher, ""): float(rationality[k].mean()) for k, teacher in enumerate(judged.teachers)}
