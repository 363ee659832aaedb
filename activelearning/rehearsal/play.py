"""The rehearsal itself: actors at work in threads, until so many labels are in or nothing is left to ask."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random

from django.db import connection
from django.urls import reverse

from activelearning.rehearsal.browsing import Browser, DeskPage
from activelearning.rehearsal.people import Actor
from activelearning.rehearsal.truth import Truth
from annotation.models import Campaign, Label, Offer

DRY_AFTER = 45.0
"""Seconds without any label by anybody after which there is nothing left to ask."""
WAIT = 0.3
LONGEST_WAIT = 3.0
"""Seconds between two looks at an empty desk: short at first, then longer, so that looking does not keep the planner
from planning."""
AT_THE_DOOR = 2
"""Who signs in at the same time: a password costs the server half a second of work, by design."""


@dataclass
class Stage:
    """What the actors share: how many labels are in, and when the last one came."""

    wanted: int
    on_label: Callable[[], object]
    asked: int = 0
    accepted: dict[str, str] = field(default_factory=dict)
    last: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    door: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_THE_DOOR))

    @property
    def is_over(self) -> bool:
        return len(self.accepted) >= self.wanted or time.monotonic() - self.last > DRY_AFTER

    def may_answer(self) -> bool:
        """Take one of the labels that are still wanted; `close` says what became of it."""
        with self.lock:
            if self.is_over or self.asked >= self.wanted:
                return False
            self.asked += 1
            return True

    def close(self, offer: str, choice: str, *, is_stored: bool) -> None:
        with self.lock:
            if not is_stored:
                self.asked -= 1
                return
            self.accepted[offer] = choice
            self.last = time.monotonic()
        self.on_label()


def play(
    campaign: Campaign,
    actors: list[Actor],
    truth: Truth,
    *,
    site: str,
    labels: int,
    seed: int,
    think_seconds: float,
    on_label: Callable[[], object],
) -> dict[str, str]:
    """Let the actors sign in and answer. Returns every answer that a page said was stored: offer code -> choice.

    Raises NotServed.
    """
    stage = Stage(wanted=labels, on_label=on_label)
    with ThreadPoolExecutor(max_workers=len(actors)) as threads:
        futures = [
            threads.submit(_act, campaign, actor, truth, stage, site, Random(f"{seed} {number}"), think_seconds)
            for number, actor in enumerate(actors)
        ]
        for future in futures:
            future.result()
    return stage.accepted


def _act(
    campaign: Campaign, actor: Actor, truth: Truth, stage: Stage, site: str, rng: Random, think_seconds: float
) -> None:
    path = reverse("desk", args=[campaign.code])
    browser = Browser(site)
    try:
        with stage.door:
            browser.sign_in(actor.username, actor.password)
            stage.last = time.monotonic()
        desk = browser.open_desk(path)
        wait = WAIT
        while not stage.is_over:
            if desk.state != "offer":
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                desk = browser.open_desk(path)
                continue
            wait = WAIT
            if think_seconds:
                time.sleep(rng.expovariate(1 / think_seconds))
            desk = _answer(browser, path, desk, actor, truth, stage, rng)
    finally:
        connection.close()


def _answer(
    browser: Browser, path: str, desk: DeskPage, actor: Actor, truth: Truth, stage: Stage, rng: Random
) -> DeskPage:
    """Answer what is shown. The page shows texts; which comparison that is, the actor looks up by the offer's code."""
    offer = Offer.objects.select_related("comparison").get(code=desk.offer)
    choice = actor.choose(offer.comparison, b_first=offer.b_first, truth=truth, rng=rng)
    if choice is None:
        return browser.skip(path, offer=desk.offer, reason="this judge never saw it")
    if not stage.may_answer():
        time.sleep(WAIT)  # the last labels wanted are on their way
        return desk
    after = browser.answer(path, offer=desk.offer, choice=choice)
    stage.close(desk.offer, choice, is_stored=bool(after.said))
    return after


def find_losses(accepted: dict[str, str]) -> list[str]:
    """Offers whose answer a page said was stored, and that do not have exactly this current label."""
    stored = Label.objects.filter(offer__code__in=accepted, state=Label.State.CURRENT)
    kept = {str(code): choice for code, choice in stored.values_list("offer__code", "choice")}
    return [offer for offer, choice in accepted.items() if kept.get(offer) != choice]
