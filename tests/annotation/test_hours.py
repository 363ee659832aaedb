"""When somebody works, said on their own page: time zone, time off, working hours, and what they are warned of."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation.models import AuditEntry, Campaign, Enrolment, Membership, Offer, Pool, Role, Teacher, User
from annotation.services.counters import COUNT_MEMBER
from annotation.services.people import set_time_zone
from annotation.services.refusals import Refusal
from annotation.services.terms import labels_left, present_members, record_presence, today
from annotation.zones import zone_choices, zone_named

pytestmark = pytest.mark.django_db

WEEK = [[0, "09:00", "17:00"], [4, "22:00", "02:00"]]
WEEK_TYPED = {"from_0": "09:00", "to_0": "17:00", "from_4": "22:00", "to_4": "02:00"}


@pytest.fixture
def at_home(client: Client, bob: User, campaign: Campaign, teacher: Teacher) -> Client:
    client.force_login(bob)
    return client


def send(client: Client, name: str, **data: str) -> str:
    return client.post(reverse(name), data, follow=True).content.decode()


def page_of(client: Client) -> str:
    return client.get(reverse("account")).content.decode()


class TestTimeOff:
    def test_a_teacher_goes_away_until_a_morning_and_comes_back_early(
        self,
        at_home: Client,
        campaign: Campaign,
        teacher: Teacher,
        queued: list[Offer],
        sent_tasks: list[tuple[str, tuple[Any, ...]]],
    ) -> None:
        User.objects.update(time_zone="Asia/Tokyo")
        record_presence(teacher)
        back = timezone.now().astimezone(ZoneInfo("Asia/Tokyo")).date() + timedelta(days=7)
        send(at_home, "account_time_off", back_on=back.isoformat())
        teacher.refresh_from_db()
        assert teacher.away_until == datetime(back.year, back.month, back.day, tzinfo=ZoneInfo("Asia/Tokyo"))
        assert set(Offer.objects.values_list("state", flat=True)) == {Offer.State.WITHDRAWN}
        assert present_members(campaign) == []
        assert ("activelearning.replan", (campaign.pk,)) in sent_tasks
        assert "End my time off now" in page_of(at_home)
        assert "Comparisons come to you again" in send(at_home, "account_time_off", end="yes")
        assert [one.teacher for one in present_members(campaign)] == [teacher]
        assert "End my time off now" not in page_of(at_home)

    @pytest.mark.parametrize("days", [-1, 0, 731, 2_900_000])
    def test_the_day_is_to_come(self, at_home: Client, teacher: Teacher, days: int) -> None:
        back = timezone.now().date() + timedelta(days=days)
        assert "from tomorrow on" in send(at_home, "account_time_off", back_on=back.isoformat())
        teacher.refresh_from_db()
        assert teacher.away_until is None

    @pytest.mark.parametrize("typed", ["", "soon", "2026-13-01"])
    def test_what_is_no_day_is_told(self, at_home: Client, teacher: Teacher, typed: str) -> None:
        assert "errorlist" in send(at_home, "account_time_off", back_on=typed)
        teacher.refresh_from_db()
        assert teacher.away_until is None


class TestHours:
    def test_a_week_is_stored_shown_and_cleared(self, at_home: Client, teacher: Teacher) -> None:
        assert "are stored" in send(at_home, "account_hours", **WEEK_TYPED)
        teacher.refresh_from_db()
        assert teacher.working_hours == WEEK
        assert 'name="from_4" value="22:00"' in page_of(at_home)
        send(at_home, "account_hours", **WEEK_TYPED, clear="yes")
        teacher.refresh_from_db()
        assert teacher.working_hours == []

    @pytest.mark.parametrize("wrong", [{"to_0": ""}, {"from_0": "nine"}, {"to_0": "09:00"}])
    def test_half_a_day_is_told_and_kept_on_the_page(
        self, at_home: Client, teacher: Teacher, wrong: dict[str, str]
    ) -> None:
        page = send(at_home, "account_hours", **{**WEEK_TYPED, **wrong})
        assert "Give hours such as" in page or "Enter a valid time" in page
        assert 'value="22:00"' in page
        teacher.refresh_from_db()
        assert teacher.working_hours == []

    def test_they_shut_the_queue_outside(self, at_home: Client, campaign: Campaign, teacher: Teacher) -> None:
        record_presence(teacher)
        tomorrow = (timezone.now() + timedelta(days=1)).weekday()
        send(at_home, "account_hours", **{f"from_{tomorrow}": "09:00", f"to_{tomorrow}": "10:00"})
        assert present_members(campaign) == []


class TestZones:
    def test_times_are_shown_in_the_zone_of_whoever_looks(
        self, client: Client, alice: User, campaign: Campaign
    ) -> None:
        entry = AuditEntry.objects.create(campaign=campaign, user=alice, verb="looked", object="x")
        AuditEntry.objects.filter(pk=entry.pk).update(created_at=datetime(2026, 1, 5, 23, 30, tzinfo=UTC))
        client.force_login(alice)
        where = reverse("campaign_audit", args=[campaign.code])
        assert "2026-01-05T23:30:00+00:00" in client.get(where).content.decode()
        assert "Stored" in send(client, "account_zone", time_zone="Asia/Tokyo")
        assert "2026-01-06T08:30:00+09:00" in client.get(where).content.decode()
        assert timezone.get_current_timezone_name() == "UTC", "the next request starts anew"

    @pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "Europe"])
    def test_a_zone_that_does_not_exist_is_told(self, client: Client, bob: User, name: str) -> None:
        client.force_login(bob)
        assert "errorlist" in send(client, "account_zone", time_zone=name)
        with pytest.raises(Refusal):
            set_time_zone(user=bob, name=name)
        assert User.objects.get(pk=bob.pk).time_zone == "UTC"

    def test_a_broken_zone_breaks_no_page(self, client: Client, bob: User) -> None:
        User.objects.update(time_zone="Europe")
        client.force_login(bob)
        assert client.get(reverse("account")).status_code == 200

    def test_every_zone_of_the_list_exists(self) -> None:
        names = [name for _region, zones in zone_choices() for name, _place in zones]
        assert {"UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"} <= set(names)
        assert all(zone_named(name) is not None for name in names)

    def test_another_zone_is_no_second_day(self, bob: User, pool: Pool, campaign: Campaign, teacher: Teacher) -> None:
        """East of the date line it is a day that no place in the west has yet."""
        Pool.objects.update(daily_limit=10)
        set_time_zone(user=bob, name="Pacific/Kiritimati")
        teacher.refresh_from_db()
        Membership.objects.update(day=today(teacher), day_count=10)
        Enrolment.objects.create(campaign=campaign, teacher=teacher, day=today(teacher), day_count=10)
        set_time_zone(user=bob, name="Pacific/Pago_Pago")
        member = Membership.objects.select_related("pool", "teacher__user").get()
        assert labels_left(member, teacher=member.teacher) == 0

    @pytest.mark.parametrize("hours", [0, 1, 23])
    def test_going_west_day_after_day_is_no_second_day(
        self, bob: User, pool: Pool, campaign: Campaign, teacher: Teacher, hours: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where it is a day earlier the limit is not free again when that day ends there, an hour later."""
        Pool.objects.update(daily_limit=10)
        set_time_zone(user=bob, name="Asia/Tokyo")
        begin = datetime(2026, 11, 21, 15, 5, tzinfo=UTC)  # five past midnight of the 22nd in Tokyo
        monkeypatch.setattr(timezone, "now", lambda: begin)
        Membership.objects.update(day=date(2026, 11, 22), day_count=10)
        set_time_zone(user=bob, name="Asia/Shanghai")  # five past eleven of the 21st
        monkeypatch.setattr(timezone, "now", lambda: begin + timedelta(hours=hours))
        member = Membership.objects.select_related("pool", "teacher__user").get()
        assert labels_left(member, teacher=member.teacher) == 0
        monkeypatch.setattr(timezone, "now", lambda: begin + timedelta(hours=25))
        assert labels_left(member, teacher=member.teacher) == 10

    def test_labels_of_a_day_ahead_count_on_it(self, pool: Pool, campaign: Campaign, teacher: Teacher) -> None:
        ahead = today(teacher) + timedelta(days=1)
        member = Membership.objects.get()
        Membership.objects.update(day=ahead, day_count=4)
        COUNT_MEMBER[1].run(membership=member.pk, day=today(teacher))
        member.refresh_from_db()
        assert (member.day, member.day_count) == (ahead, 5)
        COUNT_MEMBER[-1].run(membership=member.pk, day=today(teacher))
        COUNT_MEMBER[1].run(membership=member.pk, day=ahead + timedelta(days=1))
        member.refresh_from_db()
        assert (member.day, member.day_count) == (ahead + timedelta(days=1), 1)


