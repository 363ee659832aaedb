"""Where a run's metrics go: to the caller, to metrics.jsonl, and to TensorBoard's event files."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Metrics = Mapping[str, float | str]
Report = Callable[[Metrics], None]

METRICS = "metrics.jsonl"


class Journal:
    """One line per report. After a resumption, lines beyond the checkpoint's step are cut off and come again."""

    def __init__(self, folder: Path, report: Report, *, is_silent: bool = False) -> None:
        self._is_silent = is_silent
        self.path = folder / METRICS
        self._report = report
        self._board: SummaryWriter | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, metrics: Metrics) -> None:
        """Pass metrics on. `stage` says what they belong to; with a `step`, numbers also go to TensorBoard."""
        if self._is_silent:
            return
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(dict(metrics)) + "\n")
        step = metrics.get("step")
        if isinstance(step, int | float):
            for name, value in metrics.items():
                if isinstance(value, int | float) and name != "step":
                    self.board.add_scalar(f"{metrics.get('stage', 'train')}/{name}", value, int(step))
        self._report(metrics)

    @property
    def board(self) -> "SummaryWriter":
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter  # a second of imports that rerank does not need

            self._board = SummaryWriter(str(self.path.parent / "tensorboard"))
        return self._board

    def rewind(self, step: int) -> None:
        """Drop training lines after `step`: they are trained again. A torn last line (a kill) goes as well."""
        if self._is_silent or not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                metrics = json.loads(line)
            except ValueError:
                continue
            if not (metrics.get("stage") == "train" and metrics.get("step", 0) > step):
                kept.append(line)
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        partial.replace(self.path)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()
            self._board = None


def read_metrics(folder: Path) -> list[dict[str, float | str]]:
    """All whole lines of a run's metrics.jsonl, in order."""
    path = folder / METRICS
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
