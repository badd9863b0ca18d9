"""Builds the page: reads the runs, computes tables and charts, and fills the template."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdnc.contracts.schema import RUN_CONFIG
from tfdnc.contracts.station_names import StationName
from tfdnc.page import curves, result_tables
from tfdnc.page.clusters import clusterings
from tfdnc.page.item_map import item_maps
from tfdnc.page.result_tables import NOTHING
from tfdnc.page.runs import Group, Run, group_runs, read_runs
from tfdnc.page.template import fill, write_text
from tfdnc.page.user_lists import USERS, UserLists, user_lists

_PATHS = {"data.path", "data.items.path"}
"""Settings that differ between machines without any effect on the figures."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """One row of the table of runs.

    Attributes:
        run: the run.
        color: number of its group's colour.
        method: the choices by name that make its method.
        training: figures of its training, as they are printed.
    """

    run: Run
    color: int
    method: str
    training: dict[str, str]


def write_page(folders: Sequence[Path], output: Path, users: int = USERS) -> int:
    """Writes the page about the runs in `folders`, with lists of some users; returns the number of runs.

    Raises:
        UserError: a folder is no evaluated run, or the page cannot be written.
    """
    groups = group_runs(read_runs(folders))
    write_text(render(groups, user_lists(groups, users)), output)
    return sum(len(group.runs) for group in groups)


def render(groups: Sequence[Group], lists: UserLists) -> str:
    """Returns the page as HTML."""
    runs = [run for group in groups for run in group.runs]
    _log.info("drawing %d runs", len(runs))
    return fill(
        "page.html",
        title=", ".join(group.name for group in groups),
        groups=groups,
        data=_data(runs),
        splits=len({group.split for group in groups}),
        made=[Made(run, group.color, _method(run), _training(run)) for group in groups for run in group.runs],
        commands=[f"tfdnc run {_short_path(run)}" for run in runs],
        differences=_differences(groups),
        settings=[(group, _settings(group.first)) for group in groups],
        overall=result_tables.overall_table(groups),
        error=result_tables.standard_error(groups),
        within=result_tables.within_table(groups),
        intent=result_tables.intent_table(groups),
        served_intents=[f"{run.label}: {text}" for run in runs if (text := _served_intent(run))],
        alpha=curves.alpha_charts(groups),
        lists=lists,
        spread=curves.spread_charts(groups),
        spread_groups=[group for group in groups if any(curves.has_spread(group, name) for name in curves.SPREADS)],
        tuned=any(run.report.get("tuned") for run in runs),
        joints=any(run.report.get("joint_curve") for run in runs),
        floors=any(run.report.get("floor_curve") for run in runs),
        judged_by=sorted({str(run.report["judged_by"]) for run in runs if run.report.get("judged_by")}),
        clusterings=clusterings(groups),
        maps=item_maps(groups),
        training=curves.training_charts(groups),
        calibration=curves.calibration_charts(groups),
    )


def _data(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Returns the figures of the distinct splits; runs of different splits cannot be compared."""
    distinct: dict[str | None, dict[str, Any]] = {}
    for run in runs:
        figures = run.figures(StationName.PREPARE)
        known = dict.fromkeys(("users", "items", "events", "days", "split_sha256")) | figures
        found = distinct.setdefault(known["split_sha256"], {**known, "tested": run.report["users"], "runs": []})
        found["runs"].append(run.label)
    return list(distinct.values())


def _served_intent(run: Run) -> str | None:
    """Returns the sentence about the intent that serves; None where validation had nothing to choose."""
    return (run.report.get("intent_check") or {}).get("text")


def _method(run: Run) -> str:
    """Returns the choices by name that make the method."""
    keys = ("cluster.method", "examples.sampler", "model.encoder", "train.loss", "merge.method")
    return " · ".join(str(run.settings[key]) for key in keys if key in run.settings)


def _training(run: Run) -> dict[str, str]:
    """Returns the size and the cost of the training, as they are printed."""
    figures, seconds = run.figures(StationName.TRAIN), run.manifests.get(StationName.TRAIN, {}).get("seconds")
    return {
        "parameters": _count(figures.get("parameters")),
        "epochs": _count(figures.get("epochs")),
        "best epoch": _count(figures.get("best_epoch")),
        "CPU time": _duration(figures.get("cpu_seconds")),
        "time": _duration(seconds),
    }


def _count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _short_path(run: Run) -> str:
    """Returns the last parts of the path of the run's config; the others mean nothing on another machine."""
    return "/".join((run.path.resolve() / RUN_CONFIG).parts[-3:])


def _settings(run: Run) -> dict[str, object]:
    return {"seed": run.seed} | {key: value for key, value in run.settings.items() if key not in _PATHS}


def _differences(groups: Sequence[Group]) -> list[tuple[str, list[str]]]:
    """Returns the settings that differ between groups, each with its value in every group."""
    settings = [_settings(group.first) for group in groups]
    keys = dict.fromkeys(key for values in settings for key in values if key != "seed")
    printed = {key: [str(values[key]) if key in values else NOTHING for values in settings] for key in keys}
    return [(key, values) for key, values in printed.items() if len(set(values)) > 1]
