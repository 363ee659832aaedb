"""Withdrawn labels: erased from label sets by a worker, forgotten by runs, and flagged on policies."""

import errno
import gzip
import threading
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from annotation.models import Campaign, Label
from tests.conftest import add_conversations
from tests.servers import PATIENCE
from tests.training.conftest import answer
from tests.training.test_train_run import NO_PROMPTS, perform_now
from training.algorithms.config import TrainingConfig
from training.algorithms.data import TrainingData
from training.datasets import erasing as files
from training.datasets.erasing import erase_withdrawn
from training.datasets.frozen import Line, freeze, left_lines, read_lines
from training.models import LabelSet, Policy, Run, Work
from training.pipeline import supervision, work
from training.pipeline.forgetting import SEEN, is_outdated
from training.pipeline.supervision import supervise
from training.services.erasing import LONGEST, claim_erasing
from training.services.runs import resume_run, start_run
from training.tasks import erase, reconcile

DPO = TrainingConfig(method="dpo", **NO_PROMPTS)


def withdraw(place: int = 0) -> Label:
    """One label of a teacher that is not held out is withdrawn, as its teacher's leaving would."""
    label = Label.objects.filter(comparison__is_held_out=False, state=Label.State.CURRENT).order_by("id")[place]
    Label.objects.filter(pk=label.pk).update(state=Label.State.WITHDRAWN, changed_at=timezone.now())
    return label


def folder_of(run: Run, settings: Any) -> Path:
    return Path(settings.MEDIA_ROOT) / run.folder


def files_of(label_set: LabelSet) -> list[str]:
    return [path.name for path in Path(label_set.file.path).parent.iterdir()]


@pytest.fixture
def label_set(labelled: Campaign) -> LabelSet:
    return freeze(labelled)


@pytest.fixture
def policy(labelled: Campaign, label_set: LabelSet) -> Policy:
    config = TrainingConfig(method="rerank")
    return perform_now(start_run(campaign=labelled, config=config, is_forced=True, label_set=label_set)).policy


@pytest.fixture
def cancelled(labelled: Campaign) -> Run:
    """A run that stopped at a checkpoint of step 2, with its data prepared."""
    run = start_run(campaign=labelled, config=DPO, is_forced=True)
    asked = iter([False] * 2)
    Run.objects.filter(pk=run.pk).update(is_cancel_asked=True)
    run = perform_now(run, should_stop=lambda: next(asked, True))
    assert run.state == Work.State.CANCELLED
    assert run.metrics.filter(stage="train").exists()
    return run


