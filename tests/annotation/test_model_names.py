"""Which models a page may name."""

from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from annotation.model_names import check_model_name
from annotation.models import Campaign, User


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.MODEL_FOLDER = tmp_path / "models"
    settings.MEDIA_ROOT = tmp_path / "models" / "files"
    return tmp_path / "models"


@pytest.mark.parametrize("name", ["default", "tiny", "gpt2", "Qwen/Qwen3-0.6B", " Qwen/Qwen3-0.6B "])
def test_installed_models_and_the_hubs_may_be_named(folder: Path, name: str) -> None:
    assert check_model_name(name) == name.strip()


def test_a_folder_of_models_may_be_named(folder: Path) -> None:
    assert check_model_name(f"{folder}/kept/../small") == str(folder / "small")


@pytest.mark.parametrize(
    "name",
    [
        "/etc", "{folder}/../files/policies/1", "{folder}/files/policies/1", "../models", "a/../../b", "a/b/c",
        "a..b/c", "annotation/models", "~/model", "https://example.org/model", "hf://a/b", "", "file:///etc",
        "a/b\n/etc", "é/b",
    ],
)  # fmt: skip
def test_no_other_place_of_the_server_may_be_named(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError):
        check_model_name(name.format(folder=folder))


def test_a_link_that_leads_out_of_the_folder_is_followed_before_it_is_judged(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValidationError):
        check_model_name(str(folder / "link"))


@pytest.mark.django_db
def test_the_settings_say_what_may_be_named(client: Client, alice: User, campaign: Campaign) -> None:
    client.force_login(alice)
    page = client.post(reverse("campaign_settings", args=[campaign.code]), {"encoder": "/etc"})
    assert "MODEL_FOLDER" in page.context["form"].errors["encoder"][0]
    campaign.refresh_from_db()
    assert campaign.encoder == "default"
