"""The command line: train here or later, export to a file."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from annotation.models import Campaign
from tests.training.test_train_run import never
from training.management.commands.train import read_settings
from training.models import LabelSet, Run
from training.pipeline import supervision
from training.pipeline.work import perform
from training.services import work as services


def tell(*arguments: Any) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def test_train_sees_a_run_through_and_says_what_came_of_it(labelled: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    def supervise_here(kind: str, pk: int) -> None:
        run = Run.objects.get(pk=pk)
        holder = services.claim(run)
        assert holder is not None
        perform(kind, code=run.code, holder=holder, should_stop=never)

    monkeypatch.setattr(supervision, "supervise", supervise_here)
    said = tell("train", labelled.name, "--method", "rerank", "--force", "--set", "radius=0.5")
    run = Run.objects.get()
    assert str(run.policy.code) in said
    assert run.policy.manifest["radius"] == 0.5
    assert "Regret at most" in said


def test_train_later_leaves_a_waiting_run(labelled: Campaign) -> None:
    assert "waits for a worker" in tell("train", labelled.name, "--later", "--force")
    assert Run.objects.get().state == "waiting"


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        (["max_steps=5", "learning_rate=1e-3"], {"max_steps": 5, "learning_rate": 1e-3}),
        (["radius=0", "gradient_checkpointing=yes"], {"radius": 0.0, "gradient_checkpointing": True}),
        (["base_model=a=b"], {"base_model": "a=b"}),
    ],
)
def test_settings_have_the_types_of_the_configuration(pairs: list[str], found: dict[str, Any]) -> None:
    assert read_settings(pairs) == found


@pytest.mark.parametrize("pair", ["nonsense=1", "max_steps=many"])
def test_a_setting_that_is_none_is_refused(pair: str) -> None:
    with pytest.raises(CommandError):
        read_settings([pair])


def test_train_without_labels_says_so(campaign: Campaign) -> None:
    with pytest.raises(CommandError, match="no labels to learn from"):
        tell("train", campaign.name)


def test_export_writes_a_file_and_freezes_when_asked(labelled: Campaign, tmp_path: Path) -> None:
    live, frozen, again = (tmp_path / name for name in ("live.jsonl", "frozen.jsonl", "again.jsonl"))
    tell("export_labels", labelled.name, str(live))
    assert not LabelSet.objects.exists()
    said = tell("export_labels", labelled.name, str(frozen), "--freeze")
    digest = LabelSet.objects.get().digest
    assert digest in said
    tell("export_labels", labelled.name, str(again), "--label-set", digest[:8])
    assert live.read_bytes() == frozen.read_bytes() == again.read_bytes()
    assert len([json.loads(line) for line in live.read_text().splitlines()]) == 120
    assert not list(tmp_path.glob("*.partial"))


def test_export_says_where_it_cannot_write(labelled: Campaign, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file or directory"):
        tell("export_labels", labelled.name, str(tmp_path / "nowhere" / "labels.jsonl"))


def test_export_refuses_a_format_it_does_not_know(labelled: Campaign, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="jsonl"):
        tell("export_labels", labelled.name, str(tmp_path / "labels.pickle"))
    with pytest.raises(CommandError, match="No label set"):
        tell("export_labels", labelled.name, str(tmp_path / "labels.jsonl"), "--label-set", "abc")
