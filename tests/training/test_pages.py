"""The researcher's pages: each works, refuses the wrong verb, and hides from strangers."""

import gzip
import io
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.core.cache import cache
from django.db import OperationalError
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from activelearning.models import Estimate, Projection
from annotation.models import Campaign, Comparison, Label, Response, User
from tests.conftest import add_conversations
from tests.training.conftest import embed
from tests.training.test_train_run import perform_now
from training.algorithms.config import METHODS, TrainingConfig
from training.datasets.frozen import freeze
from training.forms import ConfigForm
from training.models import (
    FreezeRequest,
    Generation,
    LabelSet,
    Method,
    Policy,
    RewardQuestion,
    Run,
    RunMetric,
    StartRule,
    Work,
)
from training.pipeline import freezing
from training.services import rules
from training.services.freezing import ask_to_freeze, claim_freeze
from training.services.generations import add_responses, author_of, start_generation
from training.services.rules import add_rule, start_due_runs
from training.services.runs import start_run
from training.tasks import freeze_labels, reconcile

FORM = {
    "method": "rerank",
    "base_model": "tiny",
    "delta": "0.1",
    "kl_weight": "0.1",
    "lora_rank": "0",
    "batch_size": "8",
    "accumulation": "1",
    "samples": "2",
    "evaluation_prompts": "2",
    "max_length": "256",
    "max_new_tokens": "16",
    "seed": "0",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [("base_model", "/etc"), ("base_model", "annotation/models"), ("seed", str(2**31)), ("max_steps", "9" * 20)],
)
def test_a_run_is_told_no_path_of_the_server_and_no_endless_number(name: str, value: str) -> None:
    assert name not in ConfigForm(FORM).errors
    assert name in ConfigForm({**FORM, name: value}).errors


@pytest.fixture
def policy(labelled: Campaign) -> Policy:
    perform_now(start_run(campaign=labelled, config=TrainingConfig(method="rerank"), is_forced=True))
    return Policy.objects.get()


def estimate_of(campaign: Campaign, *, smallest: float = 5.0, **more: Any) -> Estimate:
    return Estimate.objects.create(
        campaign=campaign,
        projection=Projection.objects.filter(campaign=campaign).order_by("-id")[0],
        label_version=1,
        label_count=120,
        ridge=1.0,
        smallest_eigenvalue=smallest,
        **{"log_det": 10.0, **more},
    )


@pytest.fixture
def addresses(labelled: Campaign, policy: Policy) -> dict[str, tuple[str, str]]:
    """Every URL of this room, with the verb that it answers."""
    run, label_set = policy.run, policy.run.label_set
    question = RewardQuestion.objects.create(campaign=labelled, prompt="Why?", responses=["a", "b"])
    generation = Generation.objects.create(policy=policy, prompts=1)
    rule = StartRule.objects.create(campaign=labelled, kind="labels", threshold=10, config=TrainingConfig().to_json())
    here = {"code": labelled.code}
    of_run, of_policy = here | {"run": run.code}, here | {"policy": policy.code}
    assert label_set is not None
    file = {"kind": "preferences", "format": "jsonl"}
    return {
        "runs": (reverse("runs", kwargs=here), "get"),
        "start_rules": (reverse("start_rules", kwargs=here), "get"),
        "switch_start_rule": (reverse("switch_start_rule", kwargs=here | {"rule": rule.pk}), "post"),
        "run": (reverse("run", kwargs=of_run), "get"),
        "run_plot": (reverse("run_plot", kwargs=of_run | {"name": "loss"}), "get"),
        "run_cancel": (reverse("run_cancel", kwargs=of_run), "post"),
        "run_resume": (reverse("run_resume", kwargs=of_run), "post"),
        "lineage": (reverse("lineage", kwargs=here), "get"),
        "policy": (reverse("policy", kwargs=of_policy), "get"),
        "policy_download": (reverse("policy_download", kwargs=of_policy), "get"),
        "policy_generate": (reverse("policy_generate", kwargs=of_policy), "post"),
        "policy_plot": (reverse("policy_plot", kwargs=of_policy | {"name": "reliability"}), "get"),
        "generation_cancel": (reverse("generation_cancel", kwargs=here | {"generation": generation.code}), "post"),
        "exports": (reverse("exports", kwargs=here), "get"),
        "export_labels": (reverse("export_labels", kwargs=here | file), "get"),
        "download_label_set": (reverse("download_label_set", kwargs=here | {"label_set": label_set.pk}), "get"),
        "export_label_set": (reverse("export_label_set", kwargs=here | {"label_set": label_set.pk} | file), "get"),
        "reward": (reverse("reward", kwargs=here), "get"),
        "reward_answer": (reverse("reward_answer", kwargs=here | {"question": question.code}), "get"),
    }


