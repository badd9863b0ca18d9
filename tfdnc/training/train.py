"""The train station: `model.fit` with validation and checkpoints; a killed run resumes to the same weights."""

import json
from collections.abc import Callable
from pathlib import Path

from tfdnc.backend import keras, tf
from tfdnc.config import ExperimentConfig
from tfdnc.errors import UserError
from tfdnc.items import ItemTable
from tfdnc.model.retriever import Retriever
from tfdnc.schema import HISTORY_FILE, WEIGHTS
from tfdnc.training.batches import TrainingBatches
from tfdnc.training.callbacks import (
    BestWeights,
    Checkpoint,
    CpuTime,
    ProgressBar,
    RefuseDivergence,
    TrainingState,
    Validation,
)
from tfdnc.training.records import TrainingRecords
from tfdnc.training.schedule import WarmupCosine

Validate = Callable[[Retriever], dict[str, float]]


def train(
    config: ExperimentConfig,
    items: ItemTable,
    records: TrainingRecords,
    validate: Validate,
    objective: str,
    output: Path,
) -> dict:
    """Trains a retriever and writes its best weights.

    Everything an epoch does is a function of (config, epoch), and the state after every epoch is checkpointed in
    `output`: calling this again on the `output` of a killed call continues after its last whole epoch.

    Args:
        config: the experiment.
        items: the item table.
        records: the training part of every user.
        validate: model -> figures on validation targets.
        objective: the figure that picks the best epoch; larger is better.
        output: folder for weights, history, TensorBoard logs and checkpoints.

    Returns:
        Figures: epochs, steps, CPU seconds of all epochs (validation apart), parameters, best epoch and its validation
        figures.

    Raises:
        UserError: nobody has an event to predict, or a loss diverged.
    """
    settings = config.train
    model, batches = assemble(config, items, records)
    steps = batches.steps_per_epoch
    state = TrainingState(model, output)
    first_epoch = state.restore()
    validation = Validation(validate, settings.validate_every, settings.epochs)
    if first_epoch < settings.epochs:
        with ProgressBar(steps, first_epoch, settings.epochs, objective) as bar:
            model.fit(
                batches.dataset(first_epoch, settings.epochs),
                initial_epoch=first_epoch,
                epochs=settings.epochs,
                steps_per_epoch=steps,
                verbose=0,
                callbacks=[
                    CpuTime(),
                    RefuseDivergence(),
                    validation,
                    BestWeights(state, objective, output / WEIGHTS),
                    bar,
                    keras.callbacks.TensorBoard(output / "tensorboard", write_graph=False, profile_batch=0),
                    Checkpoint(state),  # last: an epoch counts as done when everything about it is on disk
                ],
            )
    if not state.history:  # no epoch was asked for: the initial weights are the model
        tf.train.Checkpoint(model=model).write(str(output / WEIGHTS))
        state.history = [{"epoch": 0, "cpu_seconds": 0.0, **{f"val_{k}": v for k, v in validate(model).items()}}]
    (output / HISTORY_FILE).write_text(json.dumps(state.history, indent=1))
    best = state.history[max(int(state.best_epoch.numpy()), 1) - 1]
    state.discard_checkpoints()
    return {
        "parameters": int(sum(tf.size(variable).numpy() for variable in model.trainable_variables)),
        "epochs": settings.epochs,
        "steps": settings.epochs * steps,
        "cpu_seconds": round(sum(entry["cpu_seconds"] for entry in state.history), 1),
        "best_epoch": best["epoch"],
        **{name: value for name, value in best.items() if name.startswith("val_")},
    }


def assemble(config: ExperimentConfig, items: ItemTable, records: TrainingRecords) -> tuple[Retriever, TrainingBatches]:
    """Returns the compiled model of an experiment, all its variables made, and the batches that it trains on.

    Raises:
        UserError: nobody has an event to predict.
    """
    settings = config.train
    batches = TrainingBatches(records, settings, config.model.max_length, config.seed)
    model = Retriever(config.model, settings, items.offsets, config.seed, items.counts, len(records.splits) - 1)
    steps = settings.epochs * batches.steps_per_epoch
    schedule = WarmupCosine(settings.learning_rate, settings.warmup_steps, steps, settings.final_learning_rate)
    model.compile(optimizer=keras.optimizers.Adam(schedule, beta_2=settings.beta_2))
    _create_variables(model, batches)
    return model, batches


def load_trained(config: ExperimentConfig, items: ItemTable, folder: Path) -> Retriever:
    """Returns the retriever with the best weights of a finished train station.

    Matrix products run in float32 whatever the training used: evaluation and serving then agree on every machine.

    Raises:
        UserError: the weights are damaged, or those of another model.
    """
    settings = config.train.model_copy(update={"precision": "float32"})
    model = Retriever(config.model, settings, items.offsets, config.seed)
    model.user_vectors(tf.ones([1, 1], tf.int32))
    try:
        status = tf.train.Checkpoint(model=model).read(str(folder / WEIGHTS)).expect_partial()
        status.assert_existing_objects_matched()
    except (tf.errors.OpError, IndexError, ValueError, AssertionError) as error:  # TensorFlow has them all for damage
        raise UserError(f"Expected whole weights of this model at {folder / WEIGHTS}; train again: {error}") from error
    return model


def _create_variables(model: Retriever, batches: TrainingBatches) -> None:
    """Makes every model and optimizer variable exist, so that a checkpoint restores into all of them."""
    model.compute_loss({name: value[:1] for name, value in next(batches.epoch(0)).items()})
    model.optimizer.build(model.trainable_variables)
