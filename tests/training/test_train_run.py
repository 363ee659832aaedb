"""A run from row to policy, in this process: what the child does."""

import errno
import json
import shutil
import uuid
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from django.utils import timezone

from activelearning.models import Embedding, Estimate, Projection
from activelearning.pipeline import refit
from activelearning.storage import read_arrays
from annotation.formats.types import Message, ParsedResponse
from annotation.models import (
    Campaign,
    Comparison,
    Conversation,
    Label,
    Membership,
    Offer,
    Pool,
    RecordedJudgement,
    Response,
    Teacher,
    User,
)
from tests.conftest import add_conversations
from tests.training.algorithms.conftest import make_data
from tests.training.conftest import THETA, WIDTH, answer, embed, stored
from training.algorithms import artifact, generation
from training.algorithms.config import TrainingConfig, out_of_time
from training.algorithms.policy import TimeLimitReached
from training.algorithms.tiny import build_tokenizer
from training.datasets.frozen import freeze
from training.models import Policy, Run, Work
from training.pipeline import generation as answering
from training.pipeline import preparation
from training.pipeline.asking import answer_question
from training.pipeline.contrast import contrast
from training.pipeline.preparation import CannotTrain, build, has_features
from training.pipeline.work import perform, reason_of
from training.services import work as services
from training.services.generations import start_generation
from training.services.questions import ask_reward
from training.services.runs import resume_run, start_run

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
NO_PROMPTS = {**SMALL, "evaluation_prompts": 0}


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


def test_the_contrast_measures_from_where_the_policy_did(labelled: Campaign) -> None:
    config = TrainingConfig(method="rerank", reference_samples=3, max_new_tokens=8, max_length=128)
    run = perform_now(start_run(campaign=labelled, config=config, is_forced=True))
    assert (run.state, run.reason) == (Work.State.DONE, "")
    both = run.policy.evaluation["contrast"]
    assert both["pessimistic"]["regret"] == pytest.approx(run.policy.certificate["regret"], rel=1e-12)


@pytest.mark.parametrize(("responses", "silent"), [(2, 1.0), (3, 0.0)])
def test_two_responses_lie_equally_far_from_their_mean_and_the_contrast_says_so(
    tmp_path: Path, responses: int, silent: float
) -> None:
    both = contrast(TrainingConfig(method="rerank"), make_data(responses=responses), folder=tmp_path)
    assert both["silent"] == silent
    assert both["differ"] <= 1 - silent


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


def test_a_cancel_leaves_a_checkpoint_and_the_same_losses_follow(labelled: Campaign, settings: Any) -> None:
    config = TrainingConfig(method="dpo", **{**SMALL, "max_steps": 6, "evaluation_prompts": 0})
    run = start_run(campaign=labelled, config=config, is_forced=True)
    stopping = iter([False, False, True])
    Run.objects.filter(pk=run.pk).update(is_cancel_asked=True)
    run = perform_now(run, should_stop=lambda: next(stopping, True))
    assert run.state == Work.State.CANCELLED
    assert run.step < 6
    resume_run(run=run)
    run = perform_now(run)
    whole = perform_now(start_run(campaign=labelled, config=config, is_forced=True))
    assert (run.state, whole.state) == (Work.State.DONE, Work.State.DONE)
    losses = [{row.step: row.values["loss"] for row in one.metrics.filter(stage="train")} for one in (run, whole)]
    assert list(losses[0]) == list(losses[1]) == [1, 2, 3, 4, 5, 6]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert run.label_set == whole.label_set, "nobody labelled in between: the same digest"


def test_a_worker_that_stops_puts_the_run_back(labelled: Campaign) -> None:
    config = TrainingConfig(method="dpo", **{**SMALL, "evaluation_prompts": 0})
    run = perform_now(start_run(campaign=labelled, config=config, is_forced=True), should_stop=lambda: True)
    assert (run.state, run.holder) == (Work.State.WAITING, None)


