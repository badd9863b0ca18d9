"""What happens around the epochs of `model.fit`: cost, validation, best weights, resumable state, end, progress bar."""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import rich
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tfdnc.backend import keras, tf
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.tensorflow_paths import tensorflow_path
from tfdnc.training.team import Team

_log = logging.getLogger(__name__)

_CHECKPOINTS = "checkpoints"


class TrainingState:
    """Everything that a resumed run must find again: variables, epoch counter, best value so far, log.

    Args:
        model: a compiled model all of whose variables exist.
        folder: where this process writes checkpoints and the epoch log while the training runs.
        common: where they lie for all workers to read: the folder of the chief.
    """

    def __init__(self, model: keras.Model, folder: Path, common: Path):
        self.model = model
        self.history: list[dict] = []
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.best_epoch = tf.Variable(0, dtype=tf.int64)
        self.best_value = tf.Variable(float("-inf"), dtype=tf.float64)
        self._folder, self._common = folder, common
        self._checkpoint = tf.train.Checkpoint(
            model=model,
            optimizer=model.optimizer,
            epoch=self.epoch,
            best_epoch=self.best_epoch,
            best_value=self.best_value,
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, tensorflow_path(folder / _CHECKPOINTS), max_to_keep=2
        )

    def restore(self) -> int:
        """Restores the newest checkpoint if there is one; returns the number of finished epochs.

        Raises:
            UserError: what a killed training has left is damaged.
        """
        try:
            finished = self._restore()
            if finished != len(self.history):
                raise ValueError(f"{schema.EPOCH_LOG} has {len(self.history)} epochs of {finished}")
        except (tf.errors.OpError, IndexError, ValueError) as error:  # TensorFlow has all three for a damaged file
            raise UserError(
                f"Expected a whole checkpoint and {schema.EPOCH_LOG} of the killed training in {self._common}, could "
                f"not restore them: {_first_line(error)}. Remove that folder to train from the start."
            ) from error
        return finished

    def _restore(self) -> int:
        # Not `latest_checkpoint`, to which a checkpoint with a missing file is none.
        state = tf.train.get_checkpoint_state(tensorflow_path(self._common / _CHECKPOINTS))
        if state is not None:
            self._checkpoint.restore(state.model_checkpoint_path)
        finished = int(self.epoch.numpy())
        log = self._common / schema.EPOCH_LOG
        lines = log.read_text().splitlines() if log.is_file() else []
        # A run killed between log and checkpoint has logged an epoch that will be trained again.
        self.history = [json.loads(line) for line in lines[:finished]]
        whole = self._folder / f".{schema.EPOCH_LOG}"  # renamed: another worker may be reading the old one
        whole.write_text("".join(json.dumps(entry) + "\n" for entry in self.history))
        whole.replace(self._folder / schema.EPOCH_LOG)
        return finished

    def finish_epoch(self, entry: dict) -> None:
        """Puts a finished epoch on disk: log first, checkpoint last.

        Every worker does, for a checkpoint sums up the metrics of all; only the chief's lies in the common folder.
        """
        self.history.append(entry)
        with (self._folder / schema.EPOCH_LOG).open("a") as log:
            log.write(json.dumps(entry) + "\n")
        self.epoch.assign(entry["epoch"])
        self._manager.save()

    def is_over(self, epochs: int, objective: str, patience: int | None) -> bool:
        """Whether all `epochs` are behind, or `patience` validations since the best one, unless that is None."""
        if len(self.history) >= epochs:
            return True
        since = self.history[int(self.best_epoch.numpy()) :]
        return patience is not None and sum(f"val_{objective}" in entry for entry in since) >= patience

    def discard_checkpoints(self) -> None:
        """Removes what only a resumed run needs."""
        shutil.rmtree(self._folder / _CHECKPOINTS, ignore_errors=True)
        (self._folder / schema.EPOCH_LOG).unlink(missing_ok=True)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


