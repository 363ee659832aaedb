"""From labels to a policy and back, through the pages: freeze, train, look, download, write for the pool, label."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import Campaign, Comparison, Response, Teacher
from tests.training.conftest import answer, labelled, researcher, rosa_signed_in  # noqa: F401
from tests.training.test_pages import FORM
from tests.training.test_train_run import never, perform_now
from training.algorithms import artifact
from training.models import Generation, LabelSet, Run, Work
from training.pipeline.work import perform
from training.services import work as services


@pytest.mark.slow
def test_a_round_of_the_loop(
    rosa_signed_in: Client,  # noqa: F811
    labelled: Campaign,  # noqa: F811
    teacher: Teacher,
    tmp_path: Path,
    sent_tasks: list[Any],
    django_capture_on_commit_callbacks: Any,
) -> None:
    rosa, code = rosa_signed_in, labelled.code

    # Rosa starts a run, and a worker takes it
    told = FORM | {"method": "pessimistic_dpo", "max_steps": "3", "batch_size": "4", "max_new_tokens": "8"}
    with django_capture_on_commit_callbacks(execute=True):
        page = rosa.post(reverse("runs", args=[code]), told | {"is_forced": "on"})
    run = Run.objects.get()
    assert sent_tasks == [("training.run", ("run", run.pk))]
    assert b"Waiting for a worker" in rosa.get(page.url).content
    run = perform_now(run)
    assert (run.state, run.reason) == (Work.State.DONE, "")

    # The page shows what came of it, and the folder is what the manifest says
    policy = run.policy
    page = rosa.get(reverse("run", args=[code, run.code]))
    assert reverse("policy", args=[code, policy.code]) in page.content.decode()
    found = rosa.get(reverse("policy_download", args=[code, policy.code]))
    with zipfile.ZipFile(io.BytesIO(b"".join(found.streaming_content))) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.glob("policy-*")
    manifest = artifact.verify(folder, kind="policy", digest=policy.digest)
    assert manifest["label_set"] == LabelSet.objects.get().digest

    # What was trained on can be taken away as it was
    label_set = LabelSet.objects.get()
    found = rosa.get(reverse("export_label_set", args=[code, label_set.pk, "preferences", "jsonl"]))
    rows = [json.loads(line) for line in b"".join(found.streaming_content).splitlines()]
    assert len(rows) == label_set.label_count == 120
    assert sum(not row["is_held_out"] for row in rows) == manifest["labels"]

    # The policy writes for the pool, a teacher judges, and the lineage tells
    rosa.post(reverse("policy_generate", args=[code, policy.code]), {"prompts": "3", "samples": "2", "seed": "1"})
    generation = Generation.objects.get()
    holder = services.claim(generation)
    assert holder is not None
    perform("generation", code=generation.code, holder=holder, should_stop=never)
    new = Comparison.objects.filter(b__origin=Response.Origin.POLICY, a__origin=Response.Origin.IMPORTED).first()
    assert new is not None
    answer(new, teacher, choice="first")
    page = rosa.get(reverse("lineage", args=[code])).content.decode()
    assert label_set.short_digest in page
    assert "0 / 1" in page

    # The next freeze holds the new label, and the old set is as it was
    rosa.post(reverse("exports", args=[code]))
    assert [one.label_count for one in LabelSet.objects.order_by("id")] == [120, 121]
