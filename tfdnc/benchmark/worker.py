"""The process that trains one method for a benchmark, one round of steps per request.

It reads and writes lines of JSON. Input: a job `{"config", "run", "steps"}`, then one empty line per round. Output: the
description of the method (`describe`), then the figures of every round (`Trainer.round`). It ends with its input.
"""

import hashlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import training_features
from tfdnc.contracts.items import ItemTable, read_items
from tfdnc.contracts.plugins import import_plugins
from tfdnc.contracts.station_names import StationName
from tfdnc.training.records import read_training
from tfdnc.training.train import assemble

WARM_UP = 10
"""Steps before the first round: TensorFlow compiles in the first one and fills its memory pools in the next ones."""


class Trainer:
    """One method under `model.fit`, on the same batches in every round: the first `steps` from epoch 0 on.

    Args:
        config: the experiment.
        items: the item table.
        examples: folder of the examples station.
        steps: training steps of a round.
    """

    def __init__(self, config: ExperimentConfig, items: ItemTable, examples: Path, steps: int) -> None:
        self._steps = steps
        self._items = items
        records = read_training(examples / schema.TRAIN, features=training_features(config))
        self._model, self._batches = assemble(config, items, records)
        self._count = tf.function(self._count_positions, reduce_retracing=True)
        self._fit(WARM_UP)

    @property
    def parameters(self) -> int:
        """Number of trainable numbers."""
        return int(sum(tf.size(variable).numpy() for variable in self._model.trainable_variables))

    def windows(self) -> str:
        """Returns a digest of the users and item ids that a round trains on, in their order.

        Clusters and negatives have no effect on it. Two methods with the same digest train on the same windows in the
        same batches.
        """
        digest = hashlib.sha256()
        ids = np.array(["", *self._items.item_ids])
        for batch in self._round_batches():
            digest.update(repr(batch["history"].shape).encode())
            for values in (batch["user"].astype(str), ids[batch["history"]], ids[batch["target"]]):
                digest.update("\n".join(values.ravel()).encode())
        return digest.hexdigest()[:12]

    def round(self) -> dict[str, float]:
        """Trains `steps` steps.

        Returns:
            `cpu_seconds` on all cores and `wall_seconds`, packing of the batches included; and the numbers of trained
            `sequences`, of `positions` with a retrieval loss, and of `slots`: encoded positions, padding included.
        """
        first_step = int(self._model.optimizer.iterations.numpy())
        times = self._fit(self._steps)
        batches = list(self._round_batches())
        counts = [self._count(batch, tf.constant(first_step + i)) for i, batch in enumerate(batches)]
        return times | {
            "sequences": sum(len(batch["user"]) for batch in batches),
            "positions": int(sum(count.numpy() for count in counts)),
            "slots": sum(batch["history"].size for batch in batches),
        }

    def _fit(self, steps: int) -> dict[str, float]:
        timer = Timer()
        epochs = -(-steps // self._batches.steps_per_epoch)
        dataset = self._batches.dataset(0, epochs).take(steps)
        self._model.fit(dataset, steps_per_epoch=steps, verbose=0, callbacks=[timer])
        return timer.seconds

    def _round_batches(self) -> Iterator[dict[str, np.ndarray]]:
        epochs = (self._batches.epoch(epoch) for epoch in itertools.count())
        return itertools.islice(itertools.chain.from_iterable(epochs), self._steps)

    def _count_positions(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> tf.Tensor:
        """Counts the positions of a batch with a loss in training step `step`; some encoders draw them."""
        # TensorFlow prunes ops without effect on the count from the graph, so no batch is encoded.
        states = self._model.training_states(batch, self._model.stream_of(step))
        return tf.math.count_nonzero(states.trained)


class Timer(keras.callbacks.Callback):
    """Times one epoch of `model.fit`.

    Attributes:
        seconds: `cpu_seconds` and `wall_seconds` of the epoch, after it has ended.
    """

    seconds: dict[str, float]

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clocks."""
        self._began = time.process_time(), time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stores the times in `seconds`."""
        cpu, wall = self._began
        self.seconds = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}


def describe(config: ExperimentConfig, items: ItemTable, trainer: Trainer) -> dict[str, Any]:
    """Returns the properties of a method that the table shows, and the digest of its windows."""
    return {
        "encoder": config.model.encoder,
        "loss": config.train.loss,
        "clusters": items.num_clusters,
        "max_length": config.model.max_length,
        "intent": items.num_clusters > 1 and config.train.intent_weight > 0,
        "parameters": trainer.parameters,
        "windows": trainer.windows(),
    }


def main() -> None:
    """Serves rounds until the input ends; bad input is answered with `{"error": message}`."""
    answers, sys.stdout = sys.stdout, sys.stderr  # output of libraries must not mix with the answers

    def answer(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=answers, flush=True)

    try:
        job = json.loads(sys.stdin.readline())
        config = parse_config(job["config"])
        import_plugins(config.plugins)
        items = read_items(Path(job["run"]) / StationName.CLUSTER, Path(job["run"]) / StationName.PREPARE)
        trainer = Trainer(config, items, Path(job["run"]) / StationName.EXAMPLES, job["steps"])
        answer(describe(config, items, trainer))
        for _ in sys.stdin:
            answer(trainer.round())
    except UserError as error:
        answer({"error": str(error)})


if __name__ == "__main__":
    main()
