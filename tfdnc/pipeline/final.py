"""The model to ship: trained on every event, for as many epochs as the run with held-out events found best."""

from pathlib import Path

from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline import stations
from tfdnc.pipeline.changes import in_a_line
from tfdnc.pipeline.engine import changed_inputs, standing
from tfdnc.pipeline.manifests import read_manifest
from tfdnc.training.served_intent import SERVED_INTENT

SUFFIX = "-final"
"""Of the name of the run."""


def final_config(config: ExperimentConfig, runs: Path) -> ExperimentConfig:
    """Returns the config of the final model.

    It holds nothing out, and ends its training after the best epoch of the run of `config`, in the schedule of that
    run: an epoch has more steps by then, and the learning rate falls as it did. It has as many clusters as that run,
    also where `cluster.num_clusters: auto` would take more for more events. It serves the intent that validation chose
    there.

    Args:
        config: of the run with held-out events.
        runs: folder of all runs.

    Raises:
        UserError: that run has not been trained, or with other settings or data.
    """
    run = runs / config.name
    if config.data.split == "none":
        raise UserError("Expected a data.split that holds events out with --final, got none: it trains on all already.")
    finished = standing(stations.stations_of(config), config, run)
    if stations.TRAIN.name not in finished:
        raise UserError(
            f"Expected a trained run at {run} that is up to date for this config; found "
            f"{_instead(config, run, len(finished))}. Run it without --final first, which finds the number of epochs."
        )
    best = finished[stations.TRAIN.name]["figures"]["best_epoch"]
    values = config.model_dump(mode="json")
    values["name"] = config.name + SUFFIX
    values["data"] |= {"split": "none", "validation_from": None, "test_from": None}
    values["train"] |= {"stop_after": best or None, "epochs_from": str(run)}
    values["evaluate"]["judge"] = None
    if choice := finished[stations.TRAIN.name]["figures"].get(SERVED_INTENT):
        values["train"]["served_intent"] = choice["served"]
    if number := finished[stations.CLUSTER.name]["figures"].get("num_clusters"):
        values["cluster"]["num_clusters"] = number
    return ExperimentConfig.model_validate(values)


def _instead(config: ExperimentConfig, run: Path, standing_stations: int) -> str:
    """Returns what there is in place of an up-to-date training, in words."""
    if read_manifest(run / stations.TRAIN.folder) is None:
        return "none"
    station = stations.stations_of(config)[standing_stations]
    try:
        changed = in_a_line(changed_inputs(station, config, run)) or "it has no result"
    except UserError as error:  # an input file is missing
        changed = str(error)
    return f"one of other inputs ({station.name}: {changed})"