def test_a_run_that_is_stopped_after_its_time_says_that_it_has_had_its_time(labelled: Campaign) -> None:
    config = TrainingConfig(method="dpo", **{**SMALL, "evaluation_prompts": 0, "time_limit_seconds": 3600})
    run = start_run(campaign=labelled, config=config, is_forced=True)
    Run.objects.filter(pk=run.pk).update(started_at=timezone.now() - timedelta(hours=2))
    run = perform_now(run, should_stop=lambda: True)
    assert (run.state, run.reason) == (Work.State.FAILED, out_of_time(3600))


def test_a_checkpoint_of_another_run_is_refused_with_a_reason(labelled: Campaign, settings: Any) -> None:
    config = TrainingConfig(method="dpo", **{**SMALL, "seed": 1, "evaluation_prompts": 0})
    asked = iter([False] * 2)
    other = start_run(campaign=labelled, config=config, is_forced=True)
    perform_now(other, should_stop=lambda: next(asked, True))
    run = start_run(
        campaign=labelled, config=TrainingConfig(method="dpo", **{**SMALL, "evaluation_prompts": 0}), is_forced=True
    )
    media = Path(settings.MEDIA_ROOT)
    shutil.copytree(media / other.folder / "checkpoints", media / run.folder / "checkpoints")
    run = perform_now(run)
    assert run.state == Work.State.FAILED
    assert "foreign" in run.reason
    assert not Policy.objects.filter(run=run).exists()


def test_a_base_model_that_is_not_there_is_a_reason(labelled: Campaign) -> None:
    config = TrainingConfig(method="dpo", base_model="/nowhere/at/all", **SMALL)
    run = perform_now(start_run(campaign=labelled, config=config, is_forced=True))
    assert run.state == Work.State.FAILED
    assert "/nowhere/at/all" in run.reason


def test_a_deficient_design_fails_with_its_reason_unless_forced(labelled: Campaign) -> None:
    Campaign.objects.filter(pk=labelled.pk).update(ridge=1000.0)
    run = start_run(campaign=labelled, config=TrainingConfig(method="rerank"))
    run = perform_now(run)
    assert run.state == Work.State.FAILED
    assert "barely labelled" in run.reason


