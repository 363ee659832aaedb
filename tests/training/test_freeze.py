"""Freezing: the same labels give the same digest, and a withdrawn label is erased without breaking it."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation.models import Campaign, Label, Teacher, User
from annotation.services.people import ANONYMISE, withdraw_teacher
from tests.conftest import add_conversations
from tests.training.conftest import answer
from training.datasets import frozen
from training.datasets.erasing import erase_withdrawn
from training.datasets.frozen import (
    BrokenLabelSet,
    Line,
    canonical,
    freeze,
    line_of,
    lines_of,
    pack_left,
    read_lines,
)
from training.models import LabelSet
from training.pipeline.erasing import erase_from


def test_the_same_labels_freeze_to_the_same_row(labelled: Campaign) -> None:
    first, second = freeze(labelled), freeze(labelled)
    assert first.pk == second.pk
    assert LabelSet.objects.count() == 1
    assert first.label_count == 120
    assert first.summary["held_out"] == 15


def test_one_label_more_is_another_set(labelled: Campaign, teacher: Teacher) -> None:
    first = freeze(labelled)
    answer(add_conversations(labelled, 1)[0], teacher, choice="tie")
    second = freeze(labelled)
    assert second.digest != first.digest
    assert second.label_count == first.label_count + 1


def test_the_digest_is_the_sha256_of_the_lines_sha256(labelled: Campaign) -> None:
    label_set = freeze(labelled)
    with label_set.file.open("rb") as packed, gzip.open(packed) as stream:
        lines = list(stream)
    assert all(json.loads(line) for line in lines)
    digest = hashlib.sha256(b"".join(hashlib.sha256(line).digest() for line in lines)).hexdigest()
    assert digest == label_set.digest


def test_an_edit_changes_the_digest_and_the_old_answer_is_not_in_it(labelled: Campaign) -> None:
    before = freeze(labelled)
    label = Label.objects.order_by("id")[0]
    Label.objects.filter(pk=label.pk).update(state=Label.State.SUPERSEDED)
    Label.objects.create(
        campaign=labelled,
        offer=label.offer,
        comparison=label.comparison,
        teacher=label.teacher,
        arm=label.arm,
        b_first=label.b_first,
        choice="both_bad",
        supersedes=label,
    )
    after = freeze(labelled)
    assert after.digest != before.digest
    assert label.pk not in {line["id"] for line in read_lines(after)}
    assert label.pk in {line["id"] for line in read_lines(before)}


def test_a_line_holds_the_pseudonym_and_no_name(labelled: Campaign, bob: User) -> None:
    bob.first_name, bob.last_name = "Robert", "Builder"
    bob.save()
    for label in Label.objects.select_related("teacher")[:5]:
        written = canonical(line_of(label)).decode()
        assert "teacher-bob" in written
        assert not any(secret in written for secret in ("bob@example.org", "Robert", "Builder", '"bob"'))


def test_tutorial_answers_are_not_frozen(labelled: Campaign, teacher: Teacher) -> None:
    answer(add_conversations(labelled, 1)[0], teacher, choice="first", arm="tutorial")
    assert freeze(labelled).label_count == 120


def test_a_withdrawn_label_is_erased_and_the_rest_can_still_be_verified(labelled: Campaign) -> None:
    label_set = freeze(labelled)
    gone = Label.objects.order_by("id")[3]
    gone.reason = "nobody may read this"
    Label.objects.filter(pk=gone.pk).update(state=Label.State.WITHDRAWN)
    assert gone.pk not in {line["id"] for line in read_lines(label_set)}, "left out at once, before it is erased"

    assert erase_withdrawn(label_set) == 1
    label_set.refresh_from_db()
    assert label_set.tombstones == [gone.pk]
    assert len(list(read_lines(label_set))) == 119  # and the digest was checked at the end
    erased = [line for line in read_lines(label_set, with_erased=True) if "erased" in line]
    assert [set(line) for line in erased] == [{"id", "erased"}]
    assert erase_withdrawn(label_set) == 0


def test_an_answer_that_was_edited_after_the_freeze_is_erased_with_its_teacher(labelled: Campaign) -> None:
    label_set = freeze(labelled)
    first, second = Label.objects.order_by("id")[:2]
    Label.objects.filter(pk=first.pk).update(state=Label.State.SUPERSEDED)
    Label.objects.filter(pk=second.pk).update(state=Label.State.WITHDRAWN)
    assert erase_withdrawn(label_set) == 2
    assert not {first.pk, second.pk} & {line["id"] for line in read_lines(label_set)}


def test_a_label_withdrawn_before_the_freeze_leaves_no_tombstone(labelled: Campaign) -> None:
    Label.objects.filter(pk=Label.objects.order_by("id")[0].pk).update(state=Label.State.WITHDRAWN)
    label_set = freeze(labelled)
    assert label_set.label_count == 119
    assert erase_withdrawn(label_set) == 0
    assert label_set.tombstones == []


def test_a_label_withdrawn_while_it_is_being_frozen_is_erased(
    labelled: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, gone = Label.objects.order_by("id")[:2]
    Label.objects.filter(pk=first.pk).update(state=Label.State.WITHDRAWN)

    def withdraw_after_reading(campaign: Campaign) -> Iterator[Line]:
        yield from lines_of(campaign)
        Label.objects.filter(pk=gone.pk).update(state=Label.State.WITHDRAWN)

    monkeypatch.setattr(frozen, "lines_of", withdraw_after_reading)
    label_set = freeze(labelled)
    assert (label_set.label_count, label_set.withdrawn_seen) == (119, 1)
    assert erase_withdrawn(label_set) == 1
    assert label_set.tombstones == [gone.pk]


def test_a_download_holds_no_withdrawn_label_before_it_is_erased(labelled: Campaign) -> None:
    label_set = freeze(labelled)
    with label_set.file.open("rb") as packed:
        assert gzip.decompress(b"".join(pack_left(label_set))) == gzip.decompress(packed.read())
    gone = Label.objects.order_by("id")[3]
    Label.objects.filter(pk=gone.pk).update(state=Label.State.WITHDRAWN)
    lines = gzip.decompress(b"".join(pack_left(label_set))).splitlines(keepends=True)
    found = [json.loads(line) for line in lines]
    assert [set(line) for line in found if line["id"] == gone.pk] == [{"id", "erased"}]
    digest = hashlib.sha256()
    for line, written in zip(found, lines, strict=True):
        erased = line.get("erased")
        digest.update(bytes.fromhex(erased) if erased else hashlib.sha256(written).digest())
    assert digest.hexdigest() == label_set.digest


def test_the_old_pseudonym_leaves_frozen_lines_with_its_teacher(labelled: Campaign, teacher: Teacher) -> None:
    label_set = freeze(labelled)
    withdraw_teacher(teacher=teacher, how=ANONYMISE, user=None)
    assert b"teacher-bob" not in gzip.decompress(b"".join(pack_left(label_set)))
    for _again in range(2):
        erase_from(label_set.pk)
    label_set.refresh_from_db()
    with label_set.file.open("rb") as packed:
        assert b"teacher-bob" not in gzip.decompress(packed.read())
    assert {line["teacher"] for line in read_lines(label_set)} == {teacher.pseudonym}
    assert (label_set.withdrawn_seen, label_set.tombstones) == (120, [])
    again = freeze(labelled)
    assert again.digest != label_set.digest
    assert {"renamed"} & set(next(read_lines(again))) == set()


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_a_damaged_file_is_refused(labelled: Campaign, damage: str) -> None:
    label_set = freeze(labelled)
    path = Path(label_set.file.path)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        lines = gzip.decompress(content).replace(b'"choice":"first"', b'"choice":"second"', 1)
        path.write_bytes(gzip.compress(lines))
    else:
        path.unlink()
    with pytest.raises(BrokenLabelSet, match=label_set.short_digest):
        list(read_lines(label_set))


def test_an_empty_campaign_freezes_to_nothing(campaign: Campaign) -> None:
    label_set = freeze(campaign)
    assert label_set.label_count == 0
    assert list(read_lines(label_set)) == []
