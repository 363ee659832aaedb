"""Imports bring conversations once, name bad rows, and go on where they stopped."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from annotation import imports
from annotation.formats.types import BadRow, Message, Row
from annotation.imports import (
    ImportTaken,
    hub_source,
    import_conversations,
    imports_to_run,
    run_import,
    start_import,
    start_source_import,
)
from annotation.intake import is_held_out, pairs_of
from annotation.leftovers import discard_overdue
from annotation.models import Campaign, Comparison, Conversation, ImportJob, RecordedJudgement, Response, User

pytestmark = pytest.mark.django_db

Import = Callable[..., ImportJob]


@pytest.fixture
def bring(campaign: Campaign) -> Import:
    """Import rows as an uploaded file of JSON lines, to the end."""

    def bring_in(*rows: dict[str, Any] | str, into: Campaign = campaign) -> ImportJob:
        text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
        return run_import(start_import(campaign=into, name="rows.jsonl", file=ContentFile(text.encode())).pk)

    return bring_in


def pair(number: int = 0, **more: Any) -> dict[str, Any]:
    return {"prompt": f"Question {number}", "chosen": "good", "rejected": "bad", **more}


def choice(judgement: RecordedJudgement) -> str:
    """The text that a recorded judgement prefers."""
    comparison = judgement.comparison
    preferred = {1.0: comparison.a, 0.0: comparison.b}.get(judgement.outcome)
    return preferred.messages[-1]["content"] if preferred else "tie"


def test_a_conversation_comes_with_responses_a_comparison_and_what_was_recorded(
    campaign: Campaign, bring: Import
) -> None:
    job = bring(pair(category="coding", id="x-1", source="somewhere", chosen_origin="model-a"))

    conversation = Conversation.objects.get(campaign=campaign)
    assert conversation.messages == [{"role": "user", "content": "Question 0"}]
    assert (conversation.category, conversation.external_id, conversation.source) == ("coding", "x-1", "somewhere")
    assert set(conversation.responses.values_list("author", "origin")) == {("model-a", "imported"), ("", "imported")}
    comparison = Comparison.objects.get(conversation=conversation)
    assert (comparison.campaign, comparison.category) == (campaign, "coding")
    assert choice(RecordedJudgement.objects.get(comparison=comparison)) == "good"
    assert (job.state, job.format, job.rows_read) == (ImportJob.State.DONE, "preference", 1)
    assert (job.conversations_added, job.comparisons_added, job.judgements_added, job.problem_count) == (1, 1, 1, 0)
    assert job.finished_at is not None


def test_the_campaigns_counters_move_with_it(campaign: Campaign, bring: Import) -> None:
    bring(pair(1), pair(2))
    bring({"prompt": "Three", "responses": ["a", "b", "c"]})
    campaign.refresh_from_db()
    assert (campaign.conversation_count, campaign.comparison_count) == (3, 5)


def test_the_same_file_again_adds_nothing(campaign: Campaign, bring: Import) -> None:
    rows = [pair(1), pair(2), {"prompt": "x", "chosen": "y", "rejected": "z", "judge": "Ann"}]
    bring(*rows)
    again = bring(*rows)
    assert (again.conversations_added, again.comparisons_added, again.judgements_added) == (0, 0, 0)
    assert again.conversations_known == 3
    campaign.refresh_from_db()
    assert (campaign.conversation_count, campaign.comparison_count) == (3, 3)
    assert (Conversation.objects.count(), Response.objects.count(), RecordedJudgement.objects.count()) == (3, 6, 3)


def test_the_same_row_twice_in_a_file_is_one_conversation(bring: Import) -> None:
    job = bring(pair(), {**pair(), "chosen": "bad", "rejected": "good", "judge": "Ann"})
    assert (job.conversations_added, job.conversations_known, job.judgements_added) == (1, 1, 2)
    assert {item.judge: choice(item) for item in RecordedJudgement.objects.all()} == {"": "good", "Ann": "bad"}


def test_another_campaign_gets_its_own(campaign: Campaign, bring: Import) -> None:
    other = Campaign.objects.create(name="Other")
    bring(pair())
    assert bring(pair(), into=other).conversations_added == 1


def test_a_judges_first_word_stands(bring: Import) -> None:
    bring(pair(judge="Ann"))
    assert bring({**pair(judge="Ann"), "chosen": "bad", "rejected": "good"}).judgements_added == 0
    assert choice(RecordedJudgement.objects.get()) == "good"


def test_another_file_adds_its_judges_to_what_is_there(bring: Import) -> None:
    bring(pair(judge="Ann"))
    job = bring({"prompt": "Question 0", "responses": ["bad", "good"], "quality": [1, 1], "judge": "Ben"})
    assert (job.conversations_added, job.conversations_known, job.judgements_added) == (0, 1, 1)
    assert {item.judge: choice(item) for item in RecordedJudgement.objects.all()} == {"Ann": "good", "Ben": "tie"}


def test_bad_rows_are_listed_and_the_others_go_in(bring: Import) -> None:
    job = bring(pair(1), "{oops", pair(2, chosen=""), pair(3, chosen="a\0b"), pair(4))
    assert (job.state, job.conversations_added, job.problem_count, job.rows_read) == ("done", 2, 3, 5)
    assert [problem.line for problem in job.problems.all()] == [2, 3, 4]
    assert "NUL" in job.problems.get(line=4).reason


def test_of_many_bad_rows_a_thousand_are_kept_and_all_are_counted(
    bring: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "PROBLEMS_KEPT", 10)
    monkeypatch.setattr(imports, "CHUNK", 4)
    job = bring(pair(1), *["{oops"] * 25)
    assert (job.problems.count(), job.problem_count) == (10, 25)


def test_a_file_in_no_known_format_fails_with_a_reason(bring: Import) -> None:
    job = bring({"question": "a", "answer": "b"})
    assert job.state == ImportJob.State.FAILED
    assert "'answer', 'question'" in job.reason


def test_what_stood_before_the_damage_goes_in(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "CHUNK", 2)
    whole = json.dumps([pair(number) for number in range(5)]).encode()
    job = run_import(start_import(campaign=campaign, name="cut.json", file=ContentFile(whole[:-10])).pk)
    assert (job.state, job.conversations_added) == (ImportJob.State.FAILED, 4)
    assert "cut off" in job.reason


def test_the_order_of_responses_does_not_tell_which_was_chosen(bring: Import) -> None:
    bring(*[{"prompt": f"{number}", "chosen": f"yes {number}", "rejected": f"no {number}"} for number in range(200)])
    first = RecordedJudgement.objects.filter(outcome=1).count()
    assert 70 < first < 130  # 100 ± 4 standard deviations


def test_word_for_word_equal_responses_are_one_with_both_authors(bring: Import) -> None:
    job = bring({"prompt": "a", "responses": ["x", "y", "x"], "origins": ["m", "n", "o"], "ranks": [0, 1, 0]})
    assert set(Response.objects.values_list("author", flat=True)) == {"m, o", "n"}
    assert (job.comparisons_added, job.judgements_added) == (1, 1)
    assert choice(RecordedJudgement.objects.get()) == "x"


# Comparisons


def test_few_responses_are_compared_each_with_each_other(bring: Import) -> None:
    assert bring({"prompt": "a", "responses": [str(number) for number in range(10)]}).comparisons_added == 45


def test_many_responses_are_compared_with_their_neighbours(bring: Import) -> None:
    responses = [str(number) for number in range(20)]
    job = bring({"prompt": "a", "responses": responses, "quality": list(range(20))})
    assert (job.comparisons_added, job.judgements_added) == (20, 20)
    seen = [pk for ids in Comparison.objects.values_list("a_id", "b_id") for pk in ids]
    assert all(seen.count(pk) == 2 for pk in Response.objects.values_list("id", flat=True))


def test_pairs_by_hand() -> None:
    assert pairs_of([3, 5, 9]) == [(3, 5), (3, 9), (5, 9)]
    ring = pairs_of(list(range(11)))
    assert len(ring) == 11
    assert ring[-1] == (0, 10)


# The held-out split


def test_one_prompt_is_on_one_side_whatever_its_responses(campaign: Campaign, bring: Import) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(holdout_share=0.5)
    campaign.refresh_from_db()
    bring(*[pair(number, rejected=f"bad {other}") for number in range(20) for other in range(3)])
    sides = {
        (conversation.messages[0]["content"], conversation.is_held_out)
        for conversation in Conversation.objects.all()
    }  # fmt: skip
    assert len(sides) == 20
    assert {is_held for _, is_held in sides} == {True, False}
    for comparison in Comparison.objects.select_related("conversation"):
        assert comparison.is_held_out == comparison.conversation.is_held_out


def test_the_share_held_out_is_the_campaigns() -> None:
    prompts = [[Message("user", str(number))] for number in range(5000)]
    assert not any(is_held_out(prompt, share=0) for prompt in prompts)
    assert all(is_held_out(prompt, share=1) for prompt in prompts)
    small = {prompt[0].content for prompt in prompts if is_held_out(prompt, share=0.1)}
    large = {prompt[0].content for prompt in prompts if is_held_out(prompt, share=0.2)}
    assert 0.08 < len(small) / 5000 < 0.12
    assert small < large  # a larger share keeps what was held out


# Votes


def answer(question: int, model: str, first: str) -> dict[str, Any]:
    turns = [("user", f"Question {question}"), ("assistant", first), ("user", "Go on."), ("assistant", f"{first}!")]
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"question_id": question, "model": model, "category": "math", "messages": messages}


def vote(judge: str, one: str, other: str, winner: str, *, question: int = 7, turn: int = 1) -> dict[str, Any]:
    return {
        "judge": judge, "question_id": question, "turn": turn, "model_a": one, "model_b": other, "winner": winner,
    }  # fmt: skip


def test_votes_attach_to_the_conversations_of_another_file(bring: Import) -> None:
    bring(answer(7, "m", "four"), answer(7, "n", "five"))
    votes = [vote("Ann", "m", "n", "model_a"), vote("Ben", "n", "m", "model_a"), vote("Ann", "n", "m", "tie", turn=2)]
    job = bring(*votes)
    assert (job.format, job.judgements_added, job.problem_count) == ("mtbench-votes", 3, 0)
    found = {
        (item.judge, item.comparison.conversation.external_id): choice(item) for item in RecordedJudgement.objects.all()
    }
    assert found == {("Ann", "mt-bench/7/1"): "four", ("Ben", "mt-bench/7/1"): "five", ("Ann", "mt-bench/7/2"): "tie"}
    assert bring(*votes).judgements_added == 0


def test_votes_without_their_conversation_are_listed(bring: Import) -> None:
    bring(answer(7, "m", "four"), answer(7, "n", "five"), answer(7, "o", "four"))
    job = bring(
        vote("Ann", "m", "n", "model_a"),
        vote("Ann", "m", "x", "model_a"),
        vote("Ann", "m", "n", "model_a", question=8),
        vote("Ann", "m", "o", "tie"),
    )
    assert (job.judgements_added, job.problem_count) == (1, 3)
    reasons = {problem.line: problem.reason for problem in job.problems.all()}
    assert "no answer of m or of x" in reasons[2]
    assert "import the file of conversations first" in reasons[3]
    assert "word for word" in reasons[4]


# Jobs


def test_uploads_that_no_import_names_go_after_a_day(campaign: Campaign) -> None:
    kept, lost = (start_import(campaign=campaign, name="x", file=ContentFile(b"{}")).file.name for _upload in range(2))
    ImportJob.objects.exclude(file=kept).delete()  # what follows the commit of it never comes in this test
    for days, is_left in ((0.9, True), (1.1, False)):
        discard_overdue(now=timezone.now() + timedelta(days=days))
        assert [default_storage.exists(name) for name in (kept, lost)] == [True, is_left]


def test_an_upload_lies_under_a_generated_name(campaign: Campaign, alice: User) -> None:
    job = start_import(campaign=campaign, name="../../etc/passwd", file=ContentFile(b"{}"), user=alice)
    assert job.file.name.startswith("imports/")
    assert "passwd" not in job.file.name
    assert default_storage.exists(job.file.name)
    assert (job.name, job.created_by, job.state) == ("../../etc/passwd", alice, ImportJob.State.WAITING)


def test_a_finished_job_is_not_run_again(campaign: Campaign, bring: Import) -> None:
    with pytest.raises(ImportTaken):
        run_import(bring(pair()).pk)
    assert Conversation.objects.count() == 1


def test_a_running_job_is_left_to_its_worker_until_it_falls_silent(campaign: Campaign) -> None:
    job = start_import(campaign=campaign, name="x", file=ContentFile(json.dumps(pair()).encode()))
    assert imports_to_run() == [job.pk]
    ImportJob.objects.filter(pk=job.pk).update(state=ImportJob.State.RUNNING, heartbeat=timezone.now())
    assert imports_to_run() == []
    with pytest.raises(ImportTaken):
        run_import(job.pk)
    ImportJob.objects.filter(pk=job.pk).update(heartbeat=timezone.now() - timedelta(seconds=61))
    assert imports_to_run() == [job.pk]
    assert run_import(job.pk).conversations_added == 1
    assert imports_to_run() == []


def fall_silent(job: ImportJob) -> None:
    """As a worker leaves a job that was killed."""
    long_ago = timezone.now() - timedelta(seconds=61)
    ImportJob.objects.filter(pk=job.pk).update(state=ImportJob.State.RUNNING, heartbeat=long_ago)


def test_an_import_that_loses_three_workers_in_one_place_fails_with_the_reason(campaign: Campaign) -> None:
    job = start_import(campaign=campaign, name="x", file=ContentFile(json.dumps(pair()).encode()))
    for _ in range(3):
        imports.claim(job.pk)
        fall_silent(job)
    assert imports_to_run() == [job.pk]
    assert run_import(job.pk).state == ImportJob.State.FAILED
    job.refresh_from_db()
    assert "Three workers were lost after row 0" in job.reason
    assert imports_to_run() == []
    assert Conversation.objects.count() == 0


def test_an_import_that_goes_on_may_lose_any_number_of_workers(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "CHUNK", 1)
    rows = "\n".join(json.dumps(pair(number)) for number in range(6))
    job = start_import(campaign=campaign, name="x", file=ContentFile(rows.encode()))
    whole = imports.import_chunk

    def die_after_it(job: ImportJob, chunk: Any) -> None:
        whole(job, chunk)
        raise OperationalError("the database is away")

    monkeypatch.setattr(imports, "import_chunk", die_after_it)
    for _ in range(6):
        with pytest.raises(OperationalError):
            run_import(job.pk)
        fall_silent(job)
    assert run_import(job.pk).state == ImportJob.State.DONE
    assert Conversation.objects.count() == 6


def test_a_run_that_died_goes_on_after_its_last_chunk(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "CHUNK", 2)
    rows = "\n".join(json.dumps(pair(number)) if number != 4 else "{oops" for number in range(7))
    job = start_import(campaign=campaign, name="x", file=ContentFile(rows.encode()))
    whole = imports.import_chunk
    calls = []

    def die_at_the_third(job: ImportJob, chunk: Any) -> None:
        calls.append(chunk)
        if len(calls) == 3:
            raise OperationalError("the database is away")
        whole(job, chunk)

    monkeypatch.setattr(imports, "import_chunk", die_at_the_third)
    with pytest.raises(OperationalError):
        run_import(job.pk)
    job.refresh_from_db()
    assert (job.state, job.rows_read, job.conversations_added) == (ImportJob.State.RUNNING, 4, 4)

    monkeypatch.setattr(imports, "import_chunk", whole)
    ImportJob.objects.filter(pk=job.pk).update(heartbeat=timezone.now() - timedelta(seconds=61))
    done = run_import(job.pk)
    assert (done.state, done.rows_read, done.conversations_added, done.conversations_known) == ("done", 7, 6, 0)
    assert done.problem_count == 1
    campaign.refresh_from_db()
    assert campaign.conversation_count == 6


def test_a_chunk_goes_in_whole_or_not_at_all(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    job = start_import(campaign=campaign, name="x", file=ContentFile(json.dumps(pair()).encode()))

    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("at the very end")

    monkeypatch.setattr(imports, "count", fail)
    with pytest.raises(RuntimeError):
        run_import(job.pk)
    job.refresh_from_db()
    assert (job.state, job.rows_read) == (ImportJob.State.FAILED, 0)
    assert "at the very end" in job.reason
    assert not Conversation.objects.exists()


def test_a_resumed_import_gives_signs_of_life_while_it_passes_over_what_went_in(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotation.imports.SIGN_OF_LIFE", 2)
    job = start_import(campaign=campaign, name="x", file=ContentFile(b""))
    long_ago = timezone.now() - timedelta(seconds=50)
    job.state, job.rows_read = ImportJob.State.RUNNING, 5
    job.save()
    alive = []

    def rows() -> Iterator[Row]:
        for number in range(7):
            alive.append(ImportJob.objects.get().heartbeat != long_ago)
            ImportJob.objects.update(heartbeat=long_ago)
            yield Row(number + 1, pair(number))

    import_conversations(job=job, rows=rows())
    assert Conversation.objects.count() == 2
    assert sum(alive) >= 2


def test_a_worker_that_was_overtaken_stops(campaign: Campaign) -> None:
    """Two workers hold one job: the one whose count is behind writes nothing."""
    job = start_import(campaign=campaign, name="x", file=ContentFile(b""))
    ImportJob.objects.filter(pk=job.pk).update(state=ImportJob.State.RUNNING, rows_read=5)
    with pytest.raises(ImportTaken):
        import_conversations(job=job, rows=[Row(1, pair()), BadRow(2, "bad")])
    assert not Conversation.objects.exists()


# The command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([json.dumps(pair(number)) for number in range(3)] + ["{oops"]))
    return path


@pytest.mark.parametrize("by", ["name", "code", "pk"])
def test_the_command_imports_and_sums_up(
    campaign: Campaign, file: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    call_command("import_conversations", str(getattr(campaign, by)), str(file))
    said = capsys.readouterr().out
    assert "3 conversations imported" in said
    assert "0 were there already" in said
    assert "line 4: not JSON" in said
    assert Conversation.objects.filter(campaign=campaign).count() == 3


def test_the_command_imports_the_sample(campaign: Campaign) -> None:
    call_command("import_conversations", campaign.name, "sample")
    campaign.refresh_from_db()
    assert (campaign.conversation_count, campaign.comparison_count) == (63, 331)


def test_the_command_reads_a_folder_through_datasets(campaign: Campaign, file: Path) -> None:
    file.write_text("\n".join(json.dumps(pair(number)) for number in range(3)))
    call_command("import_conversations", campaign.name, str(file.parent), split="train")
    assert Conversation.objects.filter(campaign=campaign).count() == 3


def test_the_command_names_the_campaigns_there_are(campaign: Campaign, file: Path) -> None:
    with pytest.raises(CommandError, match="Helpful answers"):
        call_command("import_conversations", "Helpless answers", str(file))
    Campaign.objects.create(name=campaign.name)
    with pytest.raises(CommandError, match="Several"):
        call_command("import_conversations", campaign.name, str(file))


def test_the_command_fails_with_the_jobs_reason(campaign: Campaign, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    with pytest.raises(CommandError, match="empty"):
        call_command("import_conversations", campaign.name, str(empty))


@pytest.mark.parametrize("source", ["x" * 300, "/".join(["folder"] * 100)], ids=["a name", "a path"])
def test_the_command_refuses_a_source_that_is_too_long(campaign: Campaign, source: str) -> None:
    with pytest.raises(CommandError, match=r"too long|at most 500"):
        call_command("import_conversations", campaign.name, source)
    assert not ImportJob.objects.exists()


def test_the_command_makes_no_campaign_of_a_name_that_is_too_long(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    with pytest.raises(CommandError, match="at most 120 characters"):
        call_command("import_conversations", "x" * 121, "sample", "--new")
    assert not Campaign.objects.exists()


@pytest.mark.parametrize("typed", ["rows.jsonl", "."])
def test_what_the_command_was_given_is_found_from_any_folder(
    campaign: Campaign,
    file: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    typed: str,
) -> None:
    file.write_text("\n".join(json.dumps(pair(number)) for number in range(3)))
    monkeypatch.chdir(file.parent)
    source = typed if typed != "." else hub_source(typed, split="train")
    job = start_source_import(campaign=campaign, source=source)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run_import(job.pk).state == ImportJob.State.DONE
    assert job.name == source
    assert Conversation.objects.filter(campaign=campaign).count() == 3


def test_a_command_that_is_stopped_by_hand_leaves_nothing_to_carry_on(
    campaign: Campaign, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("annotation.imports.import_chunk", interrupt)
    with pytest.raises(CommandError, match="by hand"):
        call_command("import_conversations", campaign.name, str(file))
    ImportJob.objects.update(heartbeat=timezone.now() - timedelta(hours=1))
    assert imports_to_run() == []


def test_a_hub_source_says_its_split() -> None:
    assert hub_source("org/name") == "org/name"
    assert hub_source("org/name", split="test", config="a b") == "org/name?config=a+b&split=test"


def test_progress_is_told_in_bytes_of_the_file(campaign: Campaign, file: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    job = start_source_import(campaign=campaign, source=str(file))
    assert imports_to_run() == []  # the command's own
    run_import(job.pk, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (file.stat().st_size, file.stat().st_size)


@pytest.mark.django_db(transaction=True)
def test_two_imports_of_one_file_at_a_time_add_it_once(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("the test database in memory takes one connection: PostgreSQL decides this")
    monkeypatch.setattr(imports, "CHUNK", 10)
    rows = "\n".join(json.dumps(pair(number)) for number in range(100)).encode()
    jobs = [start_import(campaign=campaign, name=f"{number}", file=ContentFile(rows)) for number in range(4)]
    ready = Barrier(len(jobs))

    def work(job: ImportJob) -> ImportJob:
        try:
            ready.wait()
            return run_import(job.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(jobs)) as workers:
        done = list(workers.map(work, jobs))
    assert {job.state for job in done} == {"done"}
    assert sum(job.conversations_added for job in done) == 100
    assert sum(job.conversations_known for job in done) == 300
    assert sum(job.comparisons_added for job in done) == 100
    campaign.refresh_from_db()
    assert (campaign.conversation_count, campaign.comparison_count) == (100, 100)
    assert (Conversation.objects.count(), Response.objects.count(), Comparison.objects.count()) == (100, 200, 100)
    assert RecordedJudgement.objects.count() == 100
