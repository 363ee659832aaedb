"""A label set small enough to train on in a second, and an encoder that costs nothing."""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from activelearning.algorithms.features import Projection
from activelearning.algorithms.types import Singles
from training.algorithms.config import TrainingConfig
from training.algorithms.data import Candidates, Preference, TrainingData

RAW = 16


class HashEncoder:
    """Vectors drawn from a text's checksum: the same text, the same vector, and no model behind it."""

    def encode(self, texts: Sequence[str], /) -> Singles:
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=RAW) for text in texts]
        table = np.stack(rows).astype(np.float32)
        return table / np.linalg.norm(table, axis=1, keepdims=True)


def make_data(*, prompts: int = 6, responses: int = 3, width: int = 4, seed: int = 0) -> TrainingData:
    """Every pair of every prompt's responses labelled by the true theta; the last three pairs are held out."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=width)
    candidates, preferences = [], []
    for number in range(prompts):
        features = rng.normal(size=(responses, width))
        prompt = [{"role": "user", "content": f"Question {number}?"}]
        answers = [[{"role": "assistant", "content": f"Answer {number} {j} " + "x" * 5 * j}] for j in range(responses)]
        names = [f"{number}-{j}" for j in range(responses)]
        candidates.append(Candidates(f"c{number}", prompt, answers, names, features))
        for first in range(responses):
            for second in range(first):
                gap = (features[first] - features[second]) @ theta
                won, lost = (first, second) if gap > 0 else (second, first)
                preferences.append(
                    Preference(
                        conversation=f"c{number}",
                        prompt=prompt,
                        chosen=answers[won],
                        rejected=answers[lost],
                        chosen_features=features[won],
                        rejected_features=features[lost],
                        rationality=1.0 + 0.5 * (number % 2),
                    )
                )
    z = np.stack([row.chosen_features - row.rejected_features for row in preferences])
    projection = Projection(
        mean=np.zeros(RAW), components=rng.normal(size=(width, RAW)) / 4, explained=np.full(width, 0.2)
    )
    return TrainingData(
        preferences=preferences[:-3],
        held_out=preferences[-3:],
        candidates=candidates,
        theta=theta,
        information=np.eye(width) + 0.25 * z.T @ z,
        ridge=1.0,
        projection=projection,
        label_set="label-set-1",
        lineage={"campaign": "1"},
    )


def make_config(**changes: object) -> TrainingConfig:
    """A run of a few steps on `tiny` in float32."""
    plain: dict[str, object] = {
        "method": "pessimistic_dpo",
        "learning_rate": 1e-3,
        "batch_size": 4,
        "epochs": 2.0,
        "max_length": 128,
        "max_new_tokens": 12,
        "samples": 2,
        "evaluation_prompts": 2,
        "precision": "float32",
    }
    return TrainingConfig(**{**plain, **changes})  # type: ignore[arg-type]


@pytest.fixture
def data() -> TrainingData:
    return make_data()


@pytest.fixture
def encoder() -> HashEncoder:
    return HashEncoder()


@pytest.fixture
def never() -> Callable[[], bool]:
    return lambda: False
