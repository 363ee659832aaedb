"""How people come, stay and go: invitations, panels, pools, consent, suspension, withdrawal."""

import contextlib
import itertools
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.serializers import serialize
from django.utils import timezone

from annotation.models import (
    AuditEntry,
    Campaign,
    Enrolment,
    Invitation,
    InvitationLetter,
    Label,
    Membership,
    Message,
    Offer,
    Pool,
    Role,
    Teacher,
    User,
)
from annotation.services import people
from annotation.services.invitations import (
    accept_invitation,
    grant_role,
    invite,
    invite_by_email,
    open_account,
    open_invitation,
    read_addresses,
    revoke_invitation,
    revoke_role,
)
from annotation.services.labels import record_label, undo_label
from annotation.services.ledger import balance, grant_bonus, pay_out
from annotation.services.notices import reply_to_message
from annotation.services.offers import claim_offer, skip_offer
from annotation.services.panels import admit_participant, completion_link, panel_key, pool_of_key, read_participant
from annotation.services.people import preview_withdrawal, set_time_off, set_working_hours, withdraw_teacher
from annotation.services.pools import (
    change_member,
    change_terms,
    consent,
    create_pool,
    depart_members,
    join_pool,
    readmit_members,
    suspend_members,
)
from annotation.services.queueing import queue_offers
from annotation.services.refusals import InvitationSpent, NotAllowed, OfferNotHeld, Refusal
from annotation.services.terms import (
    has_consented,
    is_at_work,
    present_members,
    reason_to_rest,
    record_presence,
)
from annotation.tasks import finish_withdrawal, reconcile
from tests.annotation.conftest import draft_for

pytestmark = pytest.mark.django_db


class TestInvitations:
    def test_a_link_makes_a_teacher_of_whoever_follows_it(self, alice: User, charlie: User, pool: Pool) -> None:
        invitation = invite(user=alice, pool=pool)
        membership = accept_invitation(invitation=open_invitation(invitation.token), user=charlie)
        assert membership.pool == pool
        assert membership.teacher.user == charlie
        assert AuditEntry.objects.filter(verb="invite", user=alice).exists()

    def test_it_is_good_for_so_many_people(self, alice: User, bob: User, charlie: User, pool: Pool) -> None:
        invitation = invite(user=alice, pool=pool, uses=1)
        accept_invitation(invitation=invitation, user=bob)
        accept_invitation(invitation=invitation, user=bob)  # again, which uses nothing up
        with pytest.raises(InvitationSpent):
            accept_invitation(invitation=invitation, user=charlie)
        assert not Teacher.objects.filter(user=charlie, memberships__isnull=False).exists()

    def test_it_ends(self, alice: User, bob: User, pool: Pool) -> None:
        over = invite(user=alice, pool=pool, expires_at=timezone.now() - timedelta(seconds=1))
        revoked = invite(user=alice, pool=pool)
        revoke_invitation(invitation=revoked, user=alice)
        for invitation in (over, revoked):
            with pytest.raises(InvitationSpent):
                open_invitation(invitation.token)
            with pytest.raises(InvitationSpent):
                accept_invitation(invitation=invitation, user=bob)

    def test_it_gives_a_role_in_a_campaign(self, alice: User, charlie: User, campaign: Campaign) -> None:
        invitation = invite(user=alice, campaign=campaign, role="researcher", uses=2)
        assert accept_invitation(invitation=invitation, user=charlie).name == "researcher"
        assert accept_invitation(invitation=invitation, user=charlie) == Role.objects.get(user=charlie)
        invitation.refresh_from_db()
        assert invitation.uses_left == 1

    @pytest.mark.parametrize("wrong", [{"role": "teacher"}, {"role": "owner"}, {"role": "admin"}])
    def test_it_leads_somewhere(self, alice: User, wrong: dict[str, Any]) -> None:
        with pytest.raises(Refusal):
            invite(user=alice, **wrong)

    def test_it_opens_an_account(self, alice: User, pool: Pool) -> None:
        invitation = invite(user=alice, pool=pool, email="erin@example.org")
        erin = open_account(invitation=invitation, username="erin", password="a long sentence of words")
        assert erin.check_password("a long sentence of words")
        assert erin.email == "erin@example.org"
        for name, password in (
            ("ERIN", "a long sentence of words"),
            ("frank", "short"),
            ("not a name", "a long sentence"),
        ):
            with pytest.raises(Refusal):
                open_account(invitation=invitation, username=name, password=password)
        accept_invitation(invitation=invitation, user=erin)
        with pytest.raises(InvitationSpent):
            open_account(invitation=invitation, username="grace", password="a long sentence of words")

    def test_a_csv_gives_its_addresses_and_names_the_lines_that_hold_none(self) -> None:
        text = "\ufeffname,E-Mail\nBob,Bob@Example.org\nEve,not an address\n\nBob,bob@example.org\nZoe\n"
        assert read_addresses(text) == (["bob@example.org"], [(3, "not an address"), (6, "")])
        assert read_addresses("a@example.org\nb@example.org") == (["a@example.org", "b@example.org"], [])

    def test_a_list_is_read_whichever_way_its_lines_end(self) -> None:
        for end in ("\r", "\r\n", "\n"):
            assert read_addresses(f"email{end}a@example.org{end}b@example.org")[0] == ["a@example.org", "b@example.org"]
        with pytest.raises(Refusal, match="never closed"):
            read_addresses('"' + "a@example.org\n" * 9_999)

    def test_a_list_that_is_too_long_is_refused_and_not_cut(self) -> None:
        lines = [f"t{place}@example.org" for place in range(10_000)]
        assert len(read_addresses("\n".join(["email", *lines]))[0]) == 10_000
        with pytest.raises(Refusal, match="at most 10000 lines"):
            read_addresses("\n".join(["email", *lines, "one@example.org"]))

    def test_the_last_admin_stays(self, alice: User, bob: User, campaign: Campaign) -> None:
        role = Role.objects.get(user=alice, name="admin")
        with pytest.raises(Refusal):
            revoke_role(role=role, by=alice)
        grant_role(campaign=campaign, user=bob, name="admin", by=alice)
        revoke_role(role=role, by=bob)
        assert [role.user for role in Role.objects.filter(campaign=campaign)] == [bob]


