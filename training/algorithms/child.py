"""A run as a process of its own: `python -m training.algorithms.child FOLDER [GROUP]`, alone or under a launcher.

    accelerate launch --config_file training/accelerate/ddp.yaml -m training.algorithms.child FOLDER

FOLDER holds config.json and data/ (`write_order` puts them there). The process writes metrics.jsonl as it goes and
outcome.json at its end. SIGTERM, or a file FOLDER/stop, asks it to save a checkpoint and leave. Started again, it
goes on. Where GROUP is given, the process group of its launcher, it ends with the launcher. Exit status: 0 done,
3 cancelled, 4 time limit, 5 out of memory, 6 disk full, 7 refused, 8 diverged, 1 anything else.
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
from training.algorithms.orphans import follow_group
from training.algorithms.policy import Cancelled, Diverged, OutOfMemory, TimeLimitReached, is_main_process
from training.algorithms.run import train

OUTCOME = "outcome.json"
STOP = "stop"
EXITS: dict[type[Exception], tuple[int, str]] = {
    Cancelled: (3, "cancelled"),
    TimeLimitReached: (4, "time_limit"),
    OutOfMemory: (5, "out_of_memory"),
    DiskFull: (6, "disk_full"),
    Refused: (7, "refused"),
    Diverged: (8, "diverged"),
}


def write_order(folder: Path, config: TrainingConfig, data: TrainingData) -> None:
    """Put a run's configuration and data where its process will look for them; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STOP).unlink(missing_ok=True)
    (folder / OUTCOME).unlink(missing_ok=True)
    if not (folder / "data" / "data.json").is_file():
        data.save(folder / "data")
    _write(folder / "config.json", config.to_json())


def main(folder: Path, group: str = "") -> int:
    """Run to the end and say in outcome.json what came of it; returns the exit status."""
    if group:
        follow_group(int(group))
    os.environ.setdefault("TQDM_DISABLE", "1")
    stopped = False

    def stop(number: int, frame: Any) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
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
    _say(folder / OUTCOME, outcome)
    return status


def _say(path: Path, outcome: dict[str, Any]) -> None:
    """How the run ended, by its main process; why it failed, by whichever of its processes failed first.

    That one's word stays: the others then fail in consequence, or are killed while they wait for it.
    """
    is_failure = outcome["state"] not in ("done", "cancelled", "time_limit")
    is_first = outcome["state"] == "done" or not path.exists()
    if is_first and (is_failure or is_main_process()):
        _write(path, outcome)


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
