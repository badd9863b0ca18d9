"""The train station: `model.fit` with validation and checkpoints; a killed run resumes to the same weights."""

import contextlib
import functools
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.config import ExperimentConfig, TrainConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature, model_features
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.schema import HISTORY_FILE
from tfdnc.model.inputs import moments_of, pool_moments
from tfdnc.model.item_tower import features_of
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower
from tfdnc.training.batches import TrainingBatches
from tfdnc.training.callbacks import (
    BestWeights,
    Checkpoint,
    CpuTime,
    EarlyStop,
    LastWeights,
    RefreshHardItems,
    RefuseDivergence,
    TrainingState,
    Validation,
)
from tfdnc.training.checkpoint import read_weights, row_tables, write_checkpoint
from tfdnc.training.curves import Curves
from tfdnc.training.display import epoch_display
from tfdnc.training.learning_rate import WarmupCosine
from tfdnc.training.negative_sources import negative_source
from tfdnc.training.optimizers import OPTIMIZERS
from tfdnc.training.records import TrainingRecords
from tfdnc.training.served_intent import SERVED_INTENT, ServedIntent, write_served_intent
from tfdnc.training.team import Team
from tfdnc.training.warm_start import start_from

Validate = Callable[[Tower], dict[str, float]]
"""Tower -> figures on validation targets, by name."""

ChooseIntent = Callable[[Tower], ServedIntent | None]
"""Tower with the best weights -> the intent that serves, None where there is nothing to choose."""


def train(
    config: ExperimentConfig,
    items: ItemTable,
    records: TrainingRecords,
    validate: Validate | None,
    objective: str,
    output: Path,
    team: Team | None = None,
    common: Path | None = None,
    popularity: np.ndarray | None = None,
    choose: ChooseIntent | None = None,
) -> dict[str, Any]:
    """Trains a retriever, writes the checkpoint of its best epoch, and chooses the intent that it serves.

    Every epoch is a function of (config, epoch), and the state after it is checkpointed in `output`. Another call with
    the `output` of a killed one continues after its last whole epoch.

    Several workers call it at the same time; only their `records` and `output` differ.

    Args:
        config: the experiment.
        items: the item table.
        records: the training part of every user, or of those in this worker's shards.
        validate: tower -> figures on validation targets; None where none are held out, and the last epoch is kept.
        objective: the figure that picks the best epoch; larger is better.
        output: folder for weights, history, TensorBoard logs and checkpoints. Only the chief's is read again.
        team: the workers; None is this process alone.
        common: the chief's `output`, with the checkpoint from which all workers continue; None is `output`.
        popularity: `[N]` events of the items in `model.popular_days`; None without that key.
        choose: tower with the best weights -> the intent that serves; None leaves the intent of the config.

    Returns:
        Figures: epochs, steps, CPU seconds of all epochs (validation apart), parameters, best epoch and its validation
        figures with the intent that serves, whether training stopped early because validation no longer improved. With
        several clusters also the kind of the intent model, which `model.intent: auto` leaves open, and if there was a
        choice the attributes of `ServedIntent` under `SERVED_INTENT`.

    Raises:
        UserError: no user has an event to predict, a loss diverged, workers do not belong together, or the weights of
            `train.initial` do not fit.
    """
    team = team or Team()
    settings = config.train
    model, batches = assemble(config, items, records, team, popularity)
    steps = batches.steps_per_epoch
    save = functools.partial(write_checkpoint, output, model, items)
    state = TrainingState(model, output, common or output)
    first_epoch = state.restore()
    if (team.gather([first_epoch]) != first_epoch).any():
        raise UserError("Expected the same checkpoint for every worker: is the folder of runs common to all of them?")
    if settings.initial is not None and first_epoch == 0:  # a killed training continues from its checkpoint
        start_from(settings.initial, config, model, items)
    last_epoch = settings.last_epoch
    patience = settings.patience if validate else None
    is_over = functools.partial(state.is_over, last_epoch, objective, patience, settings.patience_drop)
    if not is_over():
        with contextlib.ExitStack() as displays:
            callbacks: list[keras.callbacks.Callback] = [
                RefreshHardItems(settings.hard_refresh, last_epoch),
                CpuTime(team),
                RefuseDivergence(),
                *_kept_weights(validate, settings, objective, state, save, team),
            ]
            if team.worker.is_chief:
                callbacks += [
                    displays.enter_context(epoch_display(steps, first_epoch, last_epoch, objective)),
                    displays.enter_context(Curves(output / "tensorboard")),
                ]
            # After the others: an epoch is done when all its files are on disk.
            callbacks += [Checkpoint(state), EarlyStop(is_over)]
            _fit(model, batches, first_epoch, last_epoch, callbacks, team)
    if not state.history:  # the config has no epochs: the initial weights are the model
        save()
        figures = validate(model.tower) if validate else {}
        state.history = [{"epoch": 0, "cpu_seconds": 0.0, **{f"val_{name}": value for name, value in figures.items()}}]
    (output / HISTORY_FILE).write_text(json.dumps(state.history, indent=1))
    epochs = int(state.epoch.numpy())
    best = state.history[max(int(state.best_epoch.numpy()), 1) - 1 if validate else -1]
    served = _choose_intent(choose, model.tower, output) if team.worker.is_chief else None
    state.discard_checkpoints()  # after the choice: a killed one is made again
    return {
        "parameters": int(sum(tf.size(variable).numpy() for variable in model.trainable_variables)),
        "epochs": epochs,
        "steps": epochs * steps,
        "cpu_seconds": round(sum(entry["cpu_seconds"] for entry in state.history), 1),
        "best_epoch": best["epoch"],
        "stopped_early": epochs < last_epoch,
        **({"intent": model.tower.intent.kind} if items.num_clusters > 1 else {}),
        **{name: value for name, value in best.items() if name.startswith("val_")},
        **({SERVED_INTENT: served.entries()} if served else {}),
        **({f"val_{name}": value for name, value in served.served_figures.items()} if served else {}),
    }