class TestPanels:
    PARAMETERS = {"PROLIFIC_PID": "5f1a", "STUDY_ID": "s1", "SESSION_ID": "v1"}

    def test_the_same_person_is_the_same_teacher_in_every_session(self, pool: Pool) -> None:
        first = admit_participant(pool=pool, participant=read_participant(self.PARAMETERS))
        again = admit_participant(pool=pool, participant=read_participant({**self.PARAMETERS, "SESSION_ID": "v2"}))
        assert first == again
        assert again.teacher.external["session"] == "v2" or Teacher.objects.get().external["session"] == "v2"
        assert "5f1a" not in first.teacher.user.username
        assert not first.teacher.user.has_usable_password()

    def test_it_leads_to_nobody_who_has_more_to_lose(self, pool: Pool, campaign: Campaign) -> None:
        user = admit_participant(pool=pool, participant=read_participant(self.PARAMETERS)).teacher.user
        assert user is not None
        Role.objects.create(campaign=campaign, user=user, name="reviewer")
        with pytest.raises(NotAllowed):
            admit_participant(pool=pool, participant=read_participant(self.PARAMETERS))

    @pytest.mark.parametrize("wrong", [{"PROLIFIC_PID": ""}, {"STUDY_ID": "a b"}, {"SESSION_ID": "x" * 65}])
    def test_it_refuses_a_broken_link(self, wrong: dict[str, str]) -> None:
        with pytest.raises(Refusal):
            read_participant({**self.PARAMETERS, **wrong})

    def test_a_pools_key_cannot_be_made_up(self, pool: Pool) -> None:
        assert pool_of_key(panel_key(pool)) == pool
        with pytest.raises(NotAllowed):
            pool_of_key(f"{pool.pk}:forged")

    def test_at_the_end_the_participant_goes_back_with_the_code(self, pool: Pool, teacher: Teacher) -> None:
        Pool.objects.update(completion_url="https://app.prolific.com/submissions/complete?cc=C0DE")
        pool.refresh_from_db()
        membership = admit_participant(pool=pool, participant=read_participant(self.PARAMETERS))
        membership = Membership.objects.get(pk=membership.pk)
        assert completion_link(membership) == "https://app.prolific.com/submissions/complete?cc=C0DE&SESSION_ID=v1"
        assert completion_link(Membership.objects.get(teacher=teacher)) == ""


