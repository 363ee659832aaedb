"""Something of a running platform is killed while simulated teachers answer: what was lost, and for how long?"""

import re
from dataclasses import dataclass

from tests.flows.embedded import Platform
from tests.servers import PATIENCE

LABELS = "SELECT count(*) FROM annotation_label WHERE state = 'current'"
ESTIMATES = "SELECT count(*) FROM activelearning_estimate"
FEATURES = "SELECT count(*) FROM activelearning_projection"
DOUBLED = (
    "SELECT count(*) FROM (SELECT offer_id FROM annotation_label WHERE state = 'current'"
    " GROUP BY offer_id HAVING count(*) > 1)"
)
VICTIMS: dict[str, list[tuple[str, ...]]] = {
    "the planning worker": [("celery", "-Q plan")],
    "the web server": [("granian",)],
    "the broker": [("valkey",)],
    "the beat": [("celery", "beat")],
    "everything but the supervisor": [("celery",), ("granian",), ("valkey",)],
}
"""Words of the command lines."""


@dataclass(frozen=True)
class Healed:
    """What a kill did: seconds until seven more labels were stored, and until the next estimate; answers lost."""

    labels_after: float
    estimate_after: float
    accepted: int
    lost: int
    doubled: int


def kill(running: Platform, victim: str, *, labels: int = 60) -> Healed:
    """Six simulated teachers, slow enough that the kill finds them at work, and one kill -9. Raises AssertionError."""
    before = running.count(LABELS)
    rehearsal = running.manage(
        "rehearse", "Demo", "--teachers", "6", "--labels", str(labels), "--think", "1", "--against", "",
        "--seed", str(len(victim)), "--site", running.site,
    )  # fmt: skip
    running.wait_until(lambda: running.count(LABELS) >= before + 8)

    assert sum(running.kill(*words) for words in VICTIMS[victim]), f"{victim} was not running"
    stored, estimates = running.count(LABELS), running.count(ESTIMATES)
    labels_after = running.wait_until(lambda: running.count(LABELS) > stored + 6)
    estimate_after = labels_after + running.wait_until(lambda: running.count(ESTIMATES) > estimates)

    output, _nothing = rehearsal.communicate(timeout=PATIENCE)
    assert rehearsal.returncode == 0, output + running.logs()
    found = re.search(r"(\d+) answers accepted in .*, (\d+) lost", output, re.DOTALL)
    assert found, output
    return Healed(labels_after, estimate_after, int(found[1]), int(found[2]), running.count(DOUBLED))