class CpuTime(keras.callbacks.Callback):
    """Adds `cpu_seconds`, what the epoch cost all workers on all cores without its validation, to every epoch's logs.

    CPU time, because the wall clock of a machine that does other work says nothing about a method.
    """

    def __init__(self, team: Team):
        super().__init__()
        self._team = team

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the time."""
        self._began = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        """Must run before the callbacks that cost time themselves."""
        logs["cpu_seconds"] = float(self._team.everybodys([time.process_time() - self._began]).sum())


class RefuseDivergence(keras.callbacks.Callback):
    """Ends a training whose loss is no longer a number, before its weights are kept."""

    def on_epoch_end(self, epoch, logs=None):
        """Raises a `UserError` for a loss that is infinite or not a number."""
        diverged = [name for name, value in logs.items() if name.endswith("loss") and not math.isfinite(value)]
        if diverged:
            raise UserError(
                f"Expected finite losses, but {', '.join(diverged)} diverged in epoch {epoch + 1}: "
                "lower train.learning_rate or raise train.warmup_steps."
            )


class Validation(keras.callbacks.Callback):
    """Adds validation figures, named `val_*`, to the logs of every n-th epoch and of the last one.

    Every worker finds them on the same weights, and takes the chief's: if another machine rounds otherwise, all still
    agree on the best epoch, whose weights they write together.
    """

    def __init__(self, validate, every: int, epochs: int, team: Team):
        super().__init__()
        self._validate = validate
        self._team = team
        self._every = every
        self._epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        """Runs before the callbacks that read the figures from `logs`."""
        if (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs:
            figures = self._validate(self.model)
            chiefs = self._team.everybodys(list(figures.values()))[0]
            logs.update({f"val_{name}": value for name, value in zip(figures, chiefs.tolist(), strict=True)})


class BestWeights(keras.callbacks.Callback):
    """Keeps the model variables of the epoch with the largest validation objective."""

    def __init__(self, state: TrainingState, objective: str, path: Path):
        super().__init__()
        self._state = state
        self._objective = f"val_{objective}"
        self._path = path

    def on_epoch_end(self, epoch, logs=None):
        """Writes the weights when the objective improved."""
        value = logs.get(self._objective)
        if value is not None and value > self._state.best_value.numpy():
            self._state.best_value.assign(value)
            self._state.best_epoch.assign(epoch + 1)
            self._state.model.write(self._path)


class Checkpoint(keras.callbacks.Callback):
    """Records a finished epoch in the training state."""

    def __init__(self, state: TrainingState):
        super().__init__()
        self._state = state

    def on_epoch_end(self, epoch, logs=None):
        """Saves logs and variables."""
        figures = {name: float(value) for name, value in logs.items()}
        self._state.finish_epoch({"epoch": epoch + 1, **figures})


class EarlyStop(keras.callbacks.Callback):
    """Ends a training that no longer gets better.

    The one of Keras counts from the start of `fit`: a resumed training would wait longer than an uninterrupted one.

    Args:
        is_over: tells it from what `Checkpoint`, before this, has recorded.
    """

    def __init__(self, is_over: Callable[[], bool]):
        super().__init__()
        self._is_over = is_over

    def on_epoch_end(self, epoch, logs=None):
        """Asks after every epoch."""
        self.model.stop_training = self._is_over()


def epoch_display(steps: int, first_epoch: int, epochs: int, objective: str) -> "ProgressBar | EpochLines":
    """Returns a callback that shows the epochs: a bar on a terminal, a log record each elsewhere."""
    if rich.get_console().is_terminal:
        return ProgressBar(steps, first_epoch, epochs, objective)
    return EpochLines(epochs, objective)


class EpochLines(keras.callbacks.Callback):
    """A log record for every epoch: its mean losses, its validation figure if it was validated, and its seconds.

    Does nothing as a context manager.
    """

    def __init__(self, epochs: int, objective: str):
        super().__init__()
        self._epochs = epochs
        self._objective = objective

    def __enter__(self) -> "EpochLines":
        return self

    def __exit__(self, *error) -> None:
        pass

    def on_epoch_begin(self, epoch, logs=None):
        """Notes the time."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Logs the line."""
        seconds = f"{time.monotonic() - self._began:.1f} s"
        parts = [f"epoch {epoch + 1}/{self._epochs}", _losses(logs), _validated(self._objective, logs), seconds]
        _log.info("  ".join(filter(None, parts)))


class ProgressBar(keras.callbacks.Callback):
    """One bar over all steps with the epoch's mean losses and the last validation figure.

    A context manager, so that a training that fails gives the terminal back.
    """

    def __init__(self, steps: int, first_epoch: int, epochs: int, objective: str):
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

    def __exit__(self, *error) -> None:
        self._progress.stop()

    def on_train_batch_end(self, batch, logs=None):
        """Advances by one step."""
        self._progress.update(self._task, advance=1)

    def on_epoch_end(self, epoch, logs=None):
        """Shows the epoch's mean losses."""
        self._validated = _validated(self._objective, logs) or self._validated
        figures = "  ".join(filter(None, (_losses(logs), self._validated)))
        self._progress.update(self._task, epoch=f"{epoch + 1}/{self._epochs}", figures=figures)


def _losses(logs: dict[str, float]) -> str:
    names = ("retrieval_loss", "intent_loss")
    return "  ".join(f"{name.removesuffix('_loss')} {logs[name]:.3f}" for name in names if name in logs)


def _validated(objective: str, logs: dict[str, float]) -> str:
    """The figure that picks the best epoch; nothing of an epoch that was not validated."""
    value = logs.get(f"val_{objective}")
    return "" if value is None else f"{objective} {value:.4f}"