class TestPools:
    def test_new_pay_asks_for_consent_again(self, alice: User, pool: Pool, teacher: Teacher) -> None:
        change_terms(pool=pool, user=alice, daily_limit=50)
        assert has_consented(Membership.objects.get(), teacher=teacher)
        change_terms(pool=pool, user=alice, pay_per_label=Decimal("0.20"))
        membership = Membership.objects.get()
        assert not has_consented(membership, teacher=teacher)
        with pytest.raises(Refusal):
            consent(membership=membership, version=1)
        consent(membership=membership, version=2)
        assert has_consented(Membership.objects.get(), teacher=teacher)
        assert AuditEntry.objects.filter(verb="change terms").count() == 2

    def test_two_pools_have_two_names(self, alice: User, pool: Pool) -> None:
        with pytest.raises(Refusal):
            create_pool(user=alice, name=pool.name)
        assert create_pool(user=alice, name="The second pool", pay_per_hour=12).pay_per_hour == 12

    @pytest.mark.parametrize("leave", [suspend_members, depart_members])
    def test_who_leaves_leaves_nothing_waiting(
        self,
        alice: User,
        campaign: Campaign,
        teacher: Teacher,
        queued: list[Offer],
        leave: Any,
    ) -> None:
        held = claim_offer(campaign=campaign, teacher=teacher)
        assert leave(memberships=Membership.objects.all(), user=alice) == 1
        assert set(Offer.objects.values_list("state", flat=True)) == {Offer.State.WITHDRAWN}
        with pytest.raises(OfferNotHeld):
            record_label(offer=held, choice="first")
        campaign.refresh_from_db()
        assert campaign.reserved == 0
        assert readmit_members(memberships=Membership.objects.all(), user=alice) == 1
        assert queue_offers(campaign=campaign, drafts=[draft_for(held.comparison, teacher)]) != [None]

    def test_the_suspended_do_not_come_back_by_themselves(self, alice: User, pool: Pool, teacher: Teacher) -> None:
        depart_members(memberships=Membership.objects.all(), user=alice)
        assert join_pool(pool=pool, teacher=teacher).status == Membership.Status.ACTIVE
        suspend_members(memberships=Membership.objects.all(), user=alice)
        with pytest.raises(NotAllowed):
            join_pool(pool=pool, teacher=teacher)


def present(campaign: Campaign) -> list[Teacher]:
    return [member.teacher for member in present_members(campaign)]


class TestPresence:
    def test_present_is_who_was_seen_lately(self, campaign: Campaign, teacher: Teacher, dora: Teacher) -> None:
        record_presence(teacher)
        assert present(campaign) == [teacher]
        assert present_members(campaign, now=timezone.now() + timedelta(minutes=10)) == []

    def test_a_heartbeat_is_written_at_most_every_half_minute(
        self, teacher: Teacher, django_assert_num_queries: Any
    ) -> None:
        record_presence(teacher)
        with django_assert_num_queries(0):
            record_presence(teacher)

    def test_a_model_is_always_there(self, campaign: Campaign, teacher: Teacher) -> None:
        Teacher.objects.update(kind=Teacher.Kind.MODEL)
        assert present(campaign) == [teacher]

    def test_not_while_suspended_away_learning_or_done(self, campaign: Campaign, teacher: Teacher) -> None:
        record_presence(teacher)
        Pool.objects.update(daily_limit=1)
        Membership.objects.update(day=timezone.now().date(), day_count=1)
        assert present_members(campaign) == []
        Membership.objects.update(day_count=0, status="suspended")
        assert present_members(campaign) == []
        Membership.objects.update(status="active")
        enrolment = Enrolment.objects.create(campaign=campaign, teacher=teacher)
        assert present_members(campaign) == []
        enrolment.delete()
        set_time_off(teacher=teacher, until=timezone.now() + timedelta(days=1))
        assert present_members(campaign) == []
        assert reason_to_rest(campaign=campaign, teacher=teacher).startswith("You are on time off")
        set_time_off(teacher=teacher, until=None)
        assert len(present_members(campaign)) == 1

    def test_a_teacher_of_two_pools_is_present_once_under_terms_with_room(
        self, campaign: Campaign, teacher: Teacher, pool: Pool
    ) -> None:
        record_presence(teacher)
        second = Pool.objects.create(name="The second pool")
        campaign.pools.add(second)
        Membership.objects.create(pool=second, teacher=teacher, accepted_terms=1)
        assert [member.pool for member in present_members(campaign)] == [pool]
        Membership.objects.filter(pool=pool).update(capacity=0)
        assert [member.pool for member in present_members(campaign)] == [second]

    def test_time_off_sends_the_queue_to_others(
        self,
        campaign: Campaign,
        teacher: Teacher,
        queued: list[Offer],
    ) -> None:
        assert set_time_off(teacher=teacher, until=timezone.now() + timedelta(hours=1)) == 3

    def test_working_hours_are_local_and_may_cross_midnight(self, teacher: Teacher) -> None:
        User.objects.filter(pk=teacher.user.pk).update(time_zone="America/New_York")
        teacher.refresh_from_db()
        set_working_hours(teacher=teacher, hours=[[0, "09:00", "17:00"], [4, "22:00", "02:00"]])
        at = timezone.datetime.fromisoformat
        assert is_at_work(teacher, now=at("2026-01-05T15:00:00+00:00"))  # Monday, 10:00 in New York
        assert not is_at_work(teacher, now=at("2026-01-05T10:00:00+00:00"))  # 05:00
        assert is_at_work(teacher, now=at("2026-01-10T06:30:00+00:00"))  # Saturday 01:30, Friday's shift
        assert not is_at_work(teacher, now=at("2026-01-11T06:30:00+00:00"))

    @pytest.mark.parametrize("hours", [[[7, "09:00", "17:00"]], [[0, "9", "x"]], [[0, "09:00", "09:00"]], [[1]]])
    def test_hours_must_be_hours(self, teacher: Teacher, hours: list[Any]) -> None:
        with pytest.raises(Refusal):
            set_working_hours(teacher=teacher, hours=hours)


