"""Ways to bring a model up to date after a day, by name."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tfdnc.contracts import schema
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.registry import Registry
from tfdnc.contracts.station_names import StationName
from tfdnc.operations.next_events import LogUsers
from tfdnc.operations.simulate.days import Day
from tfdnc.operations.simulate.models import Model, changed, config_until, train
from tfdnc.operations.simulate.renewal import with_items
from tfdnc.pipeline.runner import Observer


class Schedule(NamedTuple):
    """Training of a warm start; the measured defaults are in docs/results.md."""

    epochs: int = 2
    rate: float = 0.5  # share of the config's learning rate
    warmup_steps: int = 10


class Evening(NamedTuple):
    """The end of a day.

    Attributes:
        config: the experiment.
        runs: folder of the runs of the simulation.
        day: the day that has ended; the model may learn its events.
        model: the model of that day.
        schedule: training of a warm start.
        users: all users of the log.
        rare: items that had events before the first day, but too few for the first model; no refresh lists them.
        observer: listener to the stations.
    """

    config: ExperimentConfig
    runs: Path
    day: Day
    model: Model
    schedule: Schedule
    users: LogUsers
    rare: frozenset[str]
    observer: Observer


Way = Callable[[Evening], Model]
"""End of a day -> the model of the next day: the same one, or one of a run with the name of the way and of the day."""

WAYS: Registry[Way] = Registry("way to update a model")
"""Ways by name, for `tfdnc simulate --ways`."""


@WAYS.register("frozen")
def frozen(evening: Evening) -> Model:
    """Keeps the model; only the histories of requests are up to date."""
    return evening.model


@WAYS.register("refresh")
def refresh(evening: Evening) -> Model:
    """Keeps the weights, and lists items of the item file since their first event; see `operations.refresh`."""
    return with_items(evening.model, evening.users.items_before(evening.day.stop) - evening.rare)


@WAYS.register("warm")
def warm(evening: Evening) -> Model:
    """Trains the events of the day from the model of the day, with its clusters; all earlier events are histories."""
    config, name = evening.config, f"warm-{evening.day.name}"
    previous, schedule = evening.model.run, evening.schedule
    until = config_until(config, name, evening.day.stop)
    settings = {
        "initial": str(previous),
        "epochs": schedule.epochs,
        "stop_after": None,
        "learning_rate": config.train.learning_rate * schedule.rate,
        "warmup_steps": schedule.warmup_steps,
    }
    clusters = {"method": "previous", "previous": str(previous / StationName.CLUSTER.folder / schema.ITEMS)}
    last_day = {"train_from": evening.day.start}
    return train(changed(until, name, data=last_day, train=settings, cluster=clusters), evening.runs, evening.observer)


@WAYS.register("full")
def full(evening: Evening) -> Model:
    """Clusters and trains again on every event, from the start."""
    config = config_until(evening.config, f"full-{evening.day.name}", evening.day.stop)
    return train(config, evening.runs, evening.observer)
