"""The campaign's pages: made, set up, opened, changed, copied, deleted."""

from typing import Any

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from annotation.models import Adoption, Campaign, Comparison, ImportJob, Label, Pool, RecordedJudgement, User
from annotation.services.adoptions import adopt

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def test_an_admin_makes_a_campaign_and_is_its_admin(admin: Client, campaign: Campaign, alice: User) -> None:
    sent = {"name": "Second", "guidelines": "Prefer the kinder one.", "description": ""}
    made = admin.post(reverse("campaign_create"), sent)
    second = Campaign.objects.get(name="Second")
    assert made.headers["Location"] == reverse("campaign", args=[second.code])
    assert second.roles.get().user == alice
    assert second.guidelines.get().text == "Prefer the kinder one."


def test_somebody_who_runs_nothing_makes_no_campaign(client: Client, charlie: User) -> None:
    client.force_login(charlie)
    assert client.get(reverse("campaign_create")).status_code == 404


def test_the_overview_says_what_to_do_next(admin: Client, alice: User) -> None:
    alice.is_superuser = True
    alice.save()
    admin.post(reverse("campaign_create"), {"name": "Bare", "guidelines": "Read."})
    page = admin.get(reverse("campaign", args=[Campaign.objects.get(name="Bare").code])).content.decode()
    assert "What to do next" in page
    assert reverse("campaign_imports", args=[Campaign.objects.get(name="Bare").code]) in page


def test_it_is_paused_and_opened_again(admin: Client, campaign: Campaign, comparisons: list[Comparison]) -> None:
    where = reverse("campaign_state", args=[campaign.code])
    admin.post(where, {"verb": "pause"})
    campaign.refresh_from_db()
    assert campaign.state == Campaign.State.PAUSED
    admin.post(where, {"verb": "open"})
    admin.post(where, {"verb": "open"})
    campaign.refresh_from_db()
    assert campaign.state == Campaign.State.OPEN


def test_a_page_that_looks_by_itself_leads_to_the_sign_in(client: Client, campaign: Campaign) -> None:
    """Swapped into the fragment, the sign-in would stand within the page."""
    where = reverse("campaign", args=[campaign.code])
    polled = client.get(where, HTTP_HX_REQUEST="true", HTTP_HX_CURRENT_URL=f"http://testserver{where}?from=mail")
    assert polled["HX-Redirect"] == f"{reverse('account_login')}?next={where}%3Ffrom%3Dmail"
    assert not polled.content
    polled = client.get(where, HTTP_HX_REQUEST="true", HTTP_HX_CURRENT_URL="https://elsewhere.example/")
    assert polled["HX-Redirect"] == f"{reverse('account_login')}?next={reverse('home')}"


def test_a_verb_without_a_session_leads_by_the_sign_in_to_a_page(client: Client, campaign: Campaign) -> None:
    for name, page in (("campaign_state", reverse("home")), ("campaign_settings", None)):
        where = reverse(name, args=[campaign.code])
        assert client.post(where)["Location"] == f"{reverse('account_login')}?next={page or where}"


def settings_of(admin: Client, campaign: Campaign) -> dict[str, Any]:
    """What the form would send if nothing were changed."""
    form = admin.get(reverse("campaign_settings", args=[campaign.code])).context["form"]
    values = {name: form[name].value() for name in form.fields}
    values["pools"] = list(campaign.pools.values_list("pk", flat=True))
    return {
        name: form[name].field.prepare_value(value) if hasattr(form[name].field, "prepare_value") else value
        for name, value in values.items()
        if value is not None and value is not False
    }


def test_settings_are_stored_and_audited(admin: Client, campaign: Campaign) -> None:
    sent = settings_of(admin, campaign) | {"overlap_limit": 5, "criteria": "helpful\nhonest\nhelpful", "budget": "12.5"}
    stored = admin.post(reverse("campaign_settings", args=[campaign.code]), sent)
    assert stored.status_code == 302, stored.context["form"].errors
    campaign.refresh_from_db()
    assert (campaign.overlap_limit, campaign.criteria, float(campaign.budget or 0)) == (5, ["helpful", "honest"], 12.5)
    assert campaign.audit.filter(verb="change settings").exists()


def test_a_setting_out_of_bounds_is_refused_beside_its_field(admin: Client, campaign: Campaign) -> None:
    sent = settings_of(admin, campaign) | {"control_share": "1.5"}
    page = admin.post(reverse("campaign_settings", args=[campaign.code]), sent)
    assert page.status_code == 200
    assert "control_share" in page.context["form"].errors


def test_criteria_are_refused_where_the_campaign_ranks(admin: Client, campaign: Campaign) -> None:
    where = reverse("campaign_settings", args=[campaign.code])
    sent = settings_of(admin, campaign) | {"answer_mode": "ranking", "criteria": "helpful"}
    page = admin.post(where, sent)
    assert "A ranking has no A and B" in page.context["form"].errors["criteria"][0]
    assert admin.post(where, sent | {"criteria": ""}).status_code == 302


def test_new_guidelines_are_a_new_version_and_a_preview_is_none(admin: Client, campaign: Campaign) -> None:
    where = reverse("campaign_guidelines", args=[campaign.code])
    seen = admin.post(where, {"text": "**Truth** first.", "preview": ""})
    assert "<strong>Truth</strong>" in seen.content.decode()
    assert campaign.guidelines.count() == 1
    admin.post(where, {"text": "**Truth** first."})
    admin.post(where, {"text": "**Truth** first."})
    assert [version.version for version in campaign.guidelines.all()] == [2, 1]


