"""Exports: other tools load them and train on them, unchanged."""

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from activelearning.models import Estimate, Projection, TeacherRationality
from annotation.models import Adjudication, Campaign, Comparison, Label, Membership, Response, Teacher
from annotation.services.people import ANONYMISE, withdraw_teacher
from tests.conftest import add_conversations
from tests.training.conftest import answer
from training.datasets.exports import export, implied_pairs, rationalities_of
from training.datasets.frozen import Line, freeze, lines_of, read_lines


def rows_of(campaign: Campaign, kind: str) -> list[dict[str, Any]]:
    text = b"".join(export(lines_of(campaign), kind=kind, format="jsonl", rationalities=rationalities_of(campaign)))
    return [json.loads(line) for line in text.splitlines()]


def write(folder: Path, campaign: Campaign, kind: str, format: str) -> Path:
    path = folder / f"{kind}.{format}"
    label_set = freeze(campaign)
    path.write_bytes(
        b"".join(export(read_lines(label_set), kind=kind, format=format, rationalities=rationalities_of(campaign)))
    )
    return path


def test_the_chosen_response_is_the_one_the_teacher_saw_and_chose(campaign: Campaign, teacher: Teacher) -> None:
    one, two = add_conversations(campaign, 2)
    answer(one, teacher, choice="first", b_first=True, strength=3)
    answer(two, teacher, choice="second", b_first=True)
    first, second = rows_of(campaign, "preferences")
    assert first["chosen"] == one.b.messages
    assert first["rejected"] == one.a.messages
    assert first["margin"] == 3.0
    assert second["chosen"] == two.a.messages
    assert second["margin"] == 0.0
    assert first["prompt"] == one.conversation.messages
    assert (first["teacher"], first["category"], first["arm"]) == ("teacher-bob", "coding", "designed")


@pytest.mark.django_db(transaction=True)
def test_a_download_keeps_nobody_from_writing(campaign: Campaign, teacher: Teacher) -> None:
    """SQLite's transactions take the lock to write when they begin."""
    (one,) = add_conversations(campaign, 1)
    answer(one, teacher, choice="first")
    lines = lines_of(campaign)
    next(lines)
    assert connection.in_atomic_block == (connection.vendor == "postgresql")
    assert list(lines) == []


def test_ties_stand_apart_and_are_counted_once(campaign: Campaign, teacher: Teacher) -> None:
    one, two, three = add_conversations(campaign, 3)
    answer(one, teacher, choice="tie")
    answer(two, teacher, choice="both_bad")
    answer(three, teacher, choice="first")
    assert [row["tie"] for row in rows_of(campaign, "ties")] == ["tie", "both_bad"]
    assert len(rows_of(campaign, "preferences")) == 1
    assert len(rows_of(campaign, "labels")) == 3


def test_a_repeat_is_a_label_and_no_second_preference(campaign: Campaign, teacher: Teacher) -> None:
    (one,) = add_conversations(campaign, 1)
    answer(one, teacher, choice="first")
    answer(one, teacher, choice="second", arm="repeat", b_first=True)
    assert len(rows_of(campaign, "preferences")) == 1
    assert [row["arm"] for row in rows_of(campaign, "labels")] == ["designed", "repeat"]


def test_a_ranking_of_three_is_three_pairs_of_weight_two_thirds(campaign: Campaign, teacher: Teacher) -> None:
    comparison = add_conversations(campaign, 1, responses=3)[0]
    low, middle, high = Response.objects.filter(conversation=comparison.conversation).order_by("id")
    answer(comparison, teacher, choice="second", ranking=[[high.pk], [low.pk, middle.pk]])
    rows = rows_of(campaign, "preferences")
    assert [(row["chosen"], row["weight"]) for row in rows] == [(high.messages, 2 / 3)] * 2
    (tie,) = rows_of(campaign, "ties")
    assert tie["weight"] == 2 / 3
    (line,) = lines_of(campaign)
    assert sorted((a["id"], b["id"], outcome) for a, b, outcome, _ in implied_pairs(line)) == [
        (low.pk, middle.pk, 0.5),
        (low.pk, high.pk, 0.0),
        (middle.pk, high.pk, 0.0),
    ]