def _choose_intent(choose: ChooseIntent | None, tower: Tower, output: Path) -> ServedIntent | None:
    """Writes the intent that serves beside the weights, and returns it; None where there is no choice.

    Of several workers the chief alone chooses. The folder of another that continues a killed training is new: it has no
    weights if the best epoch was before.
    """
    if choose is None:
        return None
    read_weights(tower, output)
    served = choose(tower)
    if served is not None:
        write_served_intent(output, served)
    return served


def _kept_weights(
    validate: Validate | None,
    settings: TrainConfig,
    objective: str,
    state: TrainingState,
    save: Callable[[], None],
    team: Team,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that choose the epoch whose weights are kept."""
    if validate is None:
        return [LastWeights(settings.last_epoch, save)]
    return [
        Validation(validate, settings.validate_every, settings.last_epoch, team),
        BestWeights(state, objective, save),
    ]


def assemble(
    config: ExperimentConfig,
    items: ItemTable,
    records: TrainingRecords,
    team: Team | None = None,
    popularity: np.ndarray | None = None,
) -> tuple[Retriever, TrainingBatches]:
    """Returns the compiled model of an experiment, with all its variables, and the batches that it trains on.

    Arguments are those of `train`.

    Raises:
        UserError: no user has an event to predict, no item has a feature that the config asks for, or workers do not
            belong together.
    """
    team = team or Team()
    settings = config.train
    batches, num_users = make_batches(config, items, records, team)
    steps = settings.epochs * batches.steps_per_epoch
    schedule = WarmupCosine(settings.learning_rate, settings.warmup_steps, steps, settings.final_learning_rate)
    features = features_of(items) if config.model.item_features else None
    with team.strategy.scope():
        tower = Tower.make(
            *(config.model, settings, items.offsets, config.seed, items.counts, num_users, features),
            inputs=[feature.with_values(records.values) for feature in model_features(config)],
            popularity=popularity,
        )
        method = OPTIMIZERS.resolve(settings.optimizer)(tower.num_items)
        model = Retriever(tower, settings, config.seed, method.by_row)
        model.compile(optimizer=method.make(schedule, settings, row_tables(tower)))
        team.strategy.run(_create_variables, args=(model, batches))
        tower.inputs.measure(functools.partial(_moments, records, team))
    return model, batches


def _moments(records: TrainingRecords, team: Team, feature: Feature) -> np.ndarray:
    """Count, mean and squared differences `[3]` of the known values of an input, in the shards of all workers."""
    return pool_moments(team.gather(moments_of(records.features[feature.key]).tolist()))


def make_batches(
    config: ExperimentConfig, items: ItemTable, records: TrainingRecords, team: Team | None = None
) -> tuple[TrainingBatches, int]:
    """Returns the batches that an experiment trains on, as many for every worker, and the number of users of all.

    Raises:
        UserError: no user has an event to predict, or workers do not belong together.
    """
    team = team or Team()
    negatives = negative_source(config, items, records)
    batches = TrainingBatches(records, negatives, config.train, config.model.max_length, config.seed, team.worker)
    return batches, _agree(config, records, batches, team)


def _agree(config: ExperimentConfig, records: TrainingRecords, batches: TrainingBatches, team: Team) -> int:
    """Gives every worker as many batches as the one with most; returns the number of users of all workers."""
    sections = {"seed", "examples", "model", "train", "merge", "evaluate"}
    digest = zlib.crc32(config.model_dump_json(include=sections).encode())
    steps, users, digests = team.gather([batches.steps_per_epoch, records.users.max() + 1, digest]).T
    if (digests != digest).any():
        raise UserError(
            "Expected the same config on every worker, got different ones: start all with the same command."
        )
    batches.spread_over(int(steps.max()))
    return int(users.max())


def _fit(
    model: Retriever,
    batches: TrainingBatches,
    first_epoch: int,
    epochs: int,
    callbacks: list[keras.callbacks.Callback],
    team: Team,
) -> None:
    """`model.fit` for the epochs that are left."""
    # Every worker makes its own batches; `fit` would divide a plain dataset among the workers once more.
    dataset = team.strategy.distribute_datasets_from_function(lambda _: batches.dataset(first_epoch, epochs))
    try:
        model.fit(
            dataset,
            initial_epoch=first_epoch,
            epochs=epochs,
            steps_per_epoch=batches.steps_per_epoch,
            verbose=0,
            callbacks=callbacks,
        )
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        raise UserError(
            "Expected every worker to train to the end, but one is gone: start all workers again, they continue after "
            f"the last whole epoch ({error.message.splitlines()[0]})."
        ) from error


def _create_variables(model: Retriever, batches: TrainingBatches) -> None:
    """Creates all variables of the model and the optimizer, so that a checkpoint restores into all of them.

    Runs in each replica, because metrics may be updated in a replica only.
    """
    model.compute_loss({name: value[:1] for name, value in next(batches.epoch(0)).items()})
    model.optimizer.build(model.trainable_variables)
