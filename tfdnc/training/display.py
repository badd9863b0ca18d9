"""The epochs of a training on the screen: a bar on a terminal, a log record each elsewhere."""

import logging
import time

import rich
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tfdnc.training.callbacks import EpochCallback, Logs

_log = logging.getLogger(__name__)


def epoch_display(steps: int, first_epoch: int, epochs: int, objective: str) -> "ProgressBar | EpochLines":
    """Returns a callback that shows the epochs: a bar on a terminal, a log record each elsewhere."""
    if rich.get_console().is_terminal:
        return ProgressBar(steps, first_epoch, epochs, objective)
    return EpochLines(epochs, objective)


class EpochLines(EpochCallback):
    """A log record for every epoch: its mean losses, its validation figure if it was validated, and its seconds.

    As a context manager, like `ProgressBar`, it does nothing.
    """

    def __init__(self, epochs: int, objective: str) -> None:
        super().__init__()
        self._epochs = epochs
        self._objective = objective

    def __enter__(self) -> "EpochLines":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Reads the clock at the start."""
        self._began = time.monotonic()

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Logs the line."""
        seconds = f"{time.monotonic() - self._began:.1f} s"
        parts = [f"epoch {epoch + 1}/{self._epochs}", _losses(logs), _validated(self._objective, logs), seconds]
        _log.info("  ".join(filter(None, parts)))


class ProgressBar(EpochCallback):
    """One bar over all steps with the epoch's mean losses and the last validation figure.

    As a context manager it restores the terminal after a training that fails.
    """

    def __init__(self, steps: int, first_epoch: int, epochs: int, objective: str) -> None:
        super().__init__()
        self._objective = objective
        self._epochs = epochs
        self._validated = ""
        columns = (
            TextColumn("    epoch {task.fields[epoch]}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, refresh_per_second=2)
        self._task = self._progress.add_task(
            "train", total=epochs * steps, completed=first_epoch * steps, epoch=f"{first_epoch}/{epochs}", figures=""
        )

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advances by one step."""
        self._progress.update(self._task, advance=1)

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Shows the epoch's mean losses."""
        self._validated = _validated(self._objective, logs) or self._validated
        figures = "  ".join(filter(None, (_losses(logs), self._validated)))
        self._progress.update(self._task, epoch=f"{epoch + 1}/{self._epochs}", figures=figures)


def _losses(logs: Logs) -> str:
    losses = {name.removesuffix("_loss"): value for name, value in logs.items() if name.endswith("_loss")}
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())


def _validated(objective: str, logs: Logs) -> str:
    """The figure that picks the best epoch; "" for an epoch without validation."""
    value = logs.get(f"val_{objective}")
    return "" if value is None else f"{objective} {value:.4f}"
