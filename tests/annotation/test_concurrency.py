"""Two at once, for real: threads with connections of their own on PostgreSQL, and processes killed -9."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotation import imports
from annotation.formats.types import Message, ParsedConversation, ParsedResponse
from annotation.models import (
    Campaign,
    Comparison,
    Enrolment,
    ImportJob,
    Invitation,
    Label,
    LedgerEntry,
    Membership,
    Offer,
    Pool,
    RecordedJudgement,
    Response,
    Teacher,
    User,
)
from annotation.services import copies, judgements, offers
from annotation.services.budget import reserve
from annotation.services.campaigns import set_priority, take_out_comparisons
from annotation.services.invitations import accept_invitation
from annotation.services.labels import edit_label, record_label, undo_label
from annotation.services.ledger import balance, grant_bonus, pay_out, unbalanced_movements
from annotation.services.offers import claim_offer, lapse_offers, skip_offer, withdraw_offers
from annotation.services.people import decline_category
from annotation.services.pools import change_member
from annotation.services.queueing import queue_offers
from annotation.services.refusals import AlreadyLabelled, InvitationSpent, OfferLapsed, OfferNotHeld, Refusal
from tests.annotation.conftest import draft_for
from tests.servers import PATIENCE
from training.models import Policy
from training.services.generations import add_responses

ROOT = Path(__file__).resolve().parents[2]
Result = TypeVar("Result")

on_postgres = pytest.mark.skipif(
    connection.vendor != "postgresql",
    reason="SQLite lets one writer in at a time: set DATABASE_URL, or run through `python -m tests.servers`",
)


def at_once(*acts: Callable[[], Result]) -> list[Result | Refusal]:
    """Every act in a thread with a connection of its own, all released in the same moment. Refusals are results."""
    gate = threading.Barrier(len(acts))

    def run(act: Callable[[], Result]) -> Result | Refusal:
        try:
            connections["default"].ensure_connection()
            gate.wait(timeout=PATIENCE)
            return act()
        except Refusal as refusal:
            return refusal
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(run, acts))


@on_postgres
@pytest.mark.django_db(transaction=True)
class TestRaces:
    @pytest.fixture(autouse=True, params=range(3))
    def again(self, request: pytest.FixtureRequest) -> int:
        """Every race is run a few times: whoever wins, the rows must be right."""
        return int(request.param)

    @pytest.fixture
    def held(self, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> Offer:
        return claim_offer(campaign=campaign, teacher=teacher)

    @pytest.fixture(autouse=True)
    def books_balance(self, campaign: Campaign) -> Any:
        """After every race, whatever it was: the kept sums are the counted ones."""
        yield
        campaign.refresh_from_db()
        live = sum(Offer.objects.filter(state__in=Offer.LIVE).values_list("cost", flat=True), Decimal(0))
        current = Label.objects.filter(state=Label.State.CURRENT)
        assert campaign.reserved == live
        bonuses = LedgerEntry.objects.filter(account=LedgerEntry.Account.TEACHER, label=None, amount__gt=0)
        gone = [*current.values_list("cost", flat=True), *bonuses.values_list("amount", flat=True)]
        assert campaign.spent == sum(gone, Decimal(0))
        assert campaign.label_count == current.count()
        assert sum(Enrolment.objects.values_list("label_count", flat=True)) == current.count()
        assert unbalanced_movements() == []

    def test_a_doubled_submit_is_one_label(self, held: Offer) -> None:
        labels = at_once(*[lambda: record_label(offer=held, choice="first")] * 8)
        assert len(set(labels)) == 1
        assert Label.objects.count() == 1
        assert LedgerEntry.objects.count() == 2

    def test_of_two_different_answers_one_is_taken(self, held: Offer) -> None:
        results = at_once(
            *[lambda choice=choice: record_label(offer=held, choice=choice) for choice in ("first", "tie")]
        )
        assert sorted(type(result) for result in results if isinstance(result, Refusal)) == [AlreadyLabelled]
        assert Label.objects.count() == 1

    def test_two_tabs_hold_one_offer(self, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> None:
        offers = at_once(*[lambda: claim_offer(campaign=campaign, teacher=teacher)] * 8)
        assert len(set(offers)) == 1
        assert Offer.objects.filter(state=Offer.State.HELD).count() == 1

    def test_a_slot_is_given_once(
        self, campaign: Campaign, pool: Pool, comparisons: list[Comparison], teacher: Teacher
    ) -> None:
        Campaign.objects.update(overlap_limit=2)
        campaign.refresh_from_db()
        teachers = [teacher]
        for number in range(7):
            teachers.append(Teacher.objects.create(user=User.objects.create_user(f"t{number}")))
            Membership.objects.create(pool=pool, teacher=teachers[-1], accepted_terms=1)
        drafts = [draft_for(comparisons[0], each) for each in teachers]
        at_once(*[lambda draft=draft: queue_offers(campaign=campaign, drafts=[draft]) for draft in drafts])
        slots = list(Offer.objects.values_list("slot", flat=True))
        assert len(slots) == len(set(slots)) <= 2
        queue_offers(campaign=campaign, drafts=drafts)  # whoever lost a race may try again
        assert sorted(Offer.objects.values_list("slot", flat=True)) == [1, 2]

    def test_planners_that_overlap_never_wait_for_each_other_in_a_circle(
        self, campaign: Campaign, dora: Teacher, teacher: Teacher, comparisons: list[Comparison]
    ) -> None:
        drafts = [draft_for(comparison, each) for comparison in comparisons for each in (teacher, dora)]
        orders = [drafts, drafts[::-1], drafts[3:] + drafts[:3], drafts[::2] + drafts[1::2]]
        at_once(*[lambda order=order: queue_offers(campaign=campaign, drafts=order) for order in orders])
        assert Offer.objects.count() == 6

    def test_the_budget_is_promised_once(self, campaign: Campaign) -> None:
        Campaign.objects.update(budget=Decimal("0.5"))
        results = at_once(*[lambda: reserve(campaign.pk, Decimal("0.1"))] * 12)
        assert sum(bool(result) for result in results) == 5
        Campaign.objects.update(reserved=0)

    def test_an_answer_against_the_end_of_the_lease(self, campaign: Campaign, held: Offer) -> None:
        Offer.objects.filter(pk=held.pk).update(held_until=timezone.now() - timedelta(seconds=1))
        answered, _lapsed = at_once(lambda: record_label(offer=held, choice="first"), lambda: lapse_offers())
        assert isinstance(answered, Label)
        held.refresh_from_db()
        assert held.state == Offer.State.ANSWERED

    def test_an_answer_against_a_withdrawal(self, campaign: Campaign, held: Offer) -> None:
        answered, withdrawn = at_once(
            lambda: record_label(offer=held, choice="first"), lambda: withdraw_offers(offers=[held], also_held=True)
        )
        held.refresh_from_db()
        if isinstance(answered, Label):
            assert (held.state, withdrawn) == (Offer.State.ANSWERED, 0)
        else:
            assert isinstance(answered, OfferNotHeld)
            assert (held.state, withdrawn) == (Offer.State.WITHDRAWN, 1)

    def test_a_late_answer_against_the_next_teacher(self, campaign: Campaign, held: Offer, dora: Teacher) -> None:
        Campaign.objects.update(overlap_limit=1)
        campaign.refresh_from_db()
        Offer.objects.filter(pk=held.pk).update(held_until=timezone.now() - timedelta(seconds=1))
        lapse_offers()
        answered, offered = at_once(
            lambda: record_label(offer=held, choice="first"),
            lambda: queue_offers(campaign=campaign, drafts=[draft_for(held.comparison, dora)]),
        )
        assert isinstance(answered, OfferLapsed) == (offered != [None])
        assert Offer.objects.filter(comparison=held.comparison, state__in=Offer.TAKEN).count() == 1

    def test_an_answer_against_a_skip(self, held: Offer) -> None:
        answered, skipped = at_once(
            lambda: record_label(offer=held, choice="first"), lambda: skip_offer(offer=held, reason="unclear")
        )
        assert isinstance(answered, Label) != isinstance(skipped, Offer)

    def test_two_undos_take_back_one_label(self, campaign: Campaign, teacher: Teacher, held: Offer) -> None:
        record_label(offer=held, choice="first")
        results = at_once(*[lambda: undo_label(campaign=campaign, teacher=teacher)] * 4)
        assert [result for result in results if result is not None] == [held]
        assert Label.objects.get().state == Label.State.RETRACTED

    def test_two_edits_make_one_current_label(self, held: Offer) -> None:
        label = record_label(offer=held, choice="first")
        results = at_once(
            *[lambda choice=choice: edit_label(label=label, choice=choice) for choice in ("second", "tie")]
        )
        assert sum(isinstance(result, Label) for result in results) == 1
        assert Label.objects.filter(state=Label.State.CURRENT).count() == 1

    def test_an_undo_against_an_edit(self, campaign: Campaign, teacher: Teacher, held: Offer) -> None:
        """Found by the benchmark, once in 30,000: the edit's label stayed current on an offer that was held again."""
        label = record_label(offer=held, choice="first")
        undone, edited = at_once(
            lambda: undo_label(campaign=campaign, teacher=teacher), lambda: edit_label(label=label, choice="tie")
        )
        held.refresh_from_db()
        current = Label.objects.filter(offer=held, state=Label.State.CURRENT).count()
        assert (held.state, current) == ((Offer.State.HELD, 0) if undone else (Offer.State.ANSWERED, 1))
        assert isinstance(edited, Label | Refusal)

    def test_everybody_answers_at_once_and_everything_counts(
        self, campaign: Campaign, pool: Pool, comparisons: list[Comparison]
    ) -> None:
        """Twelve teachers share the campaign's row: none is lost, none waits in a circle."""
        Campaign.objects.update(overlap_limit=12)
        campaign.refresh_from_db()
        teachers = []
        for number in range(12):
            teachers.append(Teacher.objects.create(user=User.objects.create_user(f"t{number}")))
            Membership.objects.create(pool=pool, teacher=teachers[-1], accepted_terms=1)
        drafts = [draft_for(comparison, each) for comparison in comparisons for each in teachers]
        assert all(queue_offers(campaign=campaign, drafts=drafts))

        def work(each: Teacher) -> int:
            for _comparison in comparisons:
                record_label(offer=claim_offer(campaign=campaign, teacher=each), choice="tie")
            return 1

        assert sum(at_once(*[lambda each=each: work(each) for each in teachers])) == 12
        campaign.refresh_from_db()
        assert (campaign.label_count, campaign.label_version) == (36, 36)

    def test_two_payouts_pay_what_is_owed_once(self, alice: User, teacher: Teacher, held: Offer) -> None:
        record_label(offer=held, choice="first")
        pay = {"teacher": teacher, "amount": Decimal("0.1"), "currency": "EUR", "user": alice}
        results = at_once(*[lambda: pay_out(**pay)] * 4)
        assert sum(not isinstance(result, Refusal) for result in results) == 1
        assert balance(teacher) == {}

    def test_forms_sent_four_times_at_once_book_once(self, alice: User, teacher: Teacher, held: Offer) -> None:
        bonus = {"campaign": held.campaign, "teacher": teacher, "amount": Decimal(2), "user": alice, "memo": "care"}
        movement = uuid4()
        assert at_once(*[lambda: grant_bonus(movement=movement, **bonus)] * 4) == [movement] * 4
        assert balance(teacher) == {"EUR": 2}
        movement = uuid4()
        pay = {"teacher": teacher, "amount": Decimal(1), "currency": "EUR", "user": alice, "movement": movement}
        assert at_once(*[lambda: pay_out(**pay)] * 4) == [movement] * 4
        assert balance(teacher) == {"EUR": 1}

    def test_bonuses_while_the_teacher_answers_and_takes_back(self, alice: User, teacher: Teacher, held: Offer) -> None:
        bonus = {"campaign": held.campaign, "teacher": teacher, "amount": Decimal(1), "user": alice, "memo": "care"}

        def answer_and_undo() -> None:
            for _turn in range(20):
                record_label(offer=held, choice="first")
                undo_label(campaign=held.campaign, teacher=teacher)

        at_once(answer_and_undo, lambda: [grant_bonus(**bonus) for _bonus in range(40)])
        assert balance(teacher) == {"EUR": 40}

    def test_the_last_use_of_an_invitation_is_used_once(
        self, alice: User, bob: User, charlie: User, pool: Pool
    ) -> None:
        invitation = Invitation.objects.create(pool=pool, uses_left=1, created_by=alice)
        results = at_once(
            *[lambda user=user: accept_invitation(invitation=invitation, user=user) for user in (alice, charlie)]
        )
        assert sum(isinstance(result, InvitationSpent) for result in results) == 1
        assert Membership.objects.filter(pool=pool).count() == 1


