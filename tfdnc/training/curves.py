"""The curves of a training for TensorBoard: every figure of an epoch under its own name and number."""

from pathlib import Path

from tfdnc.backend import tf
from tfdnc.training.callbacks import EpochCallback, Logs


class Curves(EpochCallback):
    """Writes the figures of an epoch, and the learning rate after it, with the names and epoch numbers of the history.

    The callback of Keras counts epochs from 0, so its epoch 3 would be epoch 4 of the history. As a context manager it
    closes the file of a training that fails.

    Args:
        folder: for the files; created if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> "Curves":
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def end_epoch(self, epoch: int, logs: Logs) -> None:
        """Writes the figures; has to run after the callbacks that add some to `logs`."""
        with self._writer.as_default(step=epoch + 1):
            for name, value in (logs | {"learning_rate": self.model.optimizer.learning_rate}).items():
                tf.summary.scalar(name, value)
        self._writer.flush()
