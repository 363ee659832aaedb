"""Policies that choose among responses and train nothing: rerank by the lower bound, and plain best-of-n."""

import numpy as np

from activelearning.algorithms.features import render_text
from activelearning.algorithms.pessimism import choose, reference_feature
from training.algorithms.data import Message
from training.algorithms.policy import Choice, Fitted, Job


def fit(job: Job) -> Fitted:
    """rerank: pi(x) = argmax_a lcb(x,a) over the given candidates (M12). Radius 0 is plain reranking by the mean."""
    choices = []
    for prompt in job.data.candidates:
        job.check()
        reference = job.data.reference_features[prompt.conversation]
        choices.append(
            Choice(
                conversation=prompt.conversation,
                names=prompt.names,
                responses=prompt.responses,
                offsets=np.asarray(prompt.features, dtype=np.float64) - reference,
                index=choose(job.confidence, prompt.features, reference),
            )
        )
    if not choices:
        raise ValueError("rerank needs prompts with candidates")
    return Fitted(choices=choices)


def fit_best_of_n(job: Job) -> Fitted:
    """best_of_n, the control: the base model answers n times, theta_hat alone picks.

    The reference feature is the mean of the n samples; it shifts all means alike and matters to the bounds reported.
    """
    from training.algorithms.generation import sample_responses  # torch and transformers, which rerank never needs
    from training.algorithms.language_model import prepare_base

    if job.data.projection is None:
        raise ValueError("best_of_n scores new texts: it needs the projection of the campaign's features")
    base = prepare_base(job.config, job.folder)
    prompts = [prompt.prompt for prompt in job.data.candidates]
    samples = sample_responses(
        base, prompts, config=job.config, seed=job.config.seed, check=job.check, report=job.journal.write
    )
    choices = []
    for prompt, responses in zip(job.data.candidates, samples, strict=True):
        job.check()
        messages: list[list[Message]] = [[{"role": "assistant", "content": sample.text}] for sample in responses]
        texts = [render_text([*prompt.prompt, *response]) for response in messages]
        features = job.data.projection(job.encoder.encode(texts))
        offsets = np.asarray(features, dtype=np.float64) - reference_feature(features)
        choices.append(
            Choice(
                conversation=prompt.conversation,
                names=[f"sample-{number}" for number in range(len(responses))],
                responses=messages,
                offsets=offsets,
                index=int(np.argmax(job.confidence.means(offsets))),
            )
        )
    return Fitted(choices=choices, reference=base)
