"""Languages: read from the rows of a source, told by teachers, and matched."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation.imports import run_import, start_import
from annotation.languages import code_of, codes_of, may_read
from annotation.models import Campaign, Comparison, Conversation, Enrolment, Offer, Pool, Teacher, User
from annotation.services.enrolments import enrol, read_guidelines, set_languages
from annotation.services.labels import record_label
from annotation.services.news import has_work
from annotation.services.offers import claim_offer, lapse_offers
from tests.conftest import add_conversations

READERS = [([], [], True), (["fr"], [], False), ([], ["fr"], False), (["fr", "de"], ["German"], True)]
"""What the pool and the teacher read, and whether that has German in it."""


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("de", "de"), ("de-AT", "de"), ("pt_BR", "pt"), ("German", "de"), ("deutsch", "de"), (" EN ", "en"),
        ("zh-Hant", "zh"),
        ("unknown", ""), ("", ""), (None, ""), (["de"], ""), ("!!", ""), ("x" * 40, ""),
    ],
)  # fmt: skip
def test_a_language_is_known_by_code_or_name(written: object, code: str) -> None:
    assert code_of(written) == code


def test_codes_come_once_in_their_order() -> None:
    assert codes_of(["German", "en", "de-CH", "nothing at all"]) == ["de", "en"]


@pytest.mark.parametrize(
    ("language", "lists", "may"),
    [
        ("de", (["de", "en"], []), True),
        ("de", (["de", "en"], ["en"]), False),
        ("de", (["English"], []), False),
        ("de", ([], []), True),
        ("", (["en"], ["fr"]), True),
    ],
)
def test_the_pool_and_the_teacher_must_both_have_it(language: str, lists: tuple[list[str], ...], may: bool) -> None:
    assert may_read(language, *lists) is may


@pytest.mark.django_db
def test_the_importer_reads_the_language_of_a_row(campaign: Campaign) -> None:
    rows = [
        {"prompt": "Eins", "chosen": "gut", "rejected": "schlecht", "language": "German"},
        {"prompt": "Two", "responses": ["good", "bad"], "lang": "en-GB"},
        {"prompt": "Three", "chosen": "good", "rejected": "bad", "language": {"no": "name"}},
        {"prompt": "Four", "chosen": "good", "rejected": "bad"},
    ]
    for chunk in (rows[:1] + rows[2:], rows[1:2]):
        text = "\n".join(map(json.dumps, chunk))
        job = run_import(start_import(campaign=campaign, name="rows.jsonl", file=ContentFile(text.encode())).pk)
        assert job.problem_count == 0
    found = {one.messages[0]["content"]: one.language for one in Conversation.objects.filter(campaign=campaign)}
    assert found == {"Eins": "de", "Two": "en", "Three": "", "Four": ""}


@pytest.mark.django_db
def test_a_teacher_says_what_they_read(teacher: Teacher, bob: User, sign_in: Callable[[User], Client]) -> None:
    client = sign_in(bob)
    for _twice in range(2):
        assert (
            client.post(reverse("account_languages"), {"languages": "German, en, gibberish words"}).status_code == 302
        )
        teacher.refresh_from_db()
        assert teacher.languages == ["de", "en"]
    assert 'value="de, en"' in client.get(reverse("account")).content.decode()


@pytest.mark.django_db
def test_a_stranger_says_it_for_nobody(teacher: Teacher, charlie: User, sign_in: Callable[[User], Client]) -> None:
    sign_in(charlie).post(reverse("account_languages"), {"languages": "de"})
    assert list(Teacher.objects.values_list("languages", flat=True)) == [[]]


@pytest.mark.django_db
@pytest.mark.parametrize(("pool_reads", "teacher_reads", "is_work"), READERS)
def test_what_one_cannot_read_is_no_work_to_be_told_of(
    campaign: Campaign, teacher: Teacher, pool: Pool, pool_reads: list[str], teacher_reads: list[str], is_work: bool
) -> None:
    add_conversations(campaign, 2)
    Conversation.objects.update(language="de")
    Pool.objects.update(languages=pool_reads)
    Teacher.objects.update(languages=teacher_reads)
    teacher.refresh_from_db()
    assert has_work(campaign, teacher=teacher, now=timezone.now()) is is_work
    assert Comparison.objects.count() == 2


@pytest.fixture
def lessons(campaign: Campaign) -> list[Comparison]:
    """A lesson in German, and gold in German."""
    lesson, gold = add_conversations(campaign, 2)
    Conversation.objects.update(language="de")
    Comparison.objects.update(gold_outcome=1)
    Comparison.objects.filter(pk=lesson.pk).update(is_tutorial=True)
    return [lesson, gold]


@pytest.mark.django_db
@pytest.mark.parametrize(("pool_reads", "teacher_reads", "is_asked"), READERS)
def test_a_lesson_is_in_a_language_that_the_teacher_reads(
    campaign: Campaign,
    teacher: Teacher,
    pool: Pool,
    lessons: list[Comparison],
    pool_reads: list[str],
    teacher_reads: list[str],
    is_asked: bool,
) -> None:
    Pool.objects.update(languages=pool_reads)
    Teacher.objects.update(languages=teacher_reads)
    Campaign.objects.update(qualification_size=1)
    campaign.refresh_from_db()
    teacher.refresh_from_db()
    enrolment = read_guidelines(enrolment=enrol(campaign=campaign, teacher=teacher), version=campaign.guidelines.get())
    assert enrolment.stage == (Enrolment.Stage.TUTORIAL if is_asked else Enrolment.Stage.WORKING)
    offer = claim_offer(campaign=campaign, teacher=teacher)
    assert (None if offer is None else offer.comparison) == (lessons[0] if is_asked else None)


@pytest.mark.django_db
@pytest.mark.parametrize(("pool_reads", "teacher_reads", "is_asked"), READERS)
def test_gold_among_the_work_is_too(
    campaign: Campaign,
    teacher: Teacher,
    pool: Pool,
    lessons: list[Comparison],
    pool_reads: list[str],
    teacher_reads: list[str],
    is_asked: bool,
) -> None:
    Pool.objects.update(languages=pool_reads)
    Teacher.objects.update(languages=teacher_reads)
    teacher.refresh_from_db()
    enrol(campaign=campaign, teacher=teacher)
    Enrolment.objects.update(stage=Enrolment.Stage.WORKING)
    campaign.gold_share = 1.0
    claim_offer(campaign=campaign, teacher=teacher)
    golds = Offer.objects.filter(arm=Offer.Arm.GOLD).values_list("comparison", flat=True)
    assert list(golds) == ([lessons[1].pk] if is_asked else [])


@pytest.fixture
def exam(campaign: Campaign, teacher: Teacher) -> Enrolment:
    """Five gold comparisons in German, all of which are asked for."""
    add_conversations(campaign, 5)
    Conversation.objects.update(language="de")
    Comparison.objects.update(gold_outcome=1)
    Campaign.objects.update(qualification_size=5, qualification_pass=0.75)
    campaign.refresh_from_db()
    return enrol(campaign=campaign, teacher=teacher)


@pytest.mark.django_db
@pytest.mark.parametrize("reads", [[], ["fr", "de"]])
def test_no_change_of_languages_leads_past_the_qualification(
    campaign: Campaign,
    teacher: Teacher,
    exam: Enrolment,
    reads: list[str],
    bob: User,
    sign_in: Callable[[User], Client],
) -> None:
    client = sign_in(bob)
    client.post(reverse("account_languages"), {"languages": "fr"})
    assert read_guidelines(enrolment=exam, version=campaign.guidelines.get()).stage == Enrolment.Stage.WORKING
    client.post(reverse("account_languages"), {"languages": ",".join(reads)})
    exam.refresh_from_db()
    assert (exam.stage, exam.working_since) == (Enrolment.Stage.QUALIFICATION, None)


@pytest.mark.django_db
def test_nor_one_in_the_midst_of_it(campaign: Campaign, teacher: Teacher, exam: Enrolment) -> None:
    read_guidelines(enrolment=exam, version=campaign.guidelines.get())
    first = claim_offer(campaign=campaign, teacher=teacher)
    record_label(offer=first, choice="second" if first.b_first else "first")
    assert claim_offer(campaign=campaign, teacher=teacher) is not None
    set_languages(teacher=teacher, languages=["fr"])
    lapse_offers(now=timezone.now() + timedelta(days=1))
    assert claim_offer(campaign=campaign, teacher=teacher) is None
    set_languages(teacher=teacher, languages=[])
    exam.refresh_from_db()
    assert exam.stage == Enrolment.Stage.QUALIFICATION


@pytest.mark.django_db
def test_a_change_in_the_same_moment_is_known(campaign: Campaign, teacher: Teacher, exam: Enrolment) -> None:
    exam.teacher.languages = ["fr"]  # as it was read before another tab took it back
    assert read_guidelines(enrolment=exam, version=campaign.guidelines.get()).stage == Enrolment.Stage.QUALIFICATION


@pytest.mark.django_db
def test_who_has_passed_is_not_examined_again(campaign: Campaign, teacher: Teacher, exam: Enrolment) -> None:
    read_guidelines(enrolment=exam, version=campaign.guidelines.get())
    for number in range(5):
        offer = claim_offer(campaign=campaign, teacher=teacher)
        record_label(offer=offer, choice="second" if offer.b_first == (number > 0) else "first")
    add_conversations(campaign, 2)
    for languages in (["fr"], [], ["de"], []):
        set_languages(teacher=teacher, languages=languages)
        exam.refresh_from_db()
        assert exam.stage == Enrolment.Stage.WORKING
