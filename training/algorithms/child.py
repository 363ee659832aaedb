"""A run as a process of its own: `python -m training.algorithms.child FOLDER`, alone or under `accelerate launch`.

    accelerate launch --config_file training/accelerate/ddp.yaml -m training.algorithms.child FOLDER

FOLDER holds config.json and data/ (`write_order` puts them there). The process writes metrics.jsonl as it goes and
outcome.json at its end. SIGTERM, or a file FOLDER/stop, asks it to save a checkpoint and leave. Started again, it
goes on. Exit status: 0 done, 3 cancelled, 4 time limit, 5 out of memory, 6 disk full, 7 refused, 1 anything else.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from training.algorithms.artifact import Refused
from training.algorithms.checkpoints import DiskFull
from training.algorithms.config import TrainingConfig
from training.algorithms.data import TrainingData
from training.algorithms.policy import Cancelled, OutOfMemory, TimeLimitReached
from training.algorithms.run import train

OUTCOME = "outcome.json"
STOP = "stop"
EXITS: dict[type[Exception], tuple[int, str]] = {
    Cancelled: (3, "cancelled"),
    TimeLimitReached: (4, "time_limit"),
    OutOfMemory: (5, "out_of_memory"),
    DiskFull: (6, "disk_full"),
    Refused: (7, "refused"),
}


def write_order(folder: Path, config: TrainingConfig, data: TrainingData) -> None:
    """Put a run's configuration and data where its process will look for them; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).unlink(missing_ok=True)
    (folder / OUTCOME).unlink(missing_ok=True)
    if not (folder / "data" / "data.json").is_file():
        data.save(folder / "data")
    _write(folder / "config.json", config.to_json())


def main(folder: Path) -> int:
    """Run to the end and say in outcome.json what came of it; returns the exit status."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    stopped = False

    def stop(number: int, frame: Any) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    is_main = int(os.environ.get("RANK", "0")) == 0
    status, outcome = 0, {"state": "done"}
    try:
        config = TrainingConfig.from_json(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        result = train(
            config,
            TrainingData.load(folder / "data"),
            folder=folder,
            report=lambda metrics: None,  # metrics.jsonl is the report
            should_stop=lambda: stopped or (folder / STOP).exists(),
        )
        outcome |= {"digest": result.digest, "policy": str(result.folder.name)}
    except tuple(EXITS) as error:
        status, state = next(found for kind, found in EXITS.items() if isinstance(error, kind))
        outcome = {"state": state, "reason": str(error)}
    except Exception as error:
        status, outcome = 1, {"state": "failed", "reason": f"{type(error).__name__}: {error}"}
        traceback.print_exc()
    if is_main:
        _write(folder / OUTCOME, outcome)
    return status


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