def test_the_beat_sends_what_waits_and_leaves_erasing_to_a_worker(
    labelled: Campaign, label_set: LabelSet, sent_tasks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start_run(campaign=labelled, config=DPO, is_forced=True)
    name = label_set.file.name
    withdraw()
    monkeypatch.setattr(files, "left_lines", lambda *_: pytest.fail("a file was read by the beat"))
    for _ in range(2):
        reconcile()
    assert sent_tasks == [("training.run", ("run", run.pk)), ("training.erase", (label_set.pk,))]
    label_set.refresh_from_db()
    assert (label_set.file.name, label_set.tombstones) == (name, [])


def test_a_worker_erases_and_flags_and_the_beat_asks_no_more(
    rosa_signed_in: Client, policy: Policy, label_set: LabelSet, sent_tasks: list[Any]
) -> None:
    gone = withdraw()
    for _ in range(2):
        erase(label_set.pk)
    label_set.refresh_from_db()
    assert (label_set.tombstones, label_set.erasing_since, label_set.erasing_error) == ([gone.pk], None, "")
    assert len(list(read_lines(label_set))) == 119, "and the digest was checked at the end"
    assert files_of(label_set) == [Path(label_set.file.path).name]
    policy.refresh_from_db()
    assert policy.is_flagged
    page = rosa_signed_in.get(reverse("policy", args=[policy.campaign.code, policy.code])).content.decode()
    assert "has withdrawn since" in page
    reconcile()
    assert sent_tasks == []


def test_one_label_set_at_a_time_and_the_next_at_once(
    labelled: Campaign, teacher: Any, label_set: LabelSet, sent_tasks: list[Any]
) -> None:
    answer(add_conversations(labelled, 1)[0], teacher, choice="tie")
    newer = freeze(labelled)
    withdraw()
    reconcile()
    assert sent_tasks == [("training.erase", (newer.pk,))]
    assert claim_erasing(newer.pk) is not None
    cache.clear()
    reconcile()
    assert len(sent_tasks) == 1, "a worker is at one"
    LabelSet.objects.update(erasing_since=None)
    erase(newer.pk)
    assert sent_tasks[1:] == [("training.erase", (label_set.pk,))]


def test_an_erasing_whose_worker_died_is_asked_for_again(label_set: LabelSet, sent_tasks: list[Any]) -> None:
    withdraw()
    assert claim_erasing(label_set.pk) is not None
    erase(label_set.pk)
    reconcile()
    label_set.refresh_from_db()
    assert (label_set.tombstones, sent_tasks) == ([], []), "a worker has it"
    LabelSet.objects.update(erasing_since=timezone.now() - LONGEST - timedelta(seconds=1))
    reconcile()
    assert sent_tasks == [("training.erase", (label_set.pk,))]
    erase(label_set.pk)
    label_set.refresh_from_db()
    assert len(label_set.tombstones) == 1


def test_a_broken_label_set_says_why_and_holds_up_no_other(
    labelled: Campaign,
    teacher: Any,
    policy: Policy,
    label_set: LabelSet,
    sent_tasks: list[Any],
    rosa_signed_in: Client,
) -> None:
    """And the policy is flagged although its file could not be read: before the long work, not after it."""
    answer(add_conversations(labelled, 1)[0], teacher, choice="tie")
    newer = freeze(labelled)
    Path(label_set.file.path).write_bytes(b"no gzip")
    withdraw()
    erase(label_set.pk)
    label_set.refresh_from_db()
    policy.refresh_from_db()
    assert "BrokenLabelSet" in label_set.erasing_error
    assert label_set.withdrawn_seen == 0
    assert policy.is_flagged
    assert sent_tasks == [("training.erase", (newer.pk,))]
    page = reverse("exports", args=[labelled.code])
    told = rosa_signed_in.get(page).content.decode()
    assert f"could not be erased from the file of label set {label_set.short_digest}" in told
    assert escape(label_set.erasing_error) in told
    assert f"file of label set {newer.short_digest}" not in told
    LabelSet.objects.update(erasing_error="")
    assert "could not be erased" not in rosa_signed_in.get(page).content.decode()


@pytest.mark.parametrize("times", [1, 2])
def test_two_that_erase_at_once_leave_one_file(
    label_set: LabelSet, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Erased twice meanwhile, the row has its first file's name again, and is another file all the same."""
    gone = [withdraw()]
    other = LabelSet.objects.get(pk=label_set.pk)

    def while_another_erases(row: LabelSet) -> Iterator[Line]:
        lines = list(left_lines(row))
        with monkeypatch.context() as patch:
            patch.setattr(files, "left_lines", left_lines)
            assert erase_withdrawn(other) == 1
            if times == 2:
                gone.append(withdraw())
                assert erase_withdrawn(other) == 1
        yield from lines

    monkeypatch.setattr(files, "left_lines", while_another_erases)
    assert erase_withdrawn(label_set) == 0
    row = LabelSet.objects.get()
    assert (row.tombstones, row.file.name) == ([one.pk for one in gone], other.file.name)
    assert files_of(row) == [Path(row.file.path).name]
    assert len(list(read_lines(row))) == 120 - times


def test_the_files_name_grows_with_no_withdrawal(label_set: LabelSet) -> None:
    for place in range(20):
        withdraw()
        assert erase_withdrawn(label_set) == 1, place
    assert len(label_set.file.name) < len(f"label_sets/{label_set.campaign.code}/{label_set.digest}.jsonl.gz") + 10
    with label_set.file.open("rb") as packed:
        assert gzip.decompress(packed.read()).count(b'"erased"') == 20


@pytest.mark.parametrize("is_erased", [True, False])
def test_a_policy_is_flagged_where_somebody_withdrew_while_it_was_trained(
    labelled: Campaign, monkeypatch: pytest.MonkeyPatch, is_erased: bool
) -> None:
    train_here = work.train_here

    def train_while_somebody_withdraws(*arguments: Any, **options: Any) -> Any:
        withdraw()
        if is_erased:
            erase(LabelSet.objects.get().pk)
        return train_here(*arguments, **options)

    monkeypatch.setattr(work, "train_here", train_while_somebody_withdraws)
    run = perform_now(start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True))
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert bool(LabelSet.objects.get().tombstones) == is_erased
    assert run.policy.is_flagged


def test_a_policy_that_is_being_stored_is_flagged_by_whoever_erases_meanwhile(
    transactional_db: None, labelled: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at before the withdrawal, committed after the erasing was sent: the eraser waits for the row."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time, and a thread cannot reach a database in memory")
    has_withdrawn, threads = threading.Event(), []

    def withdraw_and_erase() -> None:
        withdraw()
        has_withdrawn.set()
        erase(LabelSet.objects.get().pk)
        connection.close()

    def look_and_linger(data: Path, *, label_set: LabelSet) -> bool:
        found = is_outdated(data, label_set=label_set)
        threads.append(threading.Thread(target=withdraw_and_erase, daemon=True))
        threads[0].start()
        assert has_withdrawn.wait(PATIENCE)
        threads[0].join(timeout=2)
        return found

    monkeypatch.setattr(work, "is_outdated", look_and_linger)
    run = perform_now(start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True))
    threads[0].join(timeout=PATIENCE)
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert len(LabelSet.objects.get().tombstones) == 1
    assert Policy.objects.get().is_flagged


