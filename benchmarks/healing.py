"""How long is the loop broken when a part of it is killed?

The embedded platform, six simulated teachers at work, and a kill -9 of one part after another, and of all at once. The
supervisor starts them again. Printed are the seconds until seven more answers were stored, and until the next estimate;
and the answers that were accepted and not stored, which must be none.

    python -m benchmarks.healing
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.flows.embedded import platform
from tests.flows.killing import FEATURES, VICTIMS, Healed, kill
from tests.servers import free_port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=60, help="answers of the teachers around each kill")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder), free_port()) as running:
        start = running.start()
        running.wait_until(lambda: running.count(FEATURES) > 0)
        healed = {victim: kill(running, victim, labels=options.labels) for victim in VICTIMS}
    report(healed, start=start)


def report(healed: dict[str, Healed], *, start: float) -> None:
    print(f"{'killed':<32}{'labels after s':>16}{'estimate after s':>18}{'accepted':>10}{'lost':>6}{'doubled':>9}")
    for victim, one in healed.items():
        print(f"{victim:<32}{one.labels_after:>16.1f}{one.estimate_after:>18.1f}"
              f"{one.accepted:>10}{one.lost:>6}{one.doubled:>9}")  # fmt: skip
    print(json.dumps({
        "first_start_s": round(start, 1),
        "healed_s": round(max(one.estimate_after for one in healed.values()), 1),
        "lost": sum(one.lost for one in healed.values()),
        "doubled": sum(one.doubled for one in healed.values()),
        "victims": {victim: asdict(one) for victim, one in healed.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