def test_the_page_and_the_run_ask_the_same_of_the_labels(
    labelled: Campaign, teacher: Teacher, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rationalities are estimated, too, both look at H: along theta (M10) stays small whatever is labelled."""
    Campaign.objects.filter(pk=labelled.pk).update(rationality_mode="estimated", ridge=0.5)
    labelled.refresh_from_db()
    row = refit(labelled.pk)
    assert row is not None
    assert row.is_joint
    arrays = read_arrays(row.arrays)
    left, whole = (np.linalg.eigvalsh(arrays[name])[0] for name in ("marginal_information", "information"))
    assert row.smallest_eigenvalue == pytest.approx(whole)
    assert left < 2 * row.ridge < whole
    asked: list[tuple[float, float]] = []

    def deficiency(smallest: float, *, ridge: float) -> str:
        asked.append((smallest, ridge))
        return ""

    monkeypatch.setattr(preparation, "deficiency", deficiency)
    run = start_run(campaign=labelled, config=TrainingConfig(method="rerank"))
    build(run, label_set=freeze(labelled))
    assert asked == [(pytest.approx(row.smallest_eigenvalue, rel=1e-3), row.ridge)]


def test_only_ties_are_nothing_to_train_a_model_on(labelled: Campaign) -> None:
    Label.objects.update(choice="tie")
    run = perform_now(start_run(campaign=labelled, config=TrainingConfig(method="dpo", **SMALL), is_forced=True))
    assert run.state == Work.State.FAILED
    assert "Every label is a tie" in run.reason


def test_a_full_disk_is_a_reason_and_the_checkpoints_are_kept() -> None:
    assert "no room on the disk" in reason_of(OSError(errno.ENOSPC, "No space left on device"))
    assert reason_of(TimeLimitReached(out_of_time(5))).startswith("The run reached its limit of 5 s. Resume")
    assert reason_of(CannotTrain("too few")) == "Too few."


def test_a_holder_who_was_replaced_stores_nothing(labelled: Campaign) -> None:
    run = start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True)
    holder = services.claim(run)
    assert holder is not None
    Run.objects.filter(pk=run.pk).update(holder=uuid.uuid4())
    perform("run", code=run.code, holder=holder, should_stop=never)
    run.refresh_from_db()
    assert run.state == Work.State.RUNNING
    assert not Policy.objects.exists()


def test_the_same_arrays_are_trained_on_after_a_death_though_labels_came_in(
    labelled: Campaign, teacher: Teacher
) -> None:
    run = perform_now(
        start_run(
            campaign=labelled,
            config=TrainingConfig(method="dpo", **{**SMALL, "evaluation_prompts": 0}),
            is_forced=True,
        ),
        should_stop=lambda: True,
    )
    frozen = run.label_set
    answer(add_conversations(labelled, 1)[0], teacher, choice="first")
    run = perform_now(run)
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert run.label_set == frozen
    assert run.policy.manifest["labels"] == 105


def test_estimated_rationalities_reach_the_preferences_and_coin_flippers_weigh_less(
    labelled: Campaign, pool: Any
) -> None:
    Campaign.objects.filter(pk=labelled.pk).update(rationality_mode="estimated")
    flipper = Teacher.objects.create(pseudonym="teacher-coin", kind=Teacher.Kind.SIMULATED)
    Membership.objects.create(pool=pool, teacher=flipper)
    generator = np.random.default_rng(5)
    for comparison in Comparison.objects.filter(is_held_out=False):
        answer_again(comparison, flipper, choice=str(generator.choice(["first", "second"])))
    run = start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True)
    run.campaign.refresh_from_db()
    data = build(run, label_set=freeze(labelled))
    rho = {row.rationality for row in data.preferences}
    assert len(data.preferences) in (105, 210), "an inverted teacher is left out altogether"
    assert min(rho) < 0.5 < max(rho) or len(rho) == 1


def answer_again(comparison: Comparison, teacher: Teacher, *, choice: str) -> None:
    """A second designed judgement of a comparison takes the next slot."""
    offer = Offer.objects.create(
        campaign=comparison.campaign, comparison=comparison, teacher=teacher, slot=2, state=Offer.State.ANSWERED
    )
    Label.objects.create(
        campaign=comparison.campaign,
        offer=offer,
        comparison=comparison,
        teacher=teacher,
        arm="designed",
        b_first=False,
        choice=choice,
    )


def test_negative_rationality_is_left_out_and_recorded_judgements_judge_only(labelled: Campaign) -> None:
    Membership.objects.update(rationality={"": -1.0})
    held_out = Comparison.objects.filter(is_held_out=True).order_by("id")
    Label.objects.filter(comparison__in=held_out).update(state=Label.State.RETRACTED)
    for comparison in held_out[:4]:
        RecordedJudgement.objects.create(comparison=comparison, judge="somebody", outcome=1.0)
    run = start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True)
    data = build(run, label_set=freeze(labelled))
    assert data.preferences == []
    assert len(data.held_out) == 4
    assert data.lineage["held_out"] == "0 labels, 4 recorded judgements"


def test_who_answered_held_out_comparisons_alone_judges_at_the_stated_rationality_or_is_said_not_to(
    labelled: Campaign, pool: Any
) -> None:
    sharp, inverted = (Teacher.objects.create(kind=Teacher.Kind.SIMULATED) for _ in range(2))
    Membership.objects.create(pool=pool, teacher=sharp, rationality={"": 3.0})
    Membership.objects.create(pool=pool, teacher=inverted, rationality={"": -1.0})
    one, two = Comparison.objects.filter(is_held_out=True).order_by("id")[:2]
    answer_again(one, sharp, choice="first")
    answer_again(two, inverted, choice="first")
    run = start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True)
    data = build(run, label_set=freeze(labelled))
    assert sorted(row.rationality for row in data.held_out) == [1.0] * 15 + [3.0]
    assert data.lineage["held_out"] == (
        "16 labels, 0 recorded judgements (left out for a rationality that is not above 0: 1)"
    )


def test_a_prompt_is_held_out_where_any_of_its_comparisons_is(labelled: Campaign) -> None:
    trained, alone = Conversation.objects.filter(is_held_out=False).order_by("id")[:2]
    Comparison.objects.filter(pk=alone.comparisons.order_by("id").first().pk).update(is_held_out=True)
    run = start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True)
    data = build(run, label_set=freeze(labelled))
    held_out = {int(prompt.conversation) for prompt in data.candidates if prompt.is_held_out}
    known = set(Conversation.objects.filter(is_held_out=True).values_list("id", flat=True))
    assert held_out == known | {alone.pk}
    assert str(trained.pk) in {prompt.conversation for prompt in data.training_prompts}


def test_a_generation_writes_into_the_pool_and_can_be_taken_up_again(labelled: Campaign) -> None:
    config = TrainingConfig(method="dpo", **{**SMALL, "max_steps": 1, "evaluation_prompts": 0})
    run = perform_now(start_run(campaign=labelled, config=config, is_forced=True))
    generation = start_generation(policy=run.policy, prompts=10, samples=2, seed=3)
    asked = iter([False] * 6)
    holder = services.claim(generation)
    assert holder is not None
    perform("generation", code=generation.code, holder=holder, should_stop=lambda: next(asked, True))
    generation.refresh_from_db()
    assert generation.state == Work.State.WAITING, "the worker stopped, the generation did not"
    assert generation.step == 8
    holder = services.claim(generation)
    assert holder is not None
    perform("generation", code=generation.code, holder=holder, should_stop=never)
    generation.refresh_from_db()
    assert (generation.state, generation.reason, generation.step) == (Work.State.DONE, "", 10)
    written = Response.objects.filter(origin=Response.Origin.POLICY)
    assert written.count() == generation.responses_added > 0
    assert not written.filter(conversation__is_held_out=True).exists()
    assert written.values("conversation").distinct().count() <= 10


@pytest.mark.parametrize("text", ["  ", "what is there already"])
def test_a_generation_asks_no_prompt_twice_where_nothing_new_is_written(
    labelled: Campaign, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    config = TrainingConfig(method="dpo", **{**NO_PROMPTS, "max_steps": 1})
    policy = perform_now(start_run(campaign=labelled, config=config, is_forced=True)).policy
    known = ParsedResponse(messages=(Message(role="assistant", content="what is there already"),))
    Response.objects.filter(digest=f"{0:064x}").update(digest=known.digest)
    asked: list[Any] = []

    def write_nothing_new(model: Any, tokenizer: Any, prompts: Any, **_options: Any) -> Any:
        asked.extend(prompts)
        return [[SimpleNamespace(text=text)] * 2 for _ in prompts]

    monkeypatch.setattr(answering, "generate", write_nothing_new)
    row = start_generation(policy=policy, prompts=20, samples=2)
    holder = services.claim(row)
    assert holder is not None
    perform("generation", code=row.code, holder=holder, should_stop=never)
    row.refresh_from_db()
    assert (row.state, row.reason, row.step, row.responses_added) == (Work.State.DONE, "", 20, 0)
    assert len({json.dumps(prompt) for prompt in asked}) == len(asked) == 20


@pytest.fixture
def writes_nul(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sample begins with the token that decodes to NUL, and differs from the others by what follows."""
    (nul,) = build_tokenizer()("\x00")["input_ids"]
    until_end = generation._until_end
    monkeypatch.setattr(generation, "_until_end", lambda tokens, ends: [nul, *until_end(tokens, ends)])


@pytest.mark.usefixtures("writes_nul")
def test_a_model_that_writes_nul_ends_in_a_policy_and_in_responses(labelled: Campaign) -> None:
    run = perform_now(
        start_run(campaign=labelled, config=TrainingConfig(method="dpo", encoder="minilm", **SMALL), is_forced=True)
    )
    assert (run.state, run.reason) == (Work.State.DONE, "")
    work = start_generation(policy=run.policy, prompts=4, samples=2)
    holder = services.claim(work)
    assert holder is not None
    perform("generation", code=work.code, holder=holder, should_stop=never)
    work.refresh_from_db()
    assert (work.state, work.reason) == (Work.State.DONE, "")
    assert work.responses_added > 0


@pytest.mark.usefixtures("writes_nul")
def test_a_folder_sealed_with_nul_in_its_samples_can_be_taken_up(
    labelled: Campaign, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealed once, the folder is never written again: what no row takes is left out on reading."""
    monkeypatch.setattr(generation, "storable", lambda text: text)
    config = TrainingConfig(method="dpo", encoder="minilm", **SMALL)
    run = perform_now(start_run(campaign=labelled, config=config, is_forced=True))
    folder = Path(settings.MEDIA_ROOT) / run.folder / "policy"
    assert "\\u0000" in (folder / "samples.json").read_text()
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert all("\x00" not in one["policy"] for one in run.policy.samples)


def test_the_reward_answers_with_bounds_that_hold_the_mean(labelled: Campaign) -> None:
    projection = Projection.objects.get()
    estimate = Estimate(
        campaign=labelled,
        projection=projection,
        label_version=1,
        label_count=105,
        ridge=1.0,
        log_det=1.0,
        smallest_eigenvalue=3.0,
    )
    estimate.arrays.save("e.npz", stored(theta=THETA, information=np.eye(WIDTH) * 3.0))
    question = ask_reward(campaign=labelled, prompt="How do I sort?", responses=["Use sorted().", "No idea, sorry."])
    answer_question(question.pk)
    question.refresh_from_db()
    assert question.state == "answered"
    first, second = question.answer["responses"]
    assert first["mean"] == pytest.approx(-second["mean"], abs=1e-6), "measured from the mean of the two"
    for one in (first, second):
        assert one["lower"] < one["mean"] < one["upper"]
        assert one["upper"] - one["mean"] == pytest.approx(one["penalty"])
    answer_question(question.pk)  # a doubled message does nothing


def test_a_run_waits_for_features_of_the_campaigns_encoder(labelled: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of an earlier encoder are none: the same width says nothing."""
    Campaign.objects.update(encoder="another/encoder")
    labelled.refresh_from_db()
    assert not has_features(labelled)
    monkeypatch.setattr(preparation, "embed", lambda _pk: bool(embed(labelled, seed=7)))
    data = build(
        start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True),
        label_set=freeze(labelled),
    )
    rows = Embedding.objects.get(encoder="another/encoder")
    stored = read_arrays(rows.file)
    features = dict(zip(stored["response_ids"].tolist(), stored["features"][:, :WIDTH], strict=True))
    assert data.encoder == "another/encoder"
    for prompt in data.candidates:
        assert prompt.features == pytest.approx(np.stack([features[int(name)] for name in prompt.names]), abs=1e-6)


def test_what_a_run_writes_is_scored_by_the_encoder_of_its_features(labelled: Campaign) -> None:
    run = start_run(campaign=labelled, config=TrainingConfig(method="dpo", **NO_PROMPTS), is_forced=True)
    assert run.config["encoder"] == "minilm"
    Campaign.objects.update(encoder="another/encoder")
    labelled.refresh_from_db()
    embed(labelled, seed=7)
    run = perform_now(run, should_stop=lambda: True)
    Campaign.objects.update(encoder="a/third")
    run = perform_now(run)
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert run.policy.manifest["config"]["encoder"] == "another/encoder"


def test_a_run_starts_from_a_policy_and_refuses_one_that_was_tampered_with(labelled: Campaign, settings: Any) -> None:
    config = TrainingConfig(method="dpo", **{**SMALL, "max_steps": 2, "evaluation_prompts": 0})
    first = perform_now(start_run(campaign=labelled, config=config, is_forced=True)).policy
    heir = perform_now(start_run(campaign=labelled, config=config, is_forced=True, parent=first))
    assert (heir.state, heir.reason) == (Work.State.DONE, "")
    assert heir.policy.manifest["lineage"]["parent"] == str(first.code)
    folder = Path(settings.MEDIA_ROOT) / first.folder
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    third = perform_now(start_run(campaign=labelled, config=config, is_forced=True, parent=first))
    assert third.state == Work.State.FAILED
    assert "model.safetensors differs from its checksum" in third.reason


def test_a_finished_run_keeps_its_policy_and_its_metrics_only(labelled: Campaign, settings: Any) -> None:
    config = TrainingConfig(method="dpo", **{**SMALL, "evaluation_prompts": 0})
    run = perform_now(start_run(campaign=labelled, config=config, is_forced=True))
    left = {path.name for path in (Path(settings.MEDIA_ROOT) / run.folder).iterdir()}
    assert {"policy", "metrics.jsonl", "tensorboard"} <= left
    assert not left & {"checkpoints", "base", "model", "data"}
