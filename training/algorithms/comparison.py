"""A trained language model against the reference it started from: samples, KL, bounds, and the path between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from activelearning.algorithms.features import render_text
from activelearning.algorithms.pessimism import Certificate, certify
from activelearning.algorithms.types import Floats
from training.algorithms.data import Candidates, Preference, count_labels
from training.algorithms.evaluation import Figures, best_of_n_curve, coverage, labelled_offsets, win_rate
from training.algorithms.generation import Sample, encode_pair, generate, log_probs
from training.algorithms.language_model import inference_dtype, load_model, load_tokenizer
from training.algorithms.policy import Job

PATH = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Comparison:
    """What the evaluation of a generative policy gives: figures for the manifest, samples for the page."""

    figures: Figures
    samples: list[dict[str, Any]]
    certificate: Certificate | None


def compare_models(job: Job, model_folder: Path, reference_folder: Path) -> Comparison:
    """Held-out accuracy of the model, and on `evaluation_prompts` prompts its samples against the reference's.

    Both sides answer the same prompts with `config.samples` samples each, held-out prompts as far as there are any. The
    reference feature v of a prompt is that of the data. Without a projection no new text can be scored, and only the
    held-out labels are judged.
    """
    tokenizer = load_tokenizer(reference_folder)
    dtype = inference_dtype(job.config)
    model, reference = load_model(model_folder, dtype=dtype), load_model(reference_folder, dtype=dtype)
    figures = judge_model(job, model, reference, tokenizer)
    seed = job.config.seed + 3  # a stream of its own, as in `references`
    prompts = draw_prompts(job.data.candidates, count=job.config.evaluation_prompts, seed=seed)
    if not prompts or job.data.projection is None:
        return Comparison(figures=figures, samples=[], certificate=None)
    texts = _sample(job, model, tokenizer, prompts)
    others = _sample(job, reference, tokenizer, prompts)
    ours, theirs = _Scores(job, prompts, texts), _Scores(job, prompts, others)
    ratios = _log_ratios(model, reference, tokenizer, texts)
    figures |= {
        "prompts": len(prompts),
        "held_out_prompts": sum(prompt.is_held_out for prompt in prompts),
        "reward": float(ours.means.mean()),
        "reward_lower": float(ours.lowers.mean()),
        "reference_reward": float(theirs.means.mean()),
        "reference_reward_lower": float(theirs.lowers.mean()),
        "win_rate": win_rate(ours.means, theirs.means),
        "win_rate_lower": win_rate(ours.lowers, theirs.lowers),
        "kl": float(ratios.mean()),
        "kl_error": float(ratios.mean(axis=1).std(ddof=1) / np.sqrt(len(prompts))) if len(prompts) > 1 else 0.0,
        "tokens": float(np.mean([len(sample.tokens) for row in texts for sample in row])),
        "reference_tokens": float(np.mean([len(sample.tokens) for row in others for sample in row])),
        "characters": float(np.mean([len(sample.text) for row in texts for sample in row])),
        "reference_characters": float(np.mean([len(sample.text) for row in others for sample in row])),
        "best_of_n": best_of_n_curve(theirs.means, theirs.lowers),
        "coverage": coverage(
            job.confidence,
            ours.offsets.reshape(-1, ours.offsets.shape[-1]),
            conversations=[prompt.conversation for prompt in prompts for _ in range(job.config.samples)],
            labelled=labelled_offsets(job.data),
        ),
    }
    end = {"share": 1.0, "kl": figures["kl"], "mean": figures["reward"], "lower": figures["reward_lower"]}
    start = {"share": 0.0, "kl": 0.0, "mean": figures["reference_reward"], "lower": figures["reference_reward_lower"]}
    figures["curve"] = [start, *_walk(job, model, reference, tokenizer, prompts), end]
    return Comparison(
        figures=figures,
        samples=_side_by_side(prompts, texts, others, ours, theirs),
        certificate=_certify(job, prompts, ours, theirs),
    )


def draw_prompts(candidates: Sequence[Candidates], *, count: int, seed: int) -> list[Candidates]:
    """`count` prompts to judge a policy on, drawn by the seed: held-out ones as far as they go, then of the others."""
    order = np.random.default_rng(seed).permutation(len(candidates)).tolist()
    order.sort(key=lambda place: not candidates[place].is_held_out)  # stable: the draw's order on either side
    return [candidates[place] for place in order[:count]]


def judge_model(job: Job, model: PreTrainedModel, reference: PreTrainedModel, tokenizer: Any) -> Figures:
    """Held-out accuracy of the policy's own reward, kl_weight log pi/pi0: does it prefer what people preferred?"""
    rows: Sequence[Preference] = [row for row in job.data.held_out if row.target != 0.5]
    if not rows:
        return {"model_labels": 0}
    pairs = [
        encode_pair(tokenizer, row.prompt, response[-1]["content"], max_length=job.config.max_length)
        for row in rows
        for response in ((row.chosen, row.rejected) if row.target > 0.5 else (row.rejected, row.chosen))
    ]
    logs = np.array([log for log, _ in log_probs(model, pairs, pad=tokenizer.pad_token_id)])
    logs0 = np.array([log for log, _ in log_probs(reference, pairs, pad=tokenizer.pad_token_id)])
    margins = job.config.kl_weight * ((logs - logs0)[0::2] - (logs - logs0)[1::2])
    right = np.where(margins == 0, 0.5, (margins > 0).astype(float))
    weight = np.array([row.weight for row in rows])
    return {
        "model_labels": count_labels(rows),
        "model_accuracy": float(np.average(right, weights=weight)),
        "model_margin": float(np.average(margins, weights=weight)),
        "kl_on_held_out": float(np.average(logs0 - logs, weights=np.repeat(weight, 2))),
    }