LOCKING: dict[str, Callable[[Offer, User], object]] = {
    "bonus": lambda offer, admin: grant_bonus(
        campaign=offer.campaign, teacher=offer.teacher, amount=Decimal(1), user=admin, memo="care"
    ),
    "opt-out": lambda offer, admin: decline_category(teacher=offer.teacher, category=offer.comparison.category),
    "member": lambda offer, admin: change_member(membership=offer.membership, user=admin, rationality=2.0),
}
COMMITTING: dict[str, Callable[[Offer], object]] = {
    "answer": lambda offer: record_label(offer=offer, choice="first"),
    "plan": lambda offer: queue_offers(
        campaign=offer.campaign, drafts=[draft_for(offer.comparison, offer.teacher, arm=Offer.Arm.REPEAT)]
    ),
}


@on_postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("locks", "commits"), [("bonus", "answer"), ("bonus", "plan"), ("opt-out", "answer"), ("member", "plan")]
)
def test_who_locks_a_teacher_keeps_no_answer_and_no_plan_from_its_commit(
    campaign: Campaign, teacher: Teacher, queued: list[Offer], alice: User, locks: str, commits: str
) -> None:
    """Foreign keys are checked at the commit, after the campaign's row: a lock against them closes a circle."""
    Campaign.objects.update(content_warnings={"coding": "code"})
    Enrolment.objects.create(campaign=campaign, teacher=teacher, stage=Enrolment.Stage.WORKING)
    held = claim_offer(campaign=campaign, teacher=teacher)
    locked, written = threading.Event(), threading.Event()

    def wait_before_the_campaign(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith('UPDATE "annotation_campaign"'):
            locked.set()
            assert written.wait(timeout=PATIENCE)
        return execute(sql, *rest)

    def lock() -> None:
        with connection.execute_wrapper(wait_before_the_campaign):
            try:
                LOCKING[locks](held, alice)
            finally:
                locked.set()

    def commit() -> None:
        assert locked.wait(timeout=PATIENCE)
        with transaction.atomic():
            try:
                COMMITTING[commits](held)
            finally:
                written.set()

    assert at_once(lock, commit) == [None, None]


@on_postgres
@pytest.mark.django_db(transaction=True)
def test_a_judgement_whose_slot_a_plan_takes_goes_into_the_next(
    campaign: Campaign, teacher: Teacher, comparisons: list[Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    RecordedJudgement.objects.create(comparison=comparisons[0], judge="Ann", outcome=1.0)
    draft = judgements._draft_offers

    def draft_and_be_late(*arguments: Any) -> Any:
        drafts = draft(*arguments)
        if not Offer.objects.exists():
            at_once(lambda: queue_offers(campaign=campaign, drafts=[draft_for(comparisons[0], teacher)]))
        return drafts

    monkeypatch.setattr(judgements, "_draft_offers", draft_and_be_late)
    judge = judgements.teacher_of_judge("Ann")
    assert judgements.judgements_to_labels(campaign=campaign, judge="Ann", teacher=judge) == 1
    assert set(Offer.objects.values_list("teacher", "slot")) == {(teacher.pk, 1), (judge.pk, 2)}


@pytest.mark.kill
@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_everybody_is_killed_at_random() -> None:
    """The benchmark, smaller: processes on a real PostgreSQL, all of them killed -9 now and then, the server too."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.assignment", "--quick", "--processes", "12"],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["requests"] > 100
    assert result["accepted_answers"] > 20
    assert result["killed"] > 5
    assert result["database_killed"] == 1
    faults = (
        "doubled_offers",
        "doubled_labels",
        "lost_answers",
        "overlap_exceeded",
        "budget_exceeded",
        "wrong_counters",
    )
    assert {name: result[name] for name in faults} == dict.fromkeys(faults, 0)


ADDING: dict[str, Callable[[Campaign], object]] = {
    "import": lambda campaign: imports.import_chunk(job_of(campaign, "quick"), [parsed("quick")]),
    "copy": lambda campaign: copies._copy([], campaign),
    "policy": lambda campaign: add_responses(policy=Policy(campaign=campaign), texts={}),
}


@pytest.mark.django_db(transaction=True)
def test_each_batch_of_offers_is_a_transaction_of_its_own(
    campaign: Campaign, alice: User, queued: list[Offer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches in one would lock offers after the campaign, and wait in a circle with whoever lapses or answers."""
    monkeypatch.setattr(offers, "BATCH", 1)
    with CaptureQueriesContext(connection) as seen:
        take_out_comparisons(campaign=campaign, comparisons=Comparison.objects.all(), user=alice)
    assert Offer.objects.filter(state=Offer.State.WITHDRAWN).count() == len(queued) == 3
    said = [query["sql"] for query in seen]
    ends = [place for place, sql in enumerate(said) if sql.startswith("COMMIT")]
    money = [place for place, sql in enumerate(said) if sql.startswith('UPDATE "annotation_campaign"')]
    assert [sum(end < place for end in ends) for place in money] == [1, 2, 3]
    read = next(sql for sql in said if "annotation_offer" in sql)
    assert read.startswith('SELECT "annotation_offer"."id" '), "keys, and not rows"
    assert '"annotation_offer"."code"' not in read


@on_postgres
@pytest.mark.django_db
def test_a_priority_locks_rows_in_their_order(campaign: Campaign, alice: User, queued: list[Offer]) -> None:
    with CaptureQueriesContext(connection) as seen:
        set_priority(campaign=campaign, comparisons=Comparison.objects.all(), user=alice, priority=3)
    for table in ("annotation_offer", "annotation_comparison"):
        locks, changes = (
            [place for place, query in enumerate(seen) if query["sql"].startswith(start) and end in query["sql"]]
            for start, end in (
                (f'SELECT "{table}"."id"', "ORDER BY 1 ASC FOR NO KEY UPDATE"),
                (f'UPDATE "{table}"', ""),
            )
        )
        assert locks[0] < changes[0]


@on_postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("adding", list(ADDING))
def test_rows_appear_in_the_order_of_their_ids(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, adding: str
) -> None:
    """Who reads on from the largest id that they saw meets every row, however long the first writer takes."""
    inserted, released = threading.Event(), threading.Event()
    count = imports.count

    def count_late(job: ImportJob, *rest: Any, **named: Any) -> None:
        if job.name == "slow":
            inserted.set()
            released.wait(timeout=PATIENCE)
        count(job, *rest, **named)

    def run(act: Callable[[], object]) -> None:
        try:
            act()
        finally:
            connections.close_all()

    monkeypatch.setattr(imports, "count", count_late)
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(run, lambda: imports.import_chunk(job_of(campaign, "slow"), [parsed("slow")]))
        assert inserted.wait(timeout=PATIENCE)
        quick = threads.submit(run, lambda: ADDING[adding](campaign))
        with suppress(TimeoutError):
            quick.result(timeout=1)
        waited, seen = not quick.done(), Response.objects.count()
        released.set()
        slow.result(timeout=PATIENCE)
        quick.result(timeout=PATIENCE)
    assert waited
    assert seen == 0  # no larger id while smaller ones are to come
    assert Response.objects.count() == (4 if adding == "import" else 2)


def job_of(campaign: Campaign, name: str) -> ImportJob:
    return ImportJob.objects.create(campaign=campaign, name=name, state=ImportJob.State.RUNNING)


def parsed(name: str) -> ParsedConversation:
    responses = [ParsedResponse(messages=(Message(role="assistant", content=f"{name} {side}"),)) for side in "ab"]
    return ParsedConversation(line=1, prompt=(Message(role="user", content=name),), responses=tuple(responses))
