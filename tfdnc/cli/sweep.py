"""`tfdnc sweep`: one config with several shares of in-cluster negatives (paper, Figure 1a)."""

import argparse
from pathlib import Path

from tfdnc.cli import screen, shared_flags
from tfdnc.cli.compare import common_name, study_of
from tfdnc.cli.flag_types import share
from tfdnc.comparison.ratio_sweep import plot_ratios, ratio_table, ratio_variants
from tfdnc.comparison.study import carry_out
from tfdnc.pipeline import stations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the config, the shares, and the flags of every study."""
    parser.add_argument("what", choices=["negatives"], help="what is swept")
    parser.add_argument("config", type=Path, help="YAML config with examples.sampler mixed")
    parser.add_argument("--ratios", type=share, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0], metavar="R")
    shared_flags.add_seeds(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the config with every share; returns the exit status."""
    variants = ratio_variants(arguments.config, arguments.set, arguments.ratios)
    study = study_of(
        arguments,
        variants,
        f"sweep-negatives-{common_name([variant.label.rpartition('-ratio')[0] for variant in variants])}",
        title="Easy and hard negatives",
        stem="negatives",
        tables_of=lambda results: [ratio_table(results)] if results else [],
        extra=plot_ratios,
    )
    return carry_out(study, stations.stations_of, screen.console)