class _Scores:
    """Offsets (prompts, samples, d), means and lower bounds (prompts, samples) of sampled texts."""

    def __init__(self, job: Job, prompts: Sequence[Candidates], texts: Sequence[Sequence[Sample]]) -> None:
        assert job.data.projection is not None
        rendered = [
            render_text([*prompt.prompt, {"role": "assistant", "content": sample.text}])
            for prompt, row in zip(prompts, texts, strict=True)
            for sample in row
        ]
        features = job.data.projection(job.encoder.encode(rendered)).astype(np.float64)
        self.features: Floats = features.reshape(len(prompts), -1, features.shape[1])
        references = np.stack([job.data.reference_features[prompt.conversation] for prompt in prompts])
        self.offsets: Floats = self.features - references[:, None]
        flat = self.offsets.reshape(-1, features.shape[1])
        self.means: Floats = job.confidence.means(flat).reshape(self.features.shape[:2])
        self.lowers: Floats = job.confidence.lower(flat).reshape(self.features.shape[:2])


def _sample(job: Job, model: PreTrainedModel, tokenizer: Any, prompts: Sequence[Candidates]) -> list[list[Sample]]:
    seed = job.config.seed + 1  # not the stream that best_of_n or rso trained on
    return generate(
        model, tokenizer, [prompt.prompt for prompt in prompts], config=job.config, seed=seed, check=job.check
    )


def _log_ratios(
    model: PreTrainedModel, reference: PreTrainedModel, tokenizer: Any, samples: Sequence[Sequence[Sample]]
) -> Floats:
    """(prompts, samples) log pi - log pi0 of the policy's own samples, whose mean is KL(pi || pi0).

    At a temperature other than 1 the samples are not pi's, and the mean is no longer that.
    """
    rows = [(sample.prompt, sample.tokens) for row in samples for sample in row]
    ours = log_probs(model, rows, pad=tokenizer.pad_token_id)
    theirs = log_probs(reference, rows, pad=tokenizer.pad_token_id)
    ratios = np.array([a[0] - b[0] for a, b in zip(ours, theirs, strict=True)])
    return ratios.reshape(len(samples), -1)


def _walk(
    job: Job, model: PreTrainedModel, reference: PreTrainedModel, tokenizer: Any, prompts: Sequence[Candidates]
) -> list[dict[str, float]]:
    """The over-optimisation curve: reward and lower bound against KL on the straight path of weights from the
    reference to the policy, at a quarter, a half and three quarters of the way. `model` is changed and not restored.

    The policy's own weights wait in the host's memory: a run whose training fits must not fail for a third model.
    """
    ends = {name: parameter.detach().to("cpu", copy=True) for name, parameter in model.named_parameters()}
    starts = dict(reference.named_parameters())
    points = []
    for share in PATH:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                end = ends[name].to(parameter.device).float()
                parameter.copy_(torch.lerp(starts[name].float(), end, share))
        texts = _sample(job, model, tokenizer, prompts)
        scores = _Scores(job, prompts, texts)
        kl = float(_log_ratios(model, reference, tokenizer, texts).mean())
        points.append(
            {"share": share, "kl": kl, "mean": float(scores.means.mean()), "lower": float(scores.lowers.mean())}
        )
    return points


def _side_by_side(
    prompts: Sequence[Candidates],
    texts: Sequence[Sequence[Sample]],
    others: Sequence[Sequence[Sample]],
    ours: _Scores,
    theirs: _Scores,
) -> list[dict[str, Any]]:
    """The first sample of each side to every prompt, with what the reward says of it."""
    return [
        {
            "conversation": prompt.conversation,
            "is_held_out": prompt.is_held_out,
            "prompt": [dict(message) for message in prompt.prompt],
            "policy": texts[i][0].text,
            "policy_mean": float(ours.means[i, 0]),
            "policy_lower": float(ours.lowers[i, 0]),
            "reference": others[i][0].text,
            "reference_mean": float(theirs.means[i, 0]),
            "reference_lower": float(theirs.lowers[i, 0]),
        }
        for i, prompt in enumerate(prompts)
    ]


def _certify(job: Job, prompts: Sequence[Candidates], ours: _Scores, theirs: _Scores) -> Certificate:
    """(M13) with the maximum over given candidates and the samples of both sides."""
    pairs, answers = [], []
    for i, prompt in enumerate(prompts):
        features = np.concatenate([ours.features[i], theirs.features[i], prompt.features])
        pairs.append((features, job.data.reference_features[prompt.conversation]))
        answers.append(list(range(ours.features.shape[1])))
    return certify(job.confidence, pairs, chosen=answers, sampled=True)
