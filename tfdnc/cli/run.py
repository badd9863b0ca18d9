"""`tfdnc run` and one command per station: all stations of a config, or those up to one."""

import argparse

from tfdnc.cli import shared_flags
from tfdnc.cli.station_runs import run_stations
from tfdnc.contracts.config import load_config
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline.final import final_config

STATION_HELP = {
    StationName.GENERATE: "make a log with planted tastes (configs with a `generate` section)",
    StationName.PREPARE: "read and filter the log, write one ordered sequence per user",
    StationName.CLUSTER: "give every item a cluster",
    StationName.JUDGE: "cluster the items to judge lists by (configs with `evaluate.judge`)",
    StationName.EXAMPLES: "write training records with in-cluster negatives",
    StationName.TRAIN: "train the retriever",
    StationName.EVALUATE: "rank the held-out items and report",
    StationName.EXPORT: "write the serving bundle",
}
"""Station -> help of its command."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `tfdnc run`, which every command of a station has too."""
    shared_flags.add_config(parser)
    shared_flags.add_runs(parser)
    parser.add_argument("--force", action="store_true", help="run although nothing changed")
    parser.add_argument(
        "--final",
        action="store_true",
        help="the model to ship: trained on every event, for the epochs that the finished run found best",
    )
    parser.set_defaults(station=None)


def run(arguments: argparse.Namespace) -> None:
    """Runs the stations up to `arguments.station`, or all."""
    config = load_config(arguments.config, arguments.set)
    if arguments.final:
        config = final_config(config, arguments.runs)
    run_stations(config, arguments.runs / config.name, arguments.station, arguments.force)
