"""Greedy beside pessimistic on the responses that were given: where they differ, and what each is certified for."""

from typing import Any

import numpy as np

from activelearning.algorithms.pessimism import certify
from training.algorithms.config import TrainingConfig
from training.algorithms.data import TrainingData


def contrast(config: TrainingConfig, data: TrainingData) -> dict[str, Any]:
    """For the prompts with two given responses or more: argmax of the mean against argmax of the lower bound.

    differ   share of prompts that the two answer differently
    regret   the certificate (M13) of each; mean and lower are averages over the prompts of the reward's two figures
    """
    confidence = data.confidence(delta=config.delta, radius=config.radius)
    prompts = [prompt for prompt in data.candidates if prompt.features.shape[0] > 1]
    if not prompts:
        return {"prompts": 0}
    pairs = [(np.asarray(one.features, dtype=np.float64), data.reference_features[one.conversation]) for one in prompts]
    means = [confidence.means(features - reference) for features, reference in pairs]
    lowers = [confidence.lower(features - reference) for features, reference in pairs]
    found: dict[str, Any] = {"prompts": len(prompts), "radius": confidence.radius}
    picks = {"greedy": [int(row.argmax()) for row in means], "pessimistic": [int(row.argmax()) for row in lowers]}
    for name, chosen in picks.items():
        found[name] = {
            "mean": float(np.mean([row[pick] for row, pick in zip(means, chosen, strict=True)])),
            "lower": float(np.mean([row[pick] for row, pick in zip(lowers, chosen, strict=True)])),
            "regret": certify(confidence, pairs, chosen=[[pick] for pick in chosen]).regret,
        }
    found["differ"] = float(np.mean(np.array(picks["greedy"]) != np.array(picks["pessimistic"])))
    return found
