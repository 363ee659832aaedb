"""What is dear is worked out once for all who look, and seldom: on a campaign at work too."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from activelearning import keeping, progress, views
from annotation.models import Campaign, Pool, User
from tests.activelearning.conftest import hire
from tests.activelearning.test_statistics import give, plant_estimates, plant_scores
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db
SignIn = Callable[[User], Client]


def count_calls(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[str]:
    calls: list[str] = []
    real = getattr(module, name)

    def counting(*args: Any, **rest: Any) -> Any:
        calls.append(name)
        return real(*args, **rest)

    monkeypatch.setattr(module, name, counting)
    return calls


def test_a_label_between_two_looks_does_not_measure_the_agreement_again(
    campaign: Campaign, pool: Pool, alice: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "AGREEMENT_SECONDS", 600)  # however slow the machine
    calls = count_calls(monkeypatch, views, "read_agreement")
    rows, (first, second) = add_conversations(campaign, 12), hire(pool, 2)
    client, address = sign_in(alice), reverse("teachers_rationality", args=[campaign.code])
    for row in rows:
        give(campaign, row, first, 1.0)
        give(campaign, row, second, float(row.pk % 2))
        assert "Krippendorff" in client.get(address).content.decode()
    assert calls == ["read_agreement"]


def test_the_control_arm_is_judged_once_for_every_question_and_picture(
    campaign: Campaign, pool: Pool, alice: User, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_estimates(campaign, [10, 20], [1.0, 2.0], [0.5, 0.4])
    plant_scores(campaign, [(0.9, 1.0), (0.8, 0.0), (0.3, 0.0)] * 10, hire(pool, 1)[0])
    monkeypatch.setattr(progress, "COURSE_SECONDS", 600, raising=False)
    calls = [count_calls(monkeypatch, progress, name) for name in ("read_calibration", "read_scores", "read_curve")]
    client = sign_in(alice)
    for measure in ("error", "information", "accuracy"):
        page = client.get(reverse("progress", args=[campaign.code]), {"measure": measure})
        assert page.context["summary"].calibration.accuracy.count == 30
    for name in ("accuracy", "calibration", "error", "outlook"):
        for theme in ("light", "dark"):
            assert client.get(reverse("progress_plot", args=[campaign.code, name]), {"theme": theme}).status_code == 200
    assert [len(one) for one in calls] == [1, 1, 1]


class Memory:
    """A cache that knows for how long it was to keep what."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.seconds: list[float] = []

    def get(self, key: str) -> Any:
        return self.found.get(key)

    def set(self, key: str, found: Any, seconds: float) -> None:
        self.found[key] = found
        self.seconds.append(seconds)


@pytest.mark.parametrize(("took", "seconds"), [(0.01, 3), (0.5, 10), (100, 300)])
def test_what_took_longer_is_kept_for_longer(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch, took: float, seconds: float
) -> None:
    memory, clock = Memory(), iter([7.0, 7.0 + took])
    monkeypatch.setattr(keeping, "cache", memory)
    monkeypatch.setattr(keeping.time, "perf_counter", lambda: next(clock))
    answers = iter([0, 1])
    asked = [keeping.kept("a sum", campaign, 4, seconds=3, work=lambda: next(answers)) for _ in range(3)]
    assert asked == [0, 0, 0]
    assert memory.seconds == [pytest.approx(seconds)]


def test_what_was_asked_is_kept_apart(campaign: Campaign) -> None:
    one = keeping.kept("picture", campaign, "error", "light", seconds=9, work=lambda: "a")
    other = keeping.kept("picture", campaign, "error", "dark", seconds=9, work=lambda: "b")
    assert (one, other) == ("a", "b")


def test_nobody_gets_a_picture_in_the_language_of_whoever_looked_before(
    campaign: Campaign, alice: User, sign_in: SignIn
) -> None:
    plant_estimates(campaign, [10, 20], [1.0, 2.0], [0.5, 0.4])
    client, address = sign_in(alice), reverse("progress_plot", args=[campaign.code, "error"])
    with translation.override("en"):  # a request leaves its language behind
        assert "largest standard error" in client.get(address).content.decode()
        assert "größter Standardfehler" in client.get(address, headers={"accept-language": "de"}).content.decode()