def test_what_was_always_shown_is_warned_of_again(at_home: Client, bob: User, teacher: Teacher) -> None:
    User.objects.update(preferences={"accepted_warnings": ["violence", "medicine"], "hides_texts": True})
    Teacher.objects.update(declined_warnings=["gore"])
    page = page_of(at_home)
    assert page.count("Warn me again") == 2
    assert page.count("Allow it again") == 1
    send(at_home, "account_warnings", category="violence")
    bob.refresh_from_db()
    teacher.refresh_from_db()
    assert bob.preferences == {"accepted_warnings": ["medicine"], "hides_texts": True}
    assert teacher.declined_warnings == ["gore"]


def test_staff_who_teach_nowhere_choose_a_zone_only(client: Client, alice: User, campaign: Campaign) -> None:
    assert Role.objects.filter(user=alice).exists()
    client.force_login(alice)
    page = page_of(client)
    assert reverse("account_zone") in page
    assert reverse("account_time_off") not in page
    assert reverse("account_hours") not in page
    for name in ("account_time_off", "account_hours"):
        assert client.post(reverse(name), {"back_on": "x"}).status_code == 302


@pytest.mark.parametrize("verb", ["zone", "time_off", "hours", "warnings", "languages", "news"])
def test_a_verb_without_a_session_leads_by_the_sign_in_to_the_page_of_oneself(client: Client, verb: str) -> None:
    """The verb's own address would be empty after the sign-in: it takes posts only."""
    where = reverse(f"account_{verb}")
    sign_in = f"{reverse('account_login')}?next={reverse('account')}"
    assert [client.post(where)["Location"], client.get(where)["Location"]] == [sign_in, sign_in]
