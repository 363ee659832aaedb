"""Who may see what."""

from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import Http404

from annotation.access import campaign_for, has_role, taught_campaigns, teacher_for, visible_campaigns
from annotation.models import Campaign, Membership, Role, Teacher, User

pytestmark = pytest.mark.django_db


def test_a_teacher_of_one_of_its_pools_has_the_desk(bob: User, campaign: Campaign, teacher: Teacher) -> None:
    assert teacher_for(bob, code=campaign.code) == (campaign, teacher)
    assert list(taught_campaigns(bob)) == [campaign]


def test_strangers_and_the_anonymous_learn_nothing(
    alice: User, charlie: User, campaign: Campaign, teacher: Teacher
) -> None:
    for user in (alice, charlie, AnonymousUser()):  # Alice administers it, but does not teach
        with pytest.raises(Http404):
            teacher_for(user, code=campaign.code)
        assert not taught_campaigns(user).exists()
    with pytest.raises(Http404):
        teacher_for(teacher.user, code=uuid4())


@pytest.mark.parametrize("status", ["suspended", "departed"])
def test_who_left_the_pool_has_no_desk(bob: User, campaign: Campaign, teacher: Teacher, status: str) -> None:
    Membership.objects.update(status=status)
    with pytest.raises(Http404):
        teacher_for(bob, code=campaign.code)


@pytest.mark.parametrize("state", ["draft", "archived"])
def test_drafts_and_archives_have_no_desk(bob: User, campaign: Campaign, teacher: Teacher, state: str) -> None:
    Campaign.objects.update(state=state)
    with pytest.raises(Http404):
        teacher_for(bob, code=campaign.code)


def test_an_admin_has_every_role_and_the_others_their_own(alice: User, charlie: User, campaign: Campaign) -> None:
    for role in (None, "admin", "researcher", "reviewer"):
        assert campaign_for(alice, code=campaign.code, role=role) == campaign
    Role.objects.create(campaign=campaign, user=charlie, name="researcher")
    assert campaign_for(charlie, code=campaign.code) == campaign
    assert campaign_for(charlie, code=campaign.code, role="researcher") == campaign
    for role in ("admin", "reviewer"):
        with pytest.raises(Http404):
            campaign_for(charlie, code=campaign.code, role=role)
        assert not has_role(charlie, campaign=campaign, role=role)


def test_a_campaign_is_not_there_for_teachers_strangers_and_admins_of_another(
    bob: User, charlie: User, campaign: Campaign, teacher: Teacher
) -> None:
    other = Campaign.objects.create(name="Another")
    Role.objects.create(campaign=other, user=charlie, name="admin")
    for user in (bob, charlie, AnonymousUser()):
        with pytest.raises(Http404):
            campaign_for(user, code=campaign.code)
    assert list(visible_campaigns(charlie)) == [other]


def test_a_superuser_sees_all_until_switched_off(charlie: User, campaign: Campaign) -> None:
    User.objects.filter(pk=charlie.pk).update(is_superuser=True)
    charlie.refresh_from_db()
    assert campaign_for(charlie, code=campaign.code, role="admin") == campaign
    charlie.is_active = False
    assert not visible_campaigns(charlie).exists()
