"""A policy answers prompts: a few at a time, each few stored, so that a death loses one handful."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from django.conf import settings

from annotation.models import Conversation
from training.algorithms import artifact
from training.algorithms.config import TrainingConfig
from training.algorithms.generation import generate
from training.algorithms.language_model import inference_dtype, load_model, load_tokenizer
from training.algorithms.policy import Cancelled
from training.models import Generation, Policy, Work
from training.pipeline.progress import LostHold
from training.services import work as services
from training.services.generations import add_responses, prompts_to_ask
from training.storage import fetch_folder, files_of

HANDFUL = 8  # prompts between two writes


def folder_of(policy: Policy) -> Path:
    """The policy on this machine's disk. raises artifact.Refused  it is not what was recorded"""
    into = Path(settings.MEDIA_ROOT) / "fetched" / str(policy.code)
    folder = fetch_folder(policy.folder, files=files_of(policy.manifest), into=into)
    artifact.verify(folder, kind="policy", digest=policy.digest)
    return folder


def answer_prompts(generation: Generation, *, holder: uuid.UUID, should_stop: Callable[[], bool]) -> None:
    """Ask the policy as many prompts as were asked for, each once, or all that it has not answered.

    raises  artifact.Refused  the policy's folder is not what was recorded; Cancelled; LostHold
    """
    policy = generation.policy
    folder = folder_of(policy)
    config = replace(TrainingConfig.from_json(policy.manifest["config"]), samples=max(2, generation.samples))
    model = load_model(folder, dtype=inference_dtype(config))
    tokenizer = load_tokenizer(folder)

    def check(_metrics: Mapping[str, float | str] | None = None) -> None:
        if should_stop():
            raise Cancelled("the generation was cancelled")

    ids = prompts_to_ask(generation)
    for start in range(0, len(ids), HANDFUL):
        check()
        rows = list(Conversation.objects.filter(pk__in=ids[start : start + HANDFUL]).order_by("id"))
        prompts = [row.messages for row in rows]
        seed = generation.seed * 100_003 + generation.step
        written = generate(model, tokenizer, prompts, config=config, seed=seed, check=check)
        texts = {
            row.pk: [one.text for one in some[: generation.samples]] for row, some in zip(rows, written, strict=True)
        }
        responses, comparisons = add_responses(policy=policy, texts=texts, seed=generation.seed)
        generation.step += len(rows)
        generation.responses_added += responses
        generation.comparisons_added += comparisons
        services.advance(
            generation, holder=holder, stage="Generating responses", step=generation.step, steps=generation.prompts
        )
        if not services.beat(
            generation,
            holder=holder,
            responses_added=generation.responses_added,
            comparisons_added=generation.comparisons_added,
        ):
            raise LostHold
    services.finish(generation, holder=holder, state=Work.State.DONE)