def test_every_page_answers_a_researcher_and_nobody_else(
    addresses: dict[str, tuple[str, str]], researcher: User, bob: User, charlie: User, client: Client
) -> None:
    for name, (url, verb) in addresses.items():
        client.logout()
        found = getattr(client, verb)(url)
        assert (found.status_code, found.url.split("?")[0]) == (302, reverse("account_login")), name
        for stranger in (bob, charlie):
            client.force_login(stranger)
            assert getattr(client, verb)(url).status_code == 404, f"{name} shows itself to {stranger}"
            assert client.delete(url).status_code == 404, f"{name} tells {stranger} that it exists"
        client.force_login(researcher)
        assert getattr(client, verb)(url).status_code in (200, 302, 422), name
        assert client.delete(url).status_code == 405, name
        if verb == "post":
            assert client.get(url).status_code == 405, name


def test_every_url_of_the_room_is_in_the_test_above(addresses: dict[str, tuple[str, str]]) -> None:
    from training.urls import urlpatterns

    assert {pattern.name for pattern in urlpatterns} == set(addresses)


def test_another_campaigns_run_and_label_set_are_not_reached_through_ones_own(
    policy: Policy, charlie: User, client: Client, addresses: dict[str, tuple[str, str]]
) -> None:
    from annotation.models import Role

    own = Campaign.objects.create(name="Charlie's own", created_by=charlie)
    Role.objects.create(campaign=own, user=charlie, name=Role.Name.ADMIN)
    client.force_login(charlie)
    for name, (url, verb) in addresses.items():
        foreign = url.replace(str(policy.campaign.code), str(own.code))
        if foreign.count("/") > 5 and name not in ("start_rules", "export_labels"):
            assert getattr(client, verb)(foreign).status_code == 404, name


