"""The Gibbs policy by rejection sampling (RSO, 2309.06657) with the lower bound as reward, fitted by DPO.

    pi(a|x) proportional to pi_0(a|x) exp( lcb(x,a) / kl_weight )

Responses of the base model are accepted with probability exp((lcb - lcb_max) / kl_weight), so that the accepted ones
are draws from the Gibbs policy (exactly, if lcb_max is the prompt's true maximum; here it is that of the samples).
Pairs of them are labelled by the reward itself, P(first preferred) = sigma(lcb difference), whose DPO minimiser is
the same Gibbs policy. The paper labels pairs by a hard winner; the soft label keeps the minimiser exact.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.special import expit

from activelearning.algorithms.features import render_text
from activelearning.algorithms.types import Bools, Floats
from training.algorithms.generation import Sample, sample_responses
from training.algorithms.language_model import prepare_base
from training.algorithms.policy import Fitted, Job
from training.algorithms.policy_dpo import fit_rows
from training.algorithms.shared import made_once


def accept(scores: Floats, *, kl_weight: float, rng: Generator) -> Bools:
    """Which samples of the reference are kept as samples of the Gibbs policy.

    scores   (k,)  lcb of the samples of one prompt
    returns  (k,)  True with probability exp((score - max) / kl_weight); the best is always kept
    """
    chance = np.exp((scores - scores.max()) / kl_weight)
    return np.asarray(rng.random(scores.shape[0]) < chance)


def pair(scores: Floats, kept: Bools) -> list[tuple[int, int]]:
    """Pairs (winner, loser) of a prompt's samples: each kept one against the worst it was drawn with.

    The paper pairs kept ones with each other; with few samples per prompt that leaves most prompts without a pair, so
    the loser is a sample of the reference, the lowest. Pairs of equal score teach nothing and are left out.
    """
    worst = int(np.argmin(scores))
    return [(int(index), worst) for index in np.flatnonzero(kept) if scores[index] > scores[worst]]


def fit(job: Job) -> Fitted:
    """rso: sample, accept, pair, DPO. What was sampled is kept in folder/pairs for all processes and resumptions."""
    if job.data.projection is None:
        raise ValueError("rso scores new texts: it needs the projection of the campaign's features")
    if not job.data.training_prompts:
        raise ValueError("rso needs prompts that are not held out")
    base = prepare_base(job.config, job.folder)

    def sample(folder: Path) -> None:
        rows, acceptance = draw_pairs(job, base)
        text = json.dumps({"rows": rows, "acceptance": acceptance})
        (folder / "pairs.json").write_text(text, encoding="utf-8")

    pairs = json.loads((made_once(job, "pairs", sample) / "pairs.json").read_text(encoding="utf-8"))
    rows = pairs["rows"]
    if not rows:
        raise ValueError("all samples of every prompt score the same: there is nothing to learn from")
    return fit_rows(job, rows, notes={"acceptance": pairs["acceptance"]})


def draw_pairs(job: Job, base: Path) -> tuple[list[dict[str, Any]], float]:
    """Rows for DPO from the base model's samples, and the share of samples that was accepted."""
    prompts = job.data.training_prompts
    samples = sample_responses(
        base,
        [prompt.prompt for prompt in prompts],
        config=job.config,
        seed=job.config.seed,
        check=job.check,
        report=job.journal.write,
    )
    rng = np.random.default_rng(job.config.seed)
    rows: list[dict[str, Any]] = []
    taken = 0
    for prompt, row in zip(prompts, samples, strict=True):
        job.check()
        scores = _lower_bounds(job, prompt.prompt, row, reference=job.data.reference_features[prompt.conversation])
        kept = accept(scores, kl_weight=job.config.kl_weight, rng=rng)
        taken += int(kept.sum())
        rows += [
            {
                "prompt": [dict(message) for message in prompt.prompt],
                "chosen": [{"role": "assistant", "content": row[winner].text}],
                "rejected": [{"role": "assistant", "content": row[loser].text}],
                "margin": 0.0,
                "rationality": 1.0,
                "target": float(expit(scores[winner] - scores[loser])),
                "weight": 1.0,
            }
            for winner, loser in pair(scores, kept)
        ]
    return rows, taken / (len(prompts) * job.config.samples)


def _lower_bounds(job: Job, prompt: Any, samples: list[Sample], *, reference: Floats) -> Floats:
    assert job.data.projection is not None
    texts = [render_text([*prompt, {"role": "assistant", "content": sample.text}]) for sample in samples]
    return job.confidence.lower(job.data.projection(job.encoder.encode(texts)) - reference)
