"""Reference features from the reference policy itself: the mean feature of the base model's samples of each prompt.

Two candidates lie equally far from their midpoint, so where conversations have two responses the mean of the
candidates cannot tell which of them is the less known. Samples of the base model can.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from activelearning.algorithms.features import render_text
from activelearning.algorithms.pessimism import reference_feature
from training.algorithms.data import TrainingData
from training.algorithms.generation import sample_responses
from training.algorithms.language_model import prepare_base
from training.algorithms.policy import Job
from training.algorithms.shared import made_once

KIND = "references"


def with_sampled_references(job: Job) -> TrainingData:
    """The job's data with v of every prompt from `reference_samples` samples; given references stay.

    What was sampled is kept in folder/references, so that a resumed run measures from the same point.
    raises  ValueError  without a projection no sample can be scored
    """
    if job.data.projection is None:
        raise ValueError("reference samples are new texts: scoring them needs the projection of the features")
    return with_references_of(job.data, made_once(job, KIND, lambda folder: _sample(job, folder)))


def with_references_of(data: TrainingData, folder: Path) -> TrainingData:
    """The data with v as it was sampled into `folder`; given references stay."""
    names = json.loads((folder / "conversations.json").read_text(encoding="utf-8"))
    sampled = dict(zip(names, load_file(folder / "references.safetensors")["references"], strict=True))
    return replace(data, references={**sampled, **data.references})


def _sample(job: Job, folder: Path) -> None:
    assert job.data.projection is not None
    config = replace(job.config, samples=job.config.reference_samples)
    prompts = [prompt for prompt in job.data.candidates if prompt.conversation not in job.data.references]
    answers = sample_responses(
        prepare_base(config, job.folder),
        [prompt.prompt for prompt in prompts],
        config=config,
        seed=config.seed + 2,  # a stream of its own: rso and best_of_n learn from `seed`, the evaluation from seed + 1
        check=job.check,
        report=job.journal.write,
    )
    means = [np.zeros((0, job.data.theta.shape[0]))]
    for prompt, samples in zip(prompts, answers, strict=True):
        job.check()
        texts = [render_text([*prompt.prompt, {"role": "assistant", "content": sample.text}]) for sample in samples]
        means.append(reference_feature(job.data.projection(job.encoder.encode(texts)))[None])
    save_file({"references": np.concatenate(means)}, folder / "references.safetensors")
    names = [prompt.conversation for prompt in prompts]
    (folder / "conversations.json").write_text(json.dumps(names), encoding="utf-8")