def start_heir(parent: Policy) -> Run:
    """A run from another policy's weights, on the labels that stand."""
    run = start_run(campaign=parent.campaign, config=TrainingConfig(method="rerank"), is_forced=True)
    Run.objects.filter(pk=run.pk).update(parent=parent)
    return Run.objects.get(pk=run.pk)


def test_what_starts_from_a_flagged_policy_is_flagged(policy: Policy, label_set: LabelSet) -> None:
    """Its labels are those that remain, and what was withdrawn is in its parent's weights."""
    waiting = start_heir(policy)
    withdraw()
    erase(label_set.pk)
    heir = perform_now(waiting)
    assert (heir.state, heir.reason) == (Work.State.DONE, "")
    assert heir.policy.manifest["labels"] == 104
    assert heir.policy.is_flagged


def test_heirs_are_flagged_down_the_line_and_nobody_beside_it(policy: Policy, label_set: LabelSet) -> None:
    withdraw()
    heir = perform_now(start_heir(policy)).policy
    heirs_heir = perform_now(start_heir(heir)).policy
    other = perform_now(start_run(campaign=policy.campaign, config=TrainingConfig(method="rerank"), is_forced=True))
    assert not Policy.objects.filter(is_flagged=True).exists()
    erase(label_set.pk)
    assert set(Policy.objects.filter(is_flagged=True)) == {policy, heir, heirs_heir}
    assert other.label_set == heir.run.label_set