def test_the_form_starts_a_run_and_tells_a_worker(
    rosa_signed_in: Client, labelled: Campaign, sent_tasks: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        found = rosa_signed_in.post(reverse("runs", args=[labelled.code]), {**FORM, "method": "pessimistic_dpo"})
    run = Run.objects.get()
    assert found.url == reverse("run", args=[labelled.code, run.code])
    assert run.config["learning_rate"] == 5e-4
    assert run.config["encoder"] == "minilm"
    assert run.started_by.username == "rosa"
    assert ("training.run", ("run", run.pk)) in sent_tasks


def test_the_form_takes_shards_and_a_sampled_reference_point(rosa_signed_in: Client, labelled: Campaign) -> None:
    more = {"method": "pessimistic_dpo", "parallel": "fsdp", "reference_samples": "4"}
    assert rosa_signed_in.post(reverse("runs", args=[labelled.code]), {**FORM, **more}).status_code == 302
    config = Run.objects.get().config
    assert (config["parallel"], config["reference_samples"]) == ("fsdp", 4)
    wrong = rosa_signed_in.post(reverse("runs", args=[labelled.code]), {**FORM, "reference_samples": "1"})
    assert wrong.status_code == 422
    assert b"reference_samples is 0 or at least 2" in wrong.content


def model_of(policy: Policy, *, base: str = "tiny") -> Policy:
    """The policy as if a base model had been trained for it: by its rows alone."""
    Run.objects.filter(pk=policy.run_id).update(method="dpo", config={**policy.run.config, "base_model": base})
    Policy.objects.filter(pk=policy.pk).update(manifest={**policy.manifest, "files": {"config.json": {}}})
    return Policy.objects.get(pk=policy.pk)


def test_no_run_starts_from_a_flagged_policy(rosa_signed_in: Client, policy: Policy) -> None:
    url, parent = reverse("runs", args=[policy.campaign.code]), model_of(policy)
    assert list(rosa_signed_in.get(url).context["form"].fields["parent"].queryset) == [parent]
    Policy.objects.update(is_flagged=True)
    assert not rosa_signed_in.get(url).context["form"].fields["parent"].queryset
    assert rosa_signed_in.post(url, {**FORM, "method": "dpo", "parent": str(parent.pk)}).status_code == 422
    assert Run.objects.count() == 1


def test_what_starts_from_a_policy_has_its_base_model_and_the_rate_that_fits_it(
    rosa_signed_in: Client, policy: Policy
) -> None:
    """Also where that one started from another: a manifest would name a folder there."""
    url, parent = reverse("runs", args=[policy.campaign.code]), model_of(policy, base="Qwen/Qwen3-0.6B")
    manifest = {**parent.manifest, "config": {**parent.manifest["config"], "base_model": "/files/runs/0/policy"}}
    Policy.objects.update(manifest=manifest)
    found = rosa_signed_in.post(url, {**FORM, "method": "dpo", "parent": str(parent.pk), "is_forced": "on"})
    assert found.status_code == 302
    heir = Run.objects.get(parent=parent)
    assert (heir.config["base_model"], heir.config["learning_rate"]) == ("Qwen/Qwen3-0.6B", 5e-6)
    row = rosa_signed_in.get(url).content.decode().split(reverse("run", args=[policy.campaign.code, heir.code]))[1]
    assert "Qwen/Qwen3-0.6B" in row.split("</tr>")[0]
    assert reverse("policy", args=[policy.campaign.code, parent.code]) in row.split("</tr>")[0]


def test_a_policy_that_only_chooses_is_nothing_to_start_from(rosa_signed_in: Client, policy: Policy) -> None:
    model_of(policy)
    url = reverse("runs", args=[policy.campaign.code])
    for method, is_offered in (("dpo", True), ("best_of_n", False), ("rerank", False)):
        Run.objects.update(method=method)
        assert rosa_signed_in.get(url).context["form"].fields["parent"].queryset.exists() == is_offered, method


def test_pages_say_where_pessimism_is_silent(rosa_signed_in: Client, labelled: Campaign) -> None:
    def says(address: str) -> bool:
        return b"Pessimism is silent here" in rosa_signed_in.get(address).content

    def page_of(**more: Any) -> str:
        run = start_run(campaign=labelled, config=TrainingConfig(**more), is_forced=True)
        return reverse("run", args=[labelled.code, run.code])

    form, rules = reverse("runs", args=[labelled.code]), reverse("start_rules", args=[labelled.code])
    assert not any(says(one) for one in (form, rules, page_of())), "three responses have no midpoint"
    Campaign.objects.filter(pk=labelled.pk).update(comparison_count=40)
    assert all(says(one) for one in (form, rules, page_of(), page_of(method="rerank")))
    assert not says(page_of(reference_samples=4))
    assert not says(page_of(radius=0.0))
    assert not says(page_of(method="dpo"))


def test_methods_have_one_name_and_a_sentence_each(rosa_signed_in: Client, labelled: Campaign) -> None:
    assert set(Method.values) == set(METHODS)
    run = start_run(campaign=labelled, config=TrainingConfig(method="pessimistic_dpo"), is_forced=True)
    StartRule.objects.create(campaign=labelled, kind="labels", threshold=10, config=run.config)
    for name, more in (("runs", []), ("run", [run.code]), ("start_rules", [])):
        page = rosa_signed_in.get(reverse(name, args=[labelled.code, *more])).content.decode()
        assert "Pessimistic DPO" in page, name
        assert escape(str(Method.PESSIMISTIC_DPO.sentence)) in page, name
        shown = page.replace('value="pessimistic_dpo"', "").split("<dt>method</dt>")[0]
        assert "pessimistic_dpo" not in shown, name


def test_a_deficient_design_is_refused_unless_forced(rosa_signed_in: Client, labelled: Campaign) -> None:
    estimate_of(labelled, smallest=1.2)
    url = reverse("runs", args=[labelled.code])
    found = rosa_signed_in.post(url, FORM)
    assert found.status_code == 422
    assert b"barely labelled" in found.content
    assert not Run.objects.exists()
    assert rosa_signed_in.post(url, {**FORM, "is_forced": "on"}).status_code == 302
    assert Run.objects.get().is_forced


def test_without_labels_there_is_nothing_to_learn(campaign: Campaign, alice: User, client: Client) -> None:
    client.force_login(alice)
    found = client.post(reverse("runs", args=[campaign.code]), FORM)
    assert found.status_code == 422
    assert b"no labels to learn from" in found.content


@pytest.mark.parametrize(("name", "value"), [("delta", "2"), ("max_length", "8"), ("batch_size", "0"), ("method", "x")])
def test_settings_that_do_not_go_together_are_refused(
    rosa_signed_in: Client, labelled: Campaign, name: str, value: str
) -> None:
    assert rosa_signed_in.post(reverse("runs", args=[labelled.code]), {**FORM, name: value}).status_code == 422
    assert not Run.objects.exists()


def test_the_run_page_follows_until_the_end(rosa_signed_in: Client, labelled: Campaign) -> None:
    run = start_run(campaign=labelled, config=TrainingConfig(), is_forced=True)
    Run.objects.filter(pk=run.pk).update(state=Work.State.RUNNING, stage="Training", step=3, steps=10)
    RunMetric.objects.create(run=run, step=3, values={"loss": 0.6543, "tokens_per_second": 900.0})
    url = reverse("run", args=[labelled.code, run.code])
    page = rosa_signed_in.get(url).content.decode()
    assert 'hx-trigger="every 3s"' in page
    assert "Step 3 of 10" in page
    assert "0.6543" in page
    assert reverse("run_plot", args=[labelled.code, run.code, "loss"]) in page
    fragment = rosa_signed_in.get(url, headers={"HX-Request": "true"}).content.decode()
    assert fragment.lstrip().startswith('<div id="run"')
    Run.objects.filter(pk=run.pk).update(state=Work.State.FAILED, reason="There is no room on the disk.")
    page = rosa_signed_in.get(url).content.decode()
    assert "There is no room on the disk." in page
    assert "hx-trigger" not in page.split('id="run"')[1].split(">")[0]


def test_cancelling_twice_and_cancelling_what_is_done_changes_nothing(
    rosa_signed_in: Client, labelled: Campaign
) -> None:
    run = start_run(campaign=labelled, config=TrainingConfig(), is_forced=True)
    url = reverse("run_cancel", args=[labelled.code, run.code])
    for _ in range(2):
        assert rosa_signed_in.post(url).status_code == 302
        run.refresh_from_db()
        assert run.state == Work.State.CANCELLED
    Run.objects.filter(pk=run.pk).update(state=Work.State.DONE, is_cancel_asked=False)
    rosa_signed_in.post(url)
    run.refresh_from_db()
    assert (run.state, run.is_cancel_asked) == (Work.State.DONE, False)


def test_a_failed_run_is_resumed_with_more_time(rosa_signed_in: Client, labelled: Campaign) -> None:
    run = start_run(campaign=labelled, config=TrainingConfig(time_limit_seconds=60), is_forced=True)
    url = reverse("run_resume", args=[labelled.code, run.code])
    rosa_signed_in.post(url, {"time_limit_minutes": "5"})
    run.refresh_from_db()
    assert run.config["time_limit_seconds"] == 60, "a waiting run is not one to resume"
    Run.objects.filter(pk=run.pk).update(state=Work.State.FAILED, reason="Too slow.")
    rosa_signed_in.post(url, {"time_limit_minutes": "5"})
    run.refresh_from_db()
    assert (run.state, run.reason, run.config["time_limit_seconds"]) == (Work.State.WAITING, "", 300)


def test_the_policy_page_explains_the_certificate(rosa_signed_in: Client, policy: Policy) -> None:
    page = rosa_signed_in.get(reverse("policy", args=[policy.campaign.code, policy.code])).content.decode()
    assert "Regret is at most" in page
    assert f"{policy.certificate['regret']:.3f}" in page
    assert "Greedy" in page
    assert policy.digest in page
    assert policy.evaluation["contrast"]["pessimistic"]["regret"] <= policy.evaluation["contrast"]["greedy"]["regret"]
    assert "judged on 40 prompts, of which 5 are held out" in page


def test_the_download_is_a_zip_of_what_the_manifest_names(
    rosa_signed_in: Client, policy: Policy, tmp_path: Path
) -> None:
    from training.algorithms import artifact

    found = rosa_signed_in.get(reverse("policy_download", args=[policy.campaign.code, policy.code]))
    with zipfile.ZipFile(io.BytesIO(b"".join(found.streaming_content))) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    manifest = artifact.verify(folder, kind="policy", digest=policy.digest)
    assert manifest["label_set"] == policy.run.label_set.digest


def test_the_page_shows_the_snippet_of_the_docs_which_trains_on_no_held_out_row(
    rosa_signed_in: Client, labelled: Campaign
) -> None:
    page = rosa_signed_in.get(reverse("exports", args=[labelled.code])).content.decode()
    snippet = page.split('<pre tabindex="0">')[1].split("</pre>")[0]
    assert 'not row["is_held_out"]' in snippet
    docs = (Path(__file__).resolve().parents[2] / "docs" / "exporting.md").read_text(encoding="utf-8")
    assert f"```python\n{snippet}\n```" in docs


def test_freezing_twice_gives_one_label_set(rosa_signed_in: Client, labelled: Campaign) -> None:
    url = reverse("exports", args=[labelled.code])
    for _ in range(2):
        assert rosa_signed_in.post(url).status_code == 302
    assert LabelSet.objects.get().created_by.username == "rosa"
    assert LabelSet.objects.get().short_digest in rosa_signed_in.get(url).content.decode()


def test_many_labels_are_frozen_by_a_worker_for_whoever_asked(
    rosa_signed_in: Client, labelled: Campaign, sent_tasks: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    Campaign.objects.filter(pk=labelled.pk).update(label_count=5001)
    url = reverse("exports", args=[labelled.code])
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            rosa_signed_in.post(url)
    asked = FreezeRequest.objects.get()
    assert sent_tasks.count(("training.freeze", (asked.pk,))) == 2
    assert not LabelSet.objects.exists()
    assert "The labels are being frozen" in rosa_signed_in.get(url).content.decode()
    for _ in range(2):
        freeze_labels(asked.pk)
    asked.refresh_from_db()
    assert (asked.state, asked.label_set) == (FreezeRequest.State.DONE, LabelSet.objects.get())
    assert LabelSet.objects.get().created_by.username == "rosa"
    assert "The labels are being frozen" not in rosa_signed_in.get(url).content.decode()


def test_a_freeze_outlives_a_broker_that_is_down_and_a_worker_that_dies(
    rosa_signed_in: Client,
    labelled: Campaign,
    sent_tasks: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise ConnectionError("Connection refused")

    Campaign.objects.filter(pk=labelled.pk).update(label_count=5001)
    with monkeypatch.context() as patch, django_capture_on_commit_callbacks(execute=True):
        patch.setattr(Celery, "send_task", refuse)
        assert rosa_signed_in.post(reverse("exports", args=[labelled.code])).status_code == 302
    asked = FreezeRequest.objects.get()
    for _ in range(2):  # asked again within ten seconds, the beat sends nothing
        reconcile()
    assert sent_tasks.count(("training.freeze", (asked.pk,))) == 1
    assert claim_freeze(asked.pk) is not None
    cache.clear()
    reconcile()
    assert sent_tasks.count(("training.freeze", (asked.pk,))) == 1, "a worker has it"
    FreezeRequest.objects.update(begun_at=timezone.now() - timedelta(minutes=32))
    reconcile()
    assert sent_tasks.count(("training.freeze", (asked.pk,))) == 2, "which died"


def test_a_freeze_that_fails_says_why(
    rosa_signed_in: Client, labelled: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask_to_freeze(campaign=labelled, user=None)
    monkeypatch.setattr(freezing, "freeze", lambda *_arguments, **_options: (_ for _ in ()).throw(OSError("disk full")))
    freeze_labels(asked.pk)
    page = rosa_signed_in.get(reverse("exports", args=[labelled.code])).content.decode()
    assert "The labels could not be frozen. OSError: disk full" in page
    assert ask_to_freeze(campaign=labelled, user=None).pk != asked.pk


@pytest.mark.parametrize("format", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize("kind", ["preferences", "ties", "labels"])
def test_downloads_stream_with_a_generated_name(
    rosa_signed_in: Client, labelled: Campaign, kind: str, format: str
) -> None:
    label_set = freeze(labelled)
    live = rosa_signed_in.get(reverse("export_labels", args=[labelled.code, kind, format]))
    frozen = rosa_signed_in.get(reverse("export_label_set", args=[labelled.code, label_set.pk, kind, format]))
    assert live.streaming
    assert frozen.streaming
    assert live["Content-Disposition"] == f'attachment; filename="{kind}.{format}"'
    assert b"".join(live.streaming_content) == b"".join(frozen.streaming_content)


def test_the_frozen_lines_are_downloaded_less_what_was_withdrawn(rosa_signed_in: Client, labelled: Campaign) -> None:
    label_set = freeze(labelled)
    Label.objects.filter(pk=Label.objects.order_by("id")[3].pk).update(state=Label.State.WITHDRAWN)
    found = rosa_signed_in.get(reverse("download_label_set", args=[labelled.code, label_set.pk]))
    name = f'attachment; filename="label-set-{label_set.short_digest}.jsonl.gz"'
    assert (found["Content-Type"], found["Content-Disposition"]) == ("application/gzip", name)
    assert gzip.decompress(b"".join(found.streaming_content)).count(b'"erased":') == 1


def test_no_export_knows_a_name_of_a_person(rosa_signed_in: Client, labelled: Campaign, bob: User) -> None:
    for kind in ("preferences", "ties", "labels"):
        found = rosa_signed_in.get(reverse("export_labels", args=[labelled.code, kind, "jsonl"]))
        text = b"".join(found.streaming_content).decode()
        assert bob.email not in text
        assert f'"{bob.username}"' not in text


def test_an_unknown_kind_or_format_is_not_found(rosa_signed_in: Client, labelled: Campaign) -> None:
    for kind, format in (("people", "jsonl"), ("labels", "pickle")):
        assert rosa_signed_in.get(reverse("export_labels", args=[labelled.code, kind, format])).status_code == 404


def test_a_rule_starts_one_run_and_no_second(labelled: Campaign) -> None:
    Campaign.objects.filter(pk=labelled.pk).update(label_count=120)
    estimate_of(labelled)
    rule = add_rule(campaign=labelled, kind="labels", threshold=100, config=TrainingConfig(method="rerank"))
    (run,) = start_due_runs()
    assert run.trigger == "rule: At a number of labels"
    Run.objects.update(state=Work.State.DONE)
    Campaign.objects.filter(pk=labelled.pk).update(label_count=500)
    assert start_due_runs() == []
    rule.refresh_from_db()
    assert not rule.is_active


def test_a_rule_for_every_so_many_labels_starts_again(labelled: Campaign) -> None:
    estimate_of(labelled)
    Campaign.objects.filter(pk=labelled.pk).update(label_count=120)
    labelled.refresh_from_db()
    add_rule(campaign=labelled, kind="every", threshold=50, config=TrainingConfig(method="rerank"))
    for count, expected in ((130, 0), (170, 1), (171, 0), (219, 0), (220, 1), (40, 0), (89, 0), (90, 1)):
        Campaign.objects.filter(pk=labelled.pk).update(label_count=count)
        assert len(start_due_runs()) == expected, count
        Run.objects.update(state=Work.State.DONE)


def test_a_refused_rule_says_why_and_starts_once_the_labels_suffice(labelled: Campaign) -> None:
    Campaign.objects.filter(pk=labelled.pk).update(label_count=120)
    estimate_of(labelled, smallest=1.0)
    rule = add_rule(campaign=labelled, kind="labels", threshold=100, config=TrainingConfig(method="rerank"))
    assert start_due_runs() == []
    rule.refresh_from_db()
    assert rule.is_active
    assert "barely labelled" in rule.refusal
    assert start_due_runs() == [], "nothing has changed"
    estimate_of(labelled, smallest=9.0)  # of the same labels, a moment later
    assert len(start_due_runs()) == 1
    rule.refresh_from_db()
    assert (rule.is_active, rule.refusal) == (False, "")


def test_a_refused_rule_for_every_so_many_labels_stays_due(rosa_signed_in: Client, labelled: Campaign) -> None:
    """It is not due again only after as many labels more."""
    assert labelled.label_count == 0
    add_rule(campaign=labelled, kind="every", threshold=500, config=TrainingConfig(method="rerank"))
    Campaign.objects.filter(pk=labelled.pk).update(label_count=500)
    estimate_of(labelled, smallest=1.0)
    for _ in range(2):
        assert start_due_runs() == []
    page = rosa_signed_in.get(reverse("start_rules", args=[labelled.code])).content.decode()
    assert "barely labelled" in page
    assert "500 labels" not in page
    estimate_of(labelled, smallest=9.0)
    Campaign.objects.filter(pk=labelled.pk).update(label_count=510)
    assert len(start_due_runs()) == 1
    rule = StartRule.objects.get()
    assert (rule.last_label_count, rule.refusal, rule.is_active) == (510, "", True)
    assert (
        "counted from 510 labels" in rosa_signed_in.get(reverse("start_rules", args=[labelled.code])).content.decode()
    )


def test_a_rule_whose_run_could_not_be_stored_is_still_due(labelled: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(**_arguments: Any) -> None:
        raise OperationalError("database is locked")

    estimate_of(labelled)
    Campaign.objects.filter(pk=labelled.pk).update(label_count=120)
    rule = add_rule(campaign=labelled, kind="labels", threshold=100, config=TrainingConfig(method="rerank"))
    with monkeypatch.context() as patch:
        patch.setattr(rules, "start_run", lock)
        with pytest.raises(OperationalError):
            start_due_runs()
    rule.refresh_from_db()
    assert (rule.is_active, rule.last_label_count, rule.refusal) == (True, 0, "")
    assert len(start_due_runs()) == 1, "asked again, it starts its run"


@pytest.mark.parametrize(("kind", "threshold", "met"), [("log_det", 9, 1), ("log_det", 11, 0), ("certificate", 1.5, 1)])
def test_rules_on_the_estimate(labelled: Campaign, kind: str, threshold: float, met: int) -> None:
    Campaign.objects.filter(pk=labelled.pk).update(label_count=120)
    estimate_of(labelled, log_det=10.0, certificate=1.4)
    add_rule(campaign=labelled, kind=kind, threshold=threshold, config=TrainingConfig(method="rerank"))
    assert len(start_due_runs()) == met


def test_no_rule_is_met_by_the_certificate_of_other_features(labelled: Campaign) -> None:
    Campaign.objects.filter(pk=labelled.pk).update(label_count=120)
    estimate_of(labelled, certificate=1.4)
    add_rule(campaign=labelled, kind="certificate", threshold=1.5, config=TrainingConfig(method="rerank"))
    embed(labelled, seed=1)
    estimate_of(labelled)
    assert start_due_runs() == []
    estimate_of(labelled, certificate=1.4)
    assert len(start_due_runs()) == 1


def test_the_rules_page_adds_and_switches(rosa_signed_in: Client, labelled: Campaign) -> None:
    url = reverse("start_rules", args=[labelled.code])
    assert rosa_signed_in.post(url, {**FORM, "kind": "every", "threshold": "25"}).status_code == 302
    rule = StartRule.objects.get()
    rosa_signed_in.post(reverse("switch_start_rule", args=[labelled.code, rule.pk]), {"active": "no"})
    rule.refresh_from_db()
    assert not rule.is_active
    assert rosa_signed_in.post(url, {**FORM, "kind": "every", "threshold": "0"}).status_code == 422


def test_a_question_is_a_row_a_task_and_a_page_that_follows(
    rosa_signed_in: Client, labelled: Campaign, sent_tasks: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    url = reverse("reward", args=[labelled.code])
    texts = {"prompt": "How?", "first": "Like this.", "second": "No idea."}
    assert b"no estimate yet" in rosa_signed_in.post(url, texts).content
    estimate_of(labelled)
    with django_capture_on_commit_callbacks(execute=True):
        found = rosa_signed_in.post(url, texts)
    question = RewardQuestion.objects.get()
    assert ("training.answer", (question.pk,)) in sent_tasks
    assert b'hx-trigger="every 1s"' in rosa_signed_in.get(found.url).content
    RewardQuestion.objects.update(
        state="answered",
        answer={
            "responses": [{"mean": 0.25, "lower": -0.5, "upper": 1.0}, {"mean": -0.25, "lower": -1.0, "upper": 0.5}],
            "radius": 2.0,
            "delta": 0.1,
            "labels": 120,
        },
    )
    page = rosa_signed_in.get(found.url).content.decode()
    assert "0.250" in page
    assert "hx-trigger" not in page.split('id="reward_answer"')[1].split(">")[0]


def test_what_a_policy_writes_enters_the_pool_as_comparisons(policy: Policy) -> None:
    campaign = policy.campaign
    comparison = add_conversations(campaign, 1)[0]
    before = Comparison.objects.filter(campaign=campaign).count()
    known = comparison.a.messages[0]["content"]
    texts = {comparison.conversation_id: ["A new answer.", "Another one.", "A new answer.", "  "]}
    assert add_responses(policy=policy, texts=texts) == (2, 3)
    written = Response.objects.filter(conversation=comparison.conversation, origin=Response.Origin.POLICY)
    assert {response.author for response in written} == {author_of(policy)}
    assert Comparison.objects.filter(campaign=campaign).count() == before + 3
    campaign.refresh_from_db()
    assert campaign.comparison_count == before + 3
    assert add_responses(policy=policy, texts=texts) == (0, 0)
    assert known not in {response.messages[0]["content"] for response in written}


def test_a_reranker_cannot_write(rosa_signed_in: Client, policy: Policy) -> None:
    url = reverse("policy_generate", args=[policy.campaign.code, policy.code])
    found = rosa_signed_in.post(url, {"prompts": "2", "samples": "2", "seed": "0"})
    assert found.status_code == 422
    assert not Generation.objects.exists()
    with pytest.raises(Exception, match="cannot write"):
        start_generation(policy=policy, prompts=1, samples=1)


def test_the_lineage_counts_what_people_said_of_a_policys_responses(
    rosa_signed_in: Client, policy: Policy, teacher: Any
) -> None:
    from tests.training.conftest import answer

    comparison = add_conversations(policy.campaign, 1)[0]
    add_responses(policy=policy, texts={comparison.conversation_id: ["A new answer."]})
    new = Comparison.objects.filter(b__author=author_of(policy)).get()
    answer(new, teacher, choice="first", b_first=True)
    page = rosa_signed_in.get(reverse("lineage", args=[policy.campaign.code])).content.decode()
    assert "1 / 1" in page
    assert Label.objects.filter(comparison=new).get().outcome == 0.0


def test_the_beat_sends_what_waits_again(labelled: Campaign, sent_tasks: list[Any]) -> None:
    from django.core.cache import cache

    from training.tasks import reconcile

    cache.clear()
    run = start_run(campaign=labelled, config=TrainingConfig(), is_forced=True)
    reconcile()
    assert sent_tasks.count(("training.run", ("run", run.pk))) == 1
    reconcile()
    assert sent_tasks.count(("training.run", ("run", run.pk))) == 1, "not twice within a moment"


def test_plots_are_pictures_of_the_numbers(rosa_signed_in: Client, labelled: Campaign) -> None:
    run = start_run(campaign=labelled, config=TrainingConfig(), is_forced=True)
    for step in range(1, 6):
        RunMetric.objects.create(run=run, step=step, values={"loss": 1.0 / step, "note": "text"})
    found = rosa_signed_in.get(reverse("run_plot", args=[labelled.code, run.code, "loss"]))
    assert found["Content-Type"] == "image/svg+xml"
    picture = found.content.decode()
    assert picture.count("<circle") == 5
    assert "<script" not in picture
    assert "style=" not in picture
    assert rosa_signed_in.get(reverse("run_plot", args=[labelled.code, run.code, "secret"])).status_code == 404


def test_runs_and_label_sets_are_paged_by_key(rosa_signed_in: Client, labelled: Campaign) -> None:
    config = TrainingConfig(method="rerank").to_json()
    Run.objects.bulk_create(Run(campaign=labelled, config=config, method="rerank", state="failed") for _ in range(30))
    LabelSet.objects.bulk_create(
        LabelSet(campaign=labelled, digest=f"{number:064x}", label_count=number, summary={}) for number in range(30)
    )
    for name in ("runs", "exports"):
        page = rosa_signed_in.get(reverse(name, args=[labelled.code])).context["page"]
        last = page.rows[-1].pk
        assert (len(page.rows), page.next_key) == (25, last)
        older = rosa_signed_in.get(f"{reverse(name, args=[labelled.code])}?before={last}").context["page"]
        assert [row.pk for row in older.rows] == list(range(last - 1, last - 6, -1))
        assert older.next_key is None
