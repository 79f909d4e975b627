"""What a training tells while it runs."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from qcompiler.train.runlog import EpochRecord


class TrainingProgress(Protocol):
    """Told of every step; only the leading process tells."""

    def start(self, name: str, epochs: int, steps: int, done: int) -> None:
        """A training of `epochs` epochs of `steps` steps begins, `done` epochs having been done before."""

    def step(self) -> None:
        """A step is done."""

    def epoch(self, record: EpochRecord, best: bool) -> None:
        """An epoch is done, and whether it gave the best model so far."""

    def stop(self) -> None:
        """The training has ended."""


class Quiet:
    """Shows nothing."""

    def start(self, name: str, epochs: int, steps: int, done: int) -> None:
        """Nothing to show."""

    def step(self) -> None:
        """Nothing to show."""

    def epoch(self, record: EpochRecord, best: bool) -> None:
        """Nothing to show."""

    def stop(self) -> None:
        """Nothing to show."""


class Bars:
    """A bar over the steps of the epoch, and a line for each epoch."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._epochs = 0

    def start(self, name: str, epochs: int, steps: int, done: int) -> None:
        """Show the bar."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=self._console, transient=True)
        self._epochs = epochs
        self._task = self._progress.add_task(_title(name, done + 1, epochs), total=steps)
        self._name = name
        self._progress.start()

    def step(self) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.advance(self._task)

    def epoch(self, record: EpochRecord, best: bool) -> None:
        """Print the epoch's line above the bar, which starts again."""
        if self._progress is None:
            return
        line = _line(record, self._epochs, best)
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._progress.reset(self._task, description=_title(self._name, record.epoch + 1, self._epochs))

    def stop(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _title(name: str, epoch: int, epochs: int) -> str:
    return f"{name} {min(epoch, epochs)}/{epochs}"


def _line(record: EpochRecord, epochs: int, best: bool) -> str:
    return (
        f"epoch {record.epoch}/{epochs}  loss {record.loss:.4f}  train {record.train_accuracy:.2%}  "
        f"validation {record.validation_accuracy:.2%}{' (best)' if best else ''}  "
        f"lr {record.lr:.3g}  {record.seconds:.1f} s"
    )
