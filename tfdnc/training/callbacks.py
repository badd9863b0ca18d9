"""Callbacks around the epochs of `model.fit`: cost, validation, best weights, resumable state, end."""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfdnc.backend import keras, tf
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.tensorflow_paths import tensorflow_path
from tfdnc.model.tower import Tower
from tfdnc.training.team import Team

_log = logging.getLogger(__name__)

_CHECKPOINTS = "checkpoints"

Logs = dict[str, float]
"""Figures of an epoch by name; callbacks add theirs to it."""


class EpochCallback(keras.callbacks.Callback):
    """Base of callbacks at the end of an epoch: Keras declares its logs as optional, and always passes them."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Calls `end_epoch`."""
        if logs is None:
            raise ValueError("Expected the logs of the epoch, as `model.fit` passes them, got None.")
        self.end_epoch(epoch, logs)

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Acts on a finished epoch.

        Args:
            epoch: number of the epoch, from 0 on.
            logs: its figures; a callback may add its own.
        """
        raise NotImplementedError


class TrainingState:
    """State that a resumed run continues from: variables, epoch counter, best value so far, log.

    Args:
        model: a compiled model all of whose variables exist.
        folder: where this process writes checkpoints and the epoch log while the training runs.
        common: the folder of the chief, from which all workers read them.
    """

    def __init__(self, model: keras.Model, folder: Path, common: Path) -> None:
        self.model: keras.Model = model
        self.history: list[dict[str, Any]] = []
        self.epoch: tf.Variable = tf.Variable(0, dtype=tf.int64)
        self.best_epoch: tf.Variable = tf.Variable(0, dtype=tf.int64)
        self.best_value: tf.Variable = tf.Variable(float("-inf"), dtype=tf.float64)
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
            UserError: the files of a killed training are damaged.
        """
        try:
            finished = self._restore()
            if finished != len(self.history):
                raise ValueError(f"{schema.EPOCH_LOG} has {len(self.history)} epochs of {finished}")
        except (tf.errors.OpError, IndexError, ValueError) as error:  # the errors of TensorFlow for a damaged file
            raise UserError(
                f"Expected a whole checkpoint and {schema.EPOCH_LOG} of the killed training in {self._common}, could "
                f"not restore them: {_first_line(error)}. Remove that folder to train from the start."
            ) from error
        return finished

    def _restore(self) -> int:
        # `latest_checkpoint` would find no checkpoint where one of its files is missing.
        state = tf.train.get_checkpoint_state(tensorflow_path(self._common / _CHECKPOINTS))
        if state is not None:
            self._checkpoint.restore(state.model_checkpoint_path)
        finished = int(self.epoch.numpy())
        log = self._common / schema.EPOCH_LOG
        lines = log.read_text().splitlines() if log.is_file() else []
        # A run killed between log and checkpoint has logged one epoch more, which is trained again.
        self.history = [json.loads(line) for line in lines[:finished]]
        whole = self._folder / f".{schema.EPOCH_LOG}"  # renamed: another worker may be reading the old one
        whole.write_text("".join(json.dumps(entry) + "\n" for entry in self.history))
        whole.replace(self._folder / schema.EPOCH_LOG)
        return finished

    def finish_epoch(self, entry: dict[str, Any]) -> None:
        """Writes a finished epoch to disk: log first, checkpoint last.

        Every worker has to call it, because a checkpoint sums the metrics of all. Only the chief writes to the common
        folder.
        """
        self.history.append(entry)
        with (self._folder / schema.EPOCH_LOG).open("a") as log:
            log.write(json.dumps(entry) + "\n")
        self.epoch.assign(entry["epoch"])
        self._manager.save()

    def is_over(self, epochs: int, objective: str, patience: int | None, drop: float) -> bool:
        """True after all `epochs`, or when `waited` is at least `patience`; None has no such end."""
        if len(self.history) >= epochs:
            return True
        since = self.history[int(self.best_epoch.numpy()) :]
        values = [entry[f"val_{objective}"] for entry in since if f"val_{objective}" in entry]
        return patience is not None and waited(values, float(self.best_value.numpy()), drop) >= patience

    def discard_checkpoints(self) -> None:
        """Removes the files that only a resumed run needs."""
        shutil.rmtree(self._folder / _CHECKPOINTS, ignore_errors=True)
        (self._folder / schema.EPOCH_LOG).unlink(missing_ok=True)


