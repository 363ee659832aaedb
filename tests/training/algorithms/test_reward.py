"""The reward as a function of text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from activelearning.algorithms.features import Encoder, render_text
from tests.training.algorithms.conftest import HashEncoder, make_config, make_data
from training.algorithms import artifact
from training.algorithms.reward import Reward, RewardHead
from training.algorithms.run import train

TEXTS = ["one", "two", "a third text", ""]


class TensorEncoder(HashEncoder):
    """The hash encoder with the face that the reward looks at."""

    device = "cpu"

    def tensors(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.from_numpy(self.encode(texts))


def make_reward(*, radius: float = 1.5) -> Reward:
    data = make_data()
    assert data.projection is not None
    return Reward(cast(Any, TensorEncoder()), data.projection, data.confidence(delta=0.1, radius=radius))


def test_mean_and_width_are_those_of_the_confidence_set() -> None:
    reward = make_reward()
    scores = reward.score(TEXTS)
    phi = reward.projection(TensorEncoder().encode(TEXTS)).astype(np.float64)
    assert scores.mean == pytest.approx(reward.confidence.means(phi), abs=1e-5)
    assert scores.width == pytest.approx(reward.confidence.widths(phi), abs=1e-5)
    assert scores.lower == pytest.approx(reward.confidence.lower(phi), abs=1e-5)
    assert scores.upper == pytest.approx(reward.confidence.upper(phi), abs=1e-5)


def test_a_reference_per_text_or_one_for_all_is_subtracted() -> None:
    reward = make_reward()
    phi = reward.projection(TensorEncoder().encode(TEXTS)).astype(np.float64)
    v = np.random.default_rng(0).normal(size=phi.shape)
    assert reward.score(TEXTS, v).lower == pytest.approx(reward.confidence.lower(phi - v), abs=1e-5)
    assert reward.score(TEXTS, v[0]).lower == pytest.approx(reward.confidence.lower(phi - v[0]), abs=1e-5)
    assert reward.score(TEXTS[:1], phi[0]).width == pytest.approx([0.0], abs=1e-5)


def test_responses_of_one_prompt_are_measured_from_their_mean() -> None:
    reward = make_reward()
    prompt = [{"role": "user", "content": "Why?"}]
    answers = [[{"role": "assistant", "content": text}] for text in ("because", "why not", "ask me later")]
    scores = reward.compare(prompt, answers)
    assert scores.mean.sum() == pytest.approx(0.0, abs=1e-6)
    phi = reward.projection(TensorEncoder().encode([render_text([*prompt, *answer]) for answer in answers]))
    assert int(scores.mean.argmax()) == int((phi @ reward.confidence.theta).argmax())


def test_no_texts_give_no_scores() -> None:
    scores = make_reward().score([])
    assert scores.mean.shape == scores.lower.shape == (0,)


def test_the_head_keeps_float32_under_a_bf16_encoder() -> None:
    reward = make_reward()
    head = RewardHead(reward.projection, reward.confidence)
    vectors = TensorEncoder().tensors(TEXTS)
    exact = head(vectors)
    rounded = head(vectors.bfloat16())
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, head(vectors.bfloat16().float()))
    assert (rounded - exact).abs().max() < 0.05


def test_the_reward_of_a_sealed_policy_scores_as_it_did_when_it_was_trained(tmp_path: Path) -> None:
    data = make_data()
    result = train(
        make_config(method="rerank", radius=1.5),
        data,
        folder=tmp_path,
        report=lambda metrics: None,
        should_stop=lambda: False,
        encoder=HashEncoder(),
    )
    reward = Reward.load(result.folder, digest=result.digest, encoder=cast(Encoder, TensorEncoder()))
    expected = make_reward(radius=1.5).score(TEXTS)
    assert reward.score(TEXTS).lower == pytest.approx(expected.lower)
    weights = result.folder / "reward.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8] + bytes(8))
    with pytest.raises(artifact.Refused):
        Reward.load(result.folder, encoder=cast(Encoder, TensorEncoder()))