class TestWithdrawal:
    @pytest.fixture
    def label(self, campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> Label:
        Message.objects.create(campaign=campaign, teacher=teacher, text="I am Bob of Example Street")
        return record_label(offer=claim_offer(campaign=campaign, teacher=teacher), choice="first", reason="I am Bob.")

    def test_the_preview_counts_and_changes_nothing(self, teacher: Teacher, campaign: Campaign, label: Label) -> None:
        effect = preview_withdrawal(teacher)
        assert (effect.labels, effect.live_offers, effect.messages) == (1, 2, 1)
        assert effect.owed == {"EUR": Decimal("0.1")}
        assert [(each.campaign, each.labels, each.share) for each in effect.campaigns] == [(campaign, 1, 1.0)]
        label.refresh_from_db()
        assert label.state == Label.State.CURRENT

    def test_removal_withdraws_labels_frees_slots_and_forgets_the_person(
        self,
        teacher: Teacher,
        campaign: Campaign,
        label: Label,
        dora: Teacher,
    ) -> None:
        Campaign.objects.update(overlap_limit=1)
        withdraw_teacher(teacher=teacher, how="remove", user=teacher.user)
        label.refresh_from_db()
        campaign.refresh_from_db()
        gone = Teacher.objects.get(pk=teacher.pk)
        assert (label.state, label.reason) == (Label.State.WITHDRAWN, "")
        assert (campaign.label_count, campaign.label_version, campaign.reserved) == (0, 2, 0)
        assert (gone.user, gone.pseudonym == "teacher-bob") == (None, False)
        assert gone.withdrawn_at is not None
        assert not User.objects.filter(username="bob").exists()
        assert "Bob" not in Message.objects.get().text
        assert balance(gone) == {"EUR": Decimal("0.1")}  # the work was done
        assert queue_offers(campaign=campaign, drafts=[draft_for(label.comparison, dora)]) != [None]

    def test_anonymising_keeps_the_labels(
        self, alice: User, teacher: Teacher, campaign: Campaign, label: Label
    ) -> None:
        withdraw_teacher(teacher=teacher, how="anonymise", user=alice)
        label.refresh_from_db()
        campaign.refresh_from_db()
        assert (label.state, campaign.label_count) == (Label.State.CURRENT, 1)
        assert Teacher.objects.get(pk=teacher.pk).pseudonym != "teacher-bob"

    @pytest.mark.parametrize("how", ["remove", "anonymise"])
    @pytest.mark.parametrize("broken", ["withdraw_offers", "_withdraw_labels", "_forget_person"])
    def test_a_crash_in_between_is_finished_by_the_beat(
        self, how: str, broken: str, alice: User, teacher: Teacher, campaign: Campaign, label: Label,
        monkeypatch: pytest.MonkeyPatch, sent_tasks: list[tuple[str, tuple[Any, ...]]],
    ) -> None:  # fmt: skip
        def crash(*_arguments: Any, **_options: Any) -> None:
            raise ConnectionError("the database went away")

        with monkeypatch.context() as patch, contextlib.suppress(ConnectionError):
            patch.setattr(people, broken, crash)
            withdraw_teacher(teacher=teacher, how=how, user=alice)
        reconcile()
        asked = ("annotation.finish_withdrawal", (teacher.pk,))
        assert asked not in sent_tasks, "whoever began it may still be at it"
        Teacher.objects.update(withdrawn_at=timezone.now() - timedelta(minutes=2))
        reconcile()
        assert (asked in sent_tasks) == (how == "remove" or broken != "_withdraw_labels")
        for _again in range(2):
            finish_withdrawal(teacher.pk)
        label.refresh_from_db()
        campaign.refresh_from_db()
        gone = Teacher.objects.get(pk=teacher.pk)
        assert not Offer.objects.filter(teacher=teacher, state__in=Offer.LIVE).exists()
        assert (label.state, campaign.label_count) == (("withdrawn", 0) if how == "remove" else ("current", 1))
        assert (gone.user, gone.withdrawal, gone.pseudonym == "teacher-bob") == (None, "", False)
        assert not User.objects.filter(username="bob").exists()
        assert AuditEntry.objects.get(verb="withdraw teacher").details == {"how": how, "labels": 1}

    def test_what_was_taken_back_loses_its_words_too(
        self, alice: User, teacher: Teacher, campaign: Campaign, label: Label
    ) -> None:
        undo_label(campaign=campaign, teacher=teacher)
        withdraw_teacher(teacher=teacher, how="remove", user=alice)
        label.refresh_from_db()
        assert (label.state, label.reason) == (Label.State.WITHDRAWN, "")

    @pytest.mark.parametrize("how", ["remove", "anonymise"])
    def test_no_word_and_no_address_stays(
        self, how: str, alice: User, teacher: Teacher, campaign: Campaign, pool: Pool, label: Label
    ) -> None:
        skip_offer(offer=claim_offer(campaign=campaign, teacher=teacher), reason="I am Bob, ask my doctor")
        reply_to_message(message=Message.objects.get(), user=alice, text="Dear Bob of Example Street")
        both = ["Bob@Example.org", "dan@example.org"]
        invite(user=alice, pool=pool, email=both[0])
        invite_by_email(user=alice, pool=pool, addresses=both, origin="https://example.org", language="en")
        change_member(membership=teacher.memberships.get(), user=alice, capacity=7)
        revoke_role(role=grant_role(campaign=campaign, user=teacher.user, name="reviewer", by=alice), by=alice)
        grant_bonus(campaign=campaign, teacher=teacher, amount=Decimal(9), user=alice, memo="care")
        pay_out(campaign=campaign, teacher=teacher, amount=Decimal(9), currency="EUR", user=alice)
        withdraw_teacher(teacher=teacher, how=how, user=alice)
        kept = [Offer, Message, Invitation, InvitationLetter, AuditEntry, Teacher, Membership, Enrolment]
        text = serialize("json", itertools.chain.from_iterable(model.objects.all() for model in kept)).lower()
        assert [word for word in ("bob", "doctor", "street") if word in text] == []
        assert "dan@example.org" in text
        roles = AuditEntry.objects.filter(object__startswith="reviewer ").values_list("object", flat=True)
        assert sorted(roles) == ["reviewer of (withdrawn)", "reviewer to (withdrawn)"]
        named = AuditEntry.objects.filter(object__endswith=Teacher.objects.get(pk=teacher.pk).pseudonym)
        assert sorted(named.values_list("verb", flat=True)) == ["bonus", "change member", "pay out"]

    def test_twice_is_once(self, alice: User, teacher: Teacher, campaign: Campaign, label: Label) -> None:
        for _again in range(2):
            withdraw_teacher(teacher=teacher, how="remove", user=alice)
        campaign.refresh_from_db()
        assert (campaign.label_count, campaign.label_version) == (0, 2)

    def test_who_runs_a_campaign_keeps_the_account(self, alice: User, teacher: Teacher, campaign: Campaign) -> None:
        grant_role(campaign=campaign, user=teacher.user, name="reviewer", by=alice)
        withdraw_teacher(teacher=teacher, how="remove", user=alice)
        assert User.objects.filter(username="bob").exists()

    def test_the_withdrawn_do_not_join_again_as_they_were(self, alice: User, teacher: Teacher, pool: Pool) -> None:
        withdraw_teacher(teacher=teacher, how="remove", user=alice)
        with pytest.raises(NotAllowed):
            join_pool(pool=pool, teacher=Teacher.objects.get(pk=teacher.pk))