def test_a_copy_is_a_draft_with_the_conversations(
    admin: Client, campaign: Campaign, comparisons: list[Comparison]
) -> None:
    admin.post(reverse("campaign_clone", args=[campaign.code]), {"name": "Copy", "with_conversations": "on"})
    copy = Campaign.objects.get(name="Copy")
    assert copy.state == Campaign.State.DRAFT
    assert copy.comparisons.count() == len(comparisons)


def test_deletion_shows_what_goes_and_asks_for_the_name(
    admin: Client, campaign: Campaign, comparisons: list[Comparison]
) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(state=Campaign.State.ARCHIVED)
    where = reverse("campaign_delete", args=[campaign.code])
    assert ("comparisons", 3) in admin.get(where).context["removed"]
    admin.post(where, {"confirmed_name": "something else"})
    assert Campaign.objects.filter(pk=campaign.pk).exists()
    admin.post(where, {"confirmed_name": campaign.name})
    assert not Campaign.objects.filter(pk=campaign.pk).exists()


def test_an_upload_is_kept_and_a_worker_is_asked(
    admin: Client,
    campaign: Campaign,
    sent_tasks: list[tuple[str, tuple[Any, ...]]],
    django_capture_on_commit_callbacks: Any,
) -> None:
    upload = SimpleUploadedFile(
        "../../evil name.jsonl", b'{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}\n'
    )
    with django_capture_on_commit_callbacks(execute=True):
        admin.post(reverse("campaign_imports", args=[campaign.code]), {"file": upload})
    job = ImportJob.objects.get()
    assert ("annotation.run_import", (job.pk,)) in sent_tasks
    assert ".." not in job.file.name
    page = admin.get(reverse("campaign_import", args=[campaign.code, job.code])).content.decode()
    assert "every 1s" in page


def test_the_import_page_lists_what_was_left_out_and_why(admin: Client, campaign: Campaign) -> None:
    from annotation.imports import run_import

    rows = b'{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}\nnot json\n'
    admin.post(reverse("campaign_imports", args=[campaign.code]), {"file": SimpleUploadedFile("rows.jsonl", rows)})
    job = run_import(ImportJob.objects.get().pk)
    page = admin.get(reverse("campaign_import", args=[campaign.code, job.code])).content.decode()
    assert job.conversations_added == 1
    assert job.problems.get().reason[:20] in page
    assert "every 1s" not in page


def test_recorded_judgements_become_labels_of_a_judge_and_twice_is_once(
    admin: Client, campaign: Campaign, comparisons: list[Comparison]
) -> None:
    cache.clear()
    RecordedJudgement.objects.create(comparison=comparisons[0], judge="expert 7", outcome=1)
    page = admin.get(reverse("campaign_imports", args=[campaign.code])).content.decode()
    assert "expert 7" in page
    for judge in ("expert 7", "expert 7", "nobody"):
        admin.post(reverse("campaign_judgements", args=[campaign.code]), {"judge": judge})
    assert not Label.objects.exists(), "a page does not make a hundred thousand labels"
    where = reverse("campaign_imports", args=[campaign.code])
    assert 'hx-trigger="every 2s"' in admin.get(where).content.decode()
    adopt(Adoption.objects.get().pk)
    label = Label.objects.get()
    assert (label.teacher.pseudonym, label.comparison, label.outcome) == ("judge expert 7", comparisons[0], 1.0)
    page = admin.get(where, headers={"hx-request": "true", "hx-target": "adoptions"}).content.decode()
    assert "<html" not in page
    assert "hx-trigger" not in page
    assert '<td class="number">1</td>' in page


def test_every_judge_can_be_chosen(
    admin: Client, campaign: Campaign, comparisons: list[Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list holds the first names; the others are typed, and the unnamed have a button."""
    cache.clear()
    monkeypatch.setattr("annotation.views.imports.JUDGES_SUGGESTED", 30)
    names = ["", *(f"expert {number:02}" for number in range(35))]
    RecordedJudgement.objects.bulk_create(
        RecordedJudgement(comparison=comparisons[0], judge=name, outcome=1) for name in names
    )
    page = admin.get(reverse("campaign_imports", args=[campaign.code])).content.decode()
    assert page.count('<option value="expert') == 30
    assert "The data names 35 judges." in page
    assert "Make labels of the unnamed ones" in page
    where = reverse("campaign_judgements", args=[campaign.code])
    for judge in ("expert 34", ["expert 3", ""]):
        admin.post(where, {"judge": judge})
    assert "No judge of this name" in admin.post(where, {"judge": "expert"}, follow=True).content.decode()
    assert set(Adoption.objects.values_list("judge", flat=True)) == {"expert 34", ""}


@pytest.mark.parametrize("name", ["campaign", "campaign_settings", "campaign_imports", "campaign_guidelines"])
def test_a_teacher_of_the_campaign_does_not_see_its_staff_pages(
    client: Client, campaign: Campaign, bob: User, teacher: Any, name: str
) -> None:
    client.force_login(bob)
    assert client.get(reverse(name, args=[campaign.code])).status_code == 404


def test_a_refusal_is_said_and_nothing_changes(admin: Client, campaign: Campaign, pool: Pool) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(state=Campaign.State.DRAFT)
    page = admin.post(reverse("campaign_state", args=[campaign.code]), {"verb": "open"}, follow=True)
    assert "Import conversations before you open" in page.content.decode()