def test_rationality_is_as_stated_or_as_estimated(labelled: Campaign, teacher: Teacher) -> None:
    Membership.objects.filter(teacher=teacher).update(rationality={"": 0.7, "coding": 1.4})
    assert {row["rationality"] for row in rows_of(labelled, "preferences")} == {1.4}
    estimate = Estimate.objects.create(
        campaign=labelled,
        projection=Projection.objects.get(),
        label_version=1,
        label_count=1,
        ridge=1,
        log_det=1,
        smallest_eigenvalue=1,
    )
    TeacherRationality.objects.create(
        campaign=labelled, teacher=teacher, category="coding", value=2.2, error=0.1, estimate=estimate
    )
    labelled.rationality_mode = Campaign.RationalityMode.ESTIMATED
    assert {row["rationality"] for row in rows_of(labelled, "preferences")} == {2.2}


@pytest.mark.parametrize("kind", ["preferences", "ties", "labels"])
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_datasets_loads_it(labelled: Campaign, teacher: Teacher, tmp_path: Path, kind: str, format: str) -> None:
    from datasets import load_dataset

    answer(add_conversations(labelled, 1)[0], teacher, choice="tie")
    path = write(tmp_path, labelled, kind, format)
    loader = {"jsonl": "json", "parquet": "parquet"}[format]
    found = load_dataset(loader, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(found) == {"preferences": 120, "ties": 1, "labels": 121}[kind]
    assert found[0]["prompt"][0]["role"] == "user"
    assert found[0]["teacher"] == "teacher-bob"


@pytest.mark.parametrize("kind", ["preferences", "ties", "labels"])
def test_datasets_loads_what_was_first_said_after_its_first_block(
    campaign: Campaign, teacher: Teacher, tmp_path: Path, kind: str
) -> None:
    """What a column holds in the first rows decides what it may hold in all of them."""
    from datasets import load_dataset

    guidelines = campaign.guidelines.get()
    *plain, said = add_conversations(campaign, 24, responses=2)
    choice = "tie" if kind == "ties" else "first"
    for comparison in plain:
        answer(comparison, teacher, choice=choice)
    answer(
        said,
        teacher,
        choice=choice,
        strength=2,
        criteria={"truth": "first"},
        reason="It is right.",
        guidelines=guidelines,
        ranking=[[said.a_id], [said.b_id]] if kind == "labels" else None,
    )
    Adjudication.objects.create(campaign=campaign, comparison=said, verdict="a")
    path = write(tmp_path, campaign, kind, "jsonl")
    found = load_dataset(
        "json",
        data_files=str(path),
        split="train",
        cache_dir=str(tmp_path / "cache"),
        chunksize=path.stat().st_size // 6,
    )
    assert len(found) == 24
    assert found[23]["adjudicated"] == {"preferences": "chosen"}.get(kind, "a")
    assert found[0]["adjudicated"] == ""
    if kind == "labels":
        assert (found[0]["strength"], found[23]["strength"]) == (0, 2)
        assert (found[0]["guidelines"], found[23]["guidelines"]) == (0, guidelines.version)
        assert (found[0]["criteria"], json.loads(found[23]["criteria"])) == ("", {"truth": "first"})
        assert (found[0]["ranking"], len(json.loads(found[23]["ranking"]))) == ("", 2)


def test_both_formats_hold_the_same(labelled: Campaign, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in write(tmp_path, labelled, "preferences", "jsonl").read_text().splitlines()]
    assert pq.read_table(write(tmp_path, labelled, "preferences", "parquet")).to_pylist() == rows


def test_an_unchanged_dpo_trainer_trains_on_it(labelled: Campaign, tmp_path: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    from training.algorithms.tiny import save_tiny

    base = save_tiny(tmp_path / "base")
    path = write(tmp_path, labelled, "preferences", "parquet")
    data = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    trainer = DPOTrainer(
        model=str(base),
        args=DPOConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=2,
            per_device_train_batch_size=2,
            max_length=128,
            report_to=[],
            use_cpu=True,
            bf16=False,
            logging_steps=1,
        ),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(0.6931, abs=1e-3), "before any step policy and reference agree: log 2"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "  =", "\uff1d"])
def test_no_cell_of_the_csv_is_a_formula(campaign: Campaign, teacher: Teacher, start: str) -> None:
    answer(add_conversations(campaign, 1)[0], teacher, choice="first", reason=f"{start}HYPERLINK(1)")
    text = b"".join(export(lines_of(campaign), kind="labels", format="csv", rationalities={})).decode()
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["reason"] == f"'{start}HYPERLINK(1)"
    assert row["prompt"].startswith("user: ")