def test_an_heir_that_is_being_stored_is_flagged_by_whoever_flags_its_parent_meanwhile(
    transactional_db: None, labelled: Campaign, policy: Policy, label_set: LabelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time, and a thread cannot reach a database in memory")
    withdraw()
    threads = []

    def erase_elsewhere() -> None:
        erase(label_set.pk)
        connection.close()

    def look_and_linger(data: Path, *, label_set: LabelSet) -> bool:
        found = is_outdated(data, label_set=label_set)
        threads.append(threading.Thread(target=erase_elsewhere, daemon=True))
        threads[0].start()
        threads[0].join(timeout=2)
        return found

    monkeypatch.setattr(work, "is_outdated", look_and_linger)
    heir = perform_now(start_heir(policy))
    threads[0].join(timeout=PATIENCE)
    assert (heir.state, heir.reason) == (Work.State.DONE, "")
    assert not any(Policy.objects.filter(is_flagged=False))


def test_a_policy_that_never_saw_what_was_erased_is_not_flagged(labelled: Campaign, label_set: LabelSet) -> None:
    withdraw()
    erase(label_set.pk)
    run = start_run(
        campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True, label_set=LabelSet.objects.get()
    )
    run = perform_now(run)
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert run.policy.manifest["labels"] == 104
    assert not run.policy.is_flagged


def test_a_stopped_run_loses_what_it_had_prepared(cancelled: Run, settings: Any) -> None:
    folder = folder_of(cancelled, settings)
    assert (folder / "data").exists()
    withdraw()
    erase(cancelled.label_set.pk)
    assert not folder.exists()
    resume_run(run=cancelled)
    run = perform_now(cancelled)
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert run.policy.manifest["labels"] == 104


def test_a_run_that_stopped_after_the_erasing_begins_anew_on_what_remains(cancelled: Run, settings: Any) -> None:
    """It was running while the file was rewritten, on a disk that the eraser does not reach."""
    folder = folder_of(cancelled, settings)
    withdraw()
    kept = folder.with_name("kept")
    folder.rename(kept)
    erase(cancelled.label_set.pk)
    kept.rename(folder)
    (folder / "log.txt").write_text("what it said")
    cancelled.metrics.create(stage="train", step=99, values={"loss": 1.0})
    resume_run(run=cancelled)
    run = perform_now(Run.objects.get(pk=cancelled.pk))
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert run.policy.manifest["labels"] == 104
    assert not run.policy.is_flagged
    assert not run.metrics.filter(step=99).exists()
    assert (folder / "log.txt").read_text() == "what it said"


def test_a_run_that_fails_after_a_withdrawal_keeps_none_of_its_texts(
    cancelled: Run, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume_run(run=cancelled)
    withdraw()
    monkeypatch.setattr(supervision.sys, "executable", "/bin/false")
    supervise("run", cancelled.pk)
    cancelled.refresh_from_db()
    assert cancelled.state == Work.State.FAILED
    assert not folder_of(cancelled, settings).exists()


SCRAPS = ("rows", "references", "pairs", "data", "checkpoints", "base", "model")


def scatter(run: Run, settings: Any, *, scraps: tuple[str, ...] = SCRAPS) -> Path:
    """The folder of a finished run with what it worked on still in it, as a death after its last row leaves it."""
    folder = folder_of(run, settings)
    for scrap in scraps:
        (folder / scrap).mkdir()
        (folder / scrap / "texts.arrow").write_text("what was chosen and rejected")
    return folder


def test_a_finished_run_that_died_before_it_swept_keeps_no_withdrawn_text(
    policy: Policy, label_set: LabelSet, settings: Any
) -> None:
    folder = scatter(policy.run, settings)
    withdraw()
    erase(label_set.pk)
    assert not [scrap for scrap in SCRAPS if (folder / scrap).exists()]
    assert (folder / "policy" / "manifest.json").is_file()
    assert (folder / "metrics.jsonl").is_file()


def test_a_run_sweeps_what_several_processes_shared(
    labelled: Campaign, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one process nothing is shared, so that the folders are put there."""
    train_here, shared = work.train_here, ("rows", "references")

    def train_and_share(*arguments: Any, **options: Any) -> Any:
        scatter(Run.objects.get(), settings, scraps=shared)
        return train_here(*arguments, **options)

    monkeypatch.setattr(work, "train_here", train_and_share)
    run = perform_now(start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True))
    assert (run.state, run.reason) == (Work.State.DONE, "")
    assert not [scrap for scrap in shared if (folder_of(run, settings) / scrap).exists()]


def test_whoever_saw_a_run_through_sweeps_after_its_death(
    policy: Policy, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scatter(policy.run, settings)
    Run.objects.filter(pk=policy.run.pk).update(state=Work.State.WAITING)
    monkeypatch.setattr(
        supervision, "_follow", lambda *_: Run.objects.filter(pk=policy.run.pk).update(state=Work.State.DONE)
    )
    monkeypatch.setattr(supervision.sys, "executable", "/bin/true")
    supervise("run", policy.run.pk)
    assert not [scrap for scrap in SCRAPS if (folder / scrap).exists()]


@pytest.mark.parametrize("end", [Work.State.WAITING, Work.State.CANCELLED, Work.State.FAILED, Work.State.DONE])
def test_however_a_run_ends_that_was_under_way_it_keeps_nothing_withdrawn(
    labelled: Campaign, label_set: LabelSet, settings: Any, sent_tasks: list[Any], end: str
) -> None:
    """Put back, or cancelled then; or its supervisor died before it forgot: the beat sees it, a worker forgets."""
    run = start_run(campaign=labelled, config=DPO, is_forced=True, label_set=label_set)
    for kept in ("data", "checkpoints"):
        (folder_of(run, settings) / kept).mkdir(parents=True)
    (folder_of(run, settings) / "data" / SEEN).write_text("0")
    Run.objects.update(state=Work.State.RUNNING, holder=uuid.uuid4(), heartbeat=timezone.now())
    withdraw()
    erase(label_set.pk)
    reconcile()
    assert sent_tasks == [], "it goes on"
    Run.objects.update(state=end, holder=None, heartbeat=None)
    reconcile()
    assert ("training.erase", (label_set.pk,)) in sent_tasks
    erase(label_set.pk)
    assert not list(folder_of(run, settings).glob("*"))
    cache.clear()
    sent_tasks.clear()
    reconcile()
    assert "training.erase" not in dict(sent_tasks)


def test_data_that_a_full_disk_cut_short_are_erased_with_their_run(
    labelled: Campaign, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = TrainingData.save

    def fill_the_disk(data: TrainingData, folder: Path) -> None:
        save(data, folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TrainingData, "save", fill_the_disk)
    run = perform_now(start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True))
    assert run.state == Work.State.FAILED
    assert (folder_of(run, settings) / "data.partial" / "data.json").exists()
    withdraw()
    erase(run.label_set.pk)
    assert not folder_of(run, settings).exists()


def test_a_run_that_fails_otherwise_keeps_its_data(
    cancelled: Run, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume_run(run=cancelled)
    monkeypatch.setattr(supervision.sys, "executable", "/bin/false")
    supervise("run", cancelled.pk)
    assert (folder_of(cancelled, settings) / "data").exists()


def test_a_run_that_was_put_back_loses_its_data_and_waits_on(cancelled: Run, settings: Any) -> None:
    resume_run(run=cancelled)
    withdraw()
    erase(cancelled.label_set.pk)
    cancelled.refresh_from_db()
    assert (cancelled.state, cancelled.holder, cancelled.attempts) == (Work.State.WAITING, None, 0)
    assert not folder_of(cancelled, settings).exists()


def test_the_folder_of_a_run_in_somebodys_hands_is_left_to_them(cancelled: Run, settings: Any) -> None:
    Run.objects.update(state=Work.State.RUNNING, holder=uuid.uuid4(), heartbeat=timezone.now())
    withdraw()
    erase(cancelled.label_set.pk)
    assert (folder_of(cancelled, settings) / "data").exists()
