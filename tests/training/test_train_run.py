"""A run from row to policy, in this process: what the child does."""

import json
from pathlib import Path
from typing import Any

from annotation.models import Campaign, User
from training.algorithms import artifact
from training.algorithms.config import TrainingConfig
from training.models import Policy, Run, Work
from training.pipeline.work import perform
from training.services import work as services
from training.services.runs import start_run

SMALL: dict[str, Any] = {
    "max_steps": 4,
    "batch_size": 4,
    "max_length": 128,
    "max_new_tokens": 8,
    "samples": 2,
    "evaluation_prompts": 2,
    "learning_rate": 1e-3,
    "checkpoint_steps": 2,
}


def never() -> bool:
    return False


def perform_now(run: Run, *, should_stop: Any = never) -> Run:
    holder = services.claim(run)
    assert holder is not None
    perform("run", code=run.code, holder=holder, should_stop=should_stop)
    run.refresh_from_db()
    return run


def test_rerank_ends_in_a_sealed_policy_with_a_certificate(labelled: Campaign, alice: User, settings: Any) -> None:
    run = perform_now(start_run(campaign=labelled, config=TrainingConfig(method="rerank"), user=alice, is_forced=True))
    assert (run.state, run.reason) == (Work.State.DONE, "")
    policy = Policy.objects.get(run=run)
    folder = Path(settings.MEDIA_ROOT) / policy.folder
    manifest = artifact.verify(folder, kind="policy", digest=policy.digest)
    assert manifest["label_set"] == run.label_set.digest
    assert policy.certificate["regret"] > 0
    assert policy.certificate["prompts"] == 40
    assert policy.evaluation["reward"]["labels"] == 15
    assert policy.evaluation["reward"]["accuracy"] > 0.5, "a reward fitted on 105 answers beats a coin on 15 others"
    choices = [json.loads(line) for line in (folder / "choices.jsonl").read_text().splitlines()]
    assert len(choices) == 40


def test_pessimistic_dpo_loads_in_plain_transformers(labelled: Campaign, settings: Any) -> None:
    config = TrainingConfig(method="pessimistic_dpo", encoder="minilm", **SMALL)
    run = perform_now(start_run(campaign=labelled, config=config, is_forced=True))
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert run.step == run.steps == 4
    losses = [row.values["loss"] for row in run.metrics.filter(stage="train")]
    assert len(losses) == 4

    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(settings.MEDIA_ROOT) / run.policy.folder
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**ids, max_new_tokens=3).shape[1] > ids["input_ids"].shape[1]
