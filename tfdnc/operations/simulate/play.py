"""Plays days: measures every way's model on a day's events, and then brings it up to date with them."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serving.bundles.difference import recall
from serving.bundles.questions import Questions
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.station_names import StationName
from tfdnc.contracts.times import Instant
from tfdnc.operations.next_events import LogUsers, read_users
from tfdnc.operations.simulate.days import Day, days_from
from tfdnc.operations.simulate.models import Model, config_until, lists_of, train
from tfdnc.operations.simulate.ways import WAYS, Evening, Schedule
from tfdnc.pipeline.dependencies import resolve_data
from tfdnc.pipeline.runner import Observer, run_stations

MOST_USERS = 5000
"""Users that are asked for on a day, by default; a sample, the same for all ways."""


@dataclasses.dataclass(frozen=True)
class DayFigures:
    """Figures of one way on one day.

    Attributes:
        day: name of the day.
        way: name of the way.
        users: number of users with a history and with next events on this day.
        targets: number of these events.
        recall: `recall@m`, mean over users of the share of a user's next items in the list.
        new_targets: number of the events whose item had no event before the first day.
        recall_of_new: `recall@m` of these alone; empty without any.
        cpu_seconds: CPU seconds of the training that made the model of this day out of that of the day before.
    """

    day: str
    way: str
    users: int
    targets: int
    recall: dict[str, float]
    new_targets: int
    recall_of_new: dict[str, float]
    cpu_seconds: float


class Play(NamedTuple):
    """Days to play, and ways to play them.

    Attributes:
        config: the experiment.
        runs: folder for the runs of the simulation.
        first: start of the first day.
        days: number of days.
        ways: names of `WAYS`.
        most_users: most users asked for on a day.
        schedule: training of a warm start.
    """

    config: ExperimentConfig
    runs: Path
    first: Instant
    days: int
    ways: Sequence[str]
    most_users: int = MOST_USERS
    schedule: Schedule = Schedule()


def play(
    what: Play, observer: Observer | None = None, report: Callable[[DayFigures], None] = lambda figures: None
) -> list[DayFigures]:
    """Plays days of a log.

    The first model is trained on every event before the first day, and is that of every way on this day. A model is
    asked with histories up to the start of the day. The same call continues a killed one: finished runs are kept.

    Args:
        what: config, days and ways.
        observer: listener to the stations.
        report: called with the figures of every way and day as soon as they are known.

    Raises:
        UserError: a way is unknown, the log has no times, or a day has no users with a history and next events.
    """
    observer = observer or Observer()
    for way in what.ways:
        WAYS.resolve(way)
    days = days_from(what.config.data, what.first, what.days)
    until_first = config_until(what.config, f"first-{days[0].name}", days[0].start)
    users = _users(until_first, what.runs / until_first.name, observer)
    for day in days:  # before a training, which may take hours
        _questions_of(users, day, 1)
    first = train(until_first, what.runs, observer)
    known = users.items_before(days[0].start)
    rare = known - first.catalogue
    models = dict.fromkeys(what.ways, first)
    costs = dict.fromkeys(what.ways, 0.0)
    found: list[DayFigures] = []
    for day in days:
        questions = _questions_of(users, day, what.most_users)
        measured: dict[int, dict[str, Any]] = {}  # on the first day all ways have one model
        for way in what.ways:
            model = models[way]
            if id(model) not in measured:
                measured[id(model)] = _measure(model, questions, what.config.evaluate.candidates, known)
            found.append(DayFigures(day.name, way, cpu_seconds=costs[way], **measured[id(model)]))
            report(found[-1])
        for way in what.ways if day is not days[-1] else ():
            before = models[way]
            evening = Evening(what.config, what.runs, day, before, what.schedule, users, rare, observer)
            models[way] = WAYS[way](evening)
            costs[way] = models[way].cpu_seconds if models[way].run != before.run else 0.0
    return found


def means_of(figures: Sequence[DayFigures]) -> dict[str, dict[str, float]]:
    """Returns by way the mean over days of every recall, and the mean `cpu_seconds` of an update.

    The first day has no update before it. `recall_of_new@m` is over the days with new items, each event counted once.
    """
    return {way: _means([row for row in figures if row.way == way]) for way in dict.fromkeys(f.way for f in figures)}


def _means(rows: Sequence[DayFigures]) -> dict[str, float]:
    means = {name: float(np.mean([row.recall[name] for row in rows])) for name in rows[0].recall}
    weights = [row.new_targets for row in rows if row.new_targets]
    if weights:
        new = [row.recall_of_new for row in rows if row.new_targets]
        means |= {
            name.replace("recall", "recall_of_new"): float(np.average([one[name] for one in new], weights=weights))
            for name in new[0]
        }
    updates = [row.cpu_seconds for row in rows[1:]]
    return means | {"cpu_seconds": float(np.mean(updates)) if updates else 0.0}


def _users(config: ExperimentConfig, run: Path, observer: Observer) -> LogUsers:
    """Returns all users of the log, read with the columns and the unit that `prepare` finds in it."""
    run_stations(config, run, StationName.PREPARE, observer=observer)
    data = resolve_data(config, run)
    return read_users(data, data.locations)


def _questions_of(users: LogUsers, day: Day, most_users: int) -> Questions:
    questions = users.questions(day.start, day.stop, most_users)
    if questions is None:
        raise UserError(
            f"Expected users with a history before {day.name} and next events on that day, found none: play days that "
            "the log has."
        )
    return questions


def _measure(model: Model, questions: Questions, cutoffs: Sequence[int], known: frozenset[str]) -> dict[str, Any]:
    """Returns the fields of `DayFigures` that do not depend on the way."""
    lists = lists_of(model, questions, max(cutoffs))
    new = [[item for item in targets if item not in known] for targets in questions.targets]
    rows = [row for row, items in enumerate(new) if items]
    return {
        "users": len(lists),
        "targets": sum(map(len, questions.targets)),
        "recall": _recalls(lists, questions.targets, cutoffs),
        "new_targets": sum(map(len, new)),
        "recall_of_new": _recalls([lists[row] for row in rows], [new[row] for row in rows], cutoffs) if rows else {},
    }


def _recalls(
    lists: Sequence[Sequence[str]], targets: Sequence[Sequence[str]], cutoffs: Sequence[int]
) -> dict[str, float]:
    return {f"recall@{m}": float(np.mean(recall([found[:m] for found in lists], targets))) for m in sorted(cutoffs)}
