"""Greedy beside pessimistic on the responses that were given: where they differ, and what each is certified for."""

from pathlib import Path
from typing import Any

import numpy as np

from activelearning.algorithms.pessimism import certify
from training.algorithms.config import TrainingConfig
from training.algorithms.data import TrainingData
from training.algorithms.references import KIND, with_references_of

SILENT = 1e-9  # of the widest: what rounding leaves between responses that lie equally far


def contrast(config: TrainingConfig, data: TrainingData, *, folder: Path) -> dict[str, Any]:
    """For the prompts with two given responses or more: argmax of the mean against argmax of the lower bound.

    folder   the run's own, where its reference points lie if they were sampled
    differ   share of prompts that the two answer differently
    silent   share of prompts whose responses all lie equally far from the reference point: there the two must agree
    regret   the certificate (M13) of each; mean and lower are averages over the prompts of the reward's two figures
    """
    if config.reference_samples:
        data = with_references_of(data, folder / KIND)
    confidence = data.confidence(delta=config.delta, radius=config.radius)
    prompts = [prompt for prompt in data.candidates if prompt.features.shape[0] > 1]
    if not prompts:
        return {"prompts": 0}
    pairs = [(np.asarray(one.features, dtype=np.float64), data.reference_features[one.conversation]) for one in prompts]
    means = [confidence.means(features - reference) for features, reference in pairs]
    lowers = [confidence.lower(features - reference) for features, reference in pairs]
    widths = [confidence.widths(features - reference) for features, reference in pairs]
    found: dict[str, Any] = {"prompts": len(prompts), "radius": confidence.radius}
    picks = {"greedy": [int(row.argmax()) for row in means], "pessimistic": [int(row.argmax()) for row in lowers]}
    for name, chosen in picks.items():
        found[name] = {
            "mean": float(np.mean([row[pick] for row, pick in zip(means, chosen, strict=True)])),
            "lower": float(np.mean([row[pick] for row, pick in zip(lowers, chosen, strict=True)])),
            "regret": certify(confidence, pairs, chosen=[[pick] for pick in chosen]).regret,
        }
    found["silent"] = float(np.mean([np.ptp(row) <= SILENT * row.max() for row in widths]))
    found["differ"] = float(np.mean(np.array(picks["greedy"]) != np.array(picks["pessimistic"])))
    return found
