"""The curves of a training for TensorBoard: every figure of an epoch under its own name and number."""

from pathlib import Path

from tfdnc.backend import keras, tf
from tfdnc.training.callbacks import Logs


class Curves(keras.callbacks.Callback):
    """Writes what an epoch logs, and the learning rate after it, with the names and epoch numbers of the history.

    The callback of Keras counts epochs from 0: epoch 4 of the history, and the best one of the summary, was its 3. A
    context manager, so that a training that fails closes the file.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self._writer = tf.summary.create_file_writer(str(folder))

    def __enter__(self) -> "Curves":
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Runs after the callbacks that add figures to `logs`."""
        with self._writer.as_default(step=epoch + 1):
            for name, value in (logs | {"learning_rate": self.model.optimizer.learning_rate}).items():
                tf.summary.scalar(name, value)
        self._writer.flush()