def waited(values: Sequence[float], best: float, drop: float) -> int:
    """Returns the number of validations after the best one, those that are worse by more than the share `drop` twice.

    A clear fall is the sign of a model that has begun to overfit; a small one may be chance.
    """
    return sum(2 if value < best * (1 - drop) else 1 for value in values)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


class CpuTime(EpochCallback):
    """Adds `cpu_seconds` to the logs of every epoch: the CPU time of all workers, without validation.

    On a machine that does other work, wall-clock time would not measure the method.
    """

    def __init__(self, team: Team) -> None:
        super().__init__()
        self._team = team

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Reads the CPU time at the start."""
        self._began = time.process_time()

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Adds the time; has to run before the callbacks that cost time themselves."""
        logs["cpu_seconds"] = float(self._team.gather([time.process_time() - self._began]).sum())


class RefreshHardItems(EpochCallback):
    """Finds the hard items anew after every n-th epoch but the last one.

    Args:
        every: n.
        epochs: number of the last epoch.
    """

    def __init__(self, every: int, epochs: int) -> None:
        super().__init__()
        self._every = every
        self._epochs = epochs

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Fills the table; has to run before `CpuTime` counts it, and before the state is saved."""
        del logs
        if (epoch + 1) % self._every == 0 and epoch + 1 < self._epochs:
            self.model.refresh_hard_items()


class RefuseDivergence(EpochCallback):
    """Ends a training whose loss is no longer a number, before its weights are kept."""

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Raises a `UserError` for a loss that is infinite or not a number."""
        diverged = [name for name, value in logs.items() if name.endswith("loss") and not math.isfinite(value)]
        if diverged:
            raise UserError(
                f"Expected finite losses, but {', '.join(diverged)} diverged in epoch {epoch + 1}: "
                "lower train.learning_rate or raise train.warmup_steps."
            )


class Validation(EpochCallback):
    """Adds validation figures, named `val_*`, to the logs of every n-th epoch and of the last one.

    Every worker computes them on the same weights and then uses those of the chief. So all agree on the best epoch,
    whose weights they write together, even if another machine rounds differently.
    """

    def __init__(self, validate: Callable[[Tower], dict[str, float]], every: int, epochs: int, team: Team) -> None:
        super().__init__()
        self._validate = validate
        self._team = team
        self._every = every
        self._epochs = epochs

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Validates; has to run before the callbacks that read the figures from `logs`."""
        if (epoch + 1) % self._every == 0 or epoch + 1 == self._epochs:
            figures = self._validate(self.model.tower)
            chiefs = self._team.gather(list(figures.values()))[0]
            logs.update({f"val_{name}": value for name, value in zip(figures, chiefs.tolist(), strict=True)})


class BestWeights(EpochCallback):
    """Keeps the weights of the epoch with the largest validation objective.

    Args:
        state: of the training; holds the best epoch.
        objective: name of the figure, without `val_`.
        save: writes the present weights.
    """

    def __init__(self, state: TrainingState, objective: str, save: Callable[[], None]) -> None:
        super().__init__()
        self._state = state
        self._objective = f"val_{objective}"
        self._save = save

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Writes the weights when the objective improved."""
        value = logs.get(self._objective)
        if value is not None and value > self._state.best_value.numpy():
            self._state.best_value.assign(value)
            self._state.best_epoch.assign(epoch + 1)
            self._save()


class LastWeights(EpochCallback):
    """Keeps the weights of the last epoch, for a training without validation.

    Args:
        last: number of the epoch.
        save: writes the model as it is now.
    """

    def __init__(self, last: int, save: Callable[[], None]) -> None:
        super().__init__()
        self._last = last
        self._save = save

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Writes the weights after the last epoch."""
        del logs
        if epoch + 1 == self._last:
            self._save()


class Checkpoint(EpochCallback):
    """Records a finished epoch in the training state."""

    def __init__(self, state: TrainingState) -> None:
        super().__init__()
        self._state = state

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Saves logs and variables."""
        figures = {name: float(value) for name, value in logs.items()}
        self._state.finish_epoch({"epoch": epoch + 1, **figures})


class EarlyStop(EpochCallback):
    """Ends a training that no longer gets better.

    The callback of Keras counts from the start of `fit`: a resumed training would end later than an uninterrupted one.

    Args:
        is_over: decides by the epochs that `Checkpoint`, which runs before this, has recorded.
    """

    def __init__(self, is_over: Callable[[], bool]) -> None:
        super().__init__()
        self._is_over = is_over

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Stops `model.fit` if the training is over."""
        self.model.stop_training = self._is_over()