@pytest.mark.parametrize("format", ["jsonl", "parquet", "csv"])
def test_memory_does_not_grow_with_the_number_of_labels(labelled: Campaign, format: str) -> None:
    line = next(iter(read_lines(freeze(labelled))))

    def many(count: int) -> Iterator[Line]:
        for number in range(count):
            yield {**line, "id": number}

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in export(many(count), kind="preferences", format=format, rationalities={}):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1000)
    assert peak(8000) < 2 * peak(2000)


def test_the_frozen_file_gives_the_same_preferences_as_the_live_labels(labelled: Campaign) -> None:
    live = rows_of(labelled, "preferences")
    frozen = export(
        read_lines(freeze(labelled)), kind="preferences", format="jsonl", rationalities=rationalities_of(labelled)
    )
    assert [json.loads(line) for line in b"".join(frozen).splitlines()] == live
    assert Label.objects.count() == len(live) == Comparison.objects.count()


def test_a_frozen_label_whose_teacher_left_has_the_new_name_and_the_rationality_at_once(
    labelled: Campaign, teacher: Teacher
) -> None:
    Membership.objects.filter(teacher=teacher).update(rationality={"": 3.0})
    label_set = freeze(labelled)
    withdraw_teacher(teacher=teacher, how=ANONYMISE, user=None)
    live = rows_of(labelled, "preferences")
    frozen = export(read_lines(label_set), kind="preferences", format="jsonl", rationalities=rationalities_of(labelled))
    assert [json.loads(line) for line in b"".join(frozen).splitlines()] == live
    assert {row["rationality"] for row in live} == {3.0}


def test_a_reviewers_decision_stands_beside_the_label_and_changes_none(campaign: Campaign, teacher: Teacher) -> None:
    one, two, three, four = add_conversations(campaign, 4)
    answer(one, teacher, choice="first", b_first=True)
    answer(two, teacher, choice="first")
    answer(three, teacher, choice="tie")
    answer(four, teacher, choice="first")
    before = rows_of(campaign, "preferences")
    for comparison, verdict in ((one, "a"), (two, "a"), (three, "b"), (four, "left")):
        Adjudication.objects.create(campaign=campaign, comparison=comparison, verdict=verdict)
    after = rows_of(campaign, "preferences")
    assert [row.pop("adjudicated") for row in before] == [""] * 3
    assert [row.pop("adjudicated") for row in after] == ["rejected", "chosen", ""]
    assert after == before
    assert [row["adjudicated"] for row in rows_of(campaign, "ties")] == ["b"]
    assert [row["adjudicated"] for row in rows_of(campaign, "labels")] == ["a", "a", "b", ""]
    assert [row["outcome"] for row in rows_of(campaign, "labels")] == [0.0, 1.0, 0.5, 1.0]


def test_of_a_ranking_only_the_pair_that_was_reviewed_is_marked(campaign: Campaign, teacher: Teacher) -> None:
    comparison = add_conversations(campaign, 1, responses=3)[0]
    low, middle, high = Response.objects.filter(conversation=comparison.conversation).order_by("id")
    answer(comparison, teacher, choice="second", ranking=[[high.pk], [middle.pk], [low.pk]])
    Adjudication.objects.create(campaign=campaign, comparison=comparison, verdict="a")
    marked = {(r["chosen"][0]["content"], r["adjudicated"]) for r in rows_of(campaign, "preferences")}
    assert marked == {(high.messages[0]["content"], ""), (middle.messages[0]["content"], "rejected")}


def test_a_decision_is_another_label_set_and_one_taken_back_is_in_none(campaign: Campaign, teacher: Teacher) -> None:
    (one,) = add_conversations(campaign, 1)
    answer(one, teacher, choice="first")
    before = freeze(campaign)
    decision = Adjudication.objects.create(campaign=campaign, comparison=one, verdict="b")
    after = freeze(campaign)
    assert after.digest != before.digest
    assert [line["adjudicated"] for line in read_lines(after)] == ["b"]
    Adjudication.objects.filter(pk=decision.pk).update(state="retracted")
    assert freeze(campaign) == before
