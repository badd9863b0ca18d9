"""`tfdnc compare`: runs configs with several seeds, and makes tables of their results."""

import argparse
import functools
import itertools
import shlex
from typing import Any

from tfdnc.cli import screen, shared_flags
from tfdnc.comparison.grid import Variant, variants_of
from tfdnc.comparison.method_tables import default_baseline, method_tables
from tfdnc.comparison.study import Study, carry_out
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline import stations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the configs, the baseline, and the flags of every study."""
    shared_flags.add_configs(parser)
    parser.add_argument("--baseline", metavar="NAME", help="config name to measure against (default: the -sasrec one)")
    shared_flags.add_seeds(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs configs with several seeds and compares them; returns the exit status."""
    variants = variants_of(arguments.configs, arguments.set)
    labels = [variant.label for variant in variants]
    baseline = arguments.baseline or default_baseline(labels)
    if baseline is not None and baseline not in labels:
        raise UserError(f"Expected --baseline to be one of {', '.join(labels)}, got {baseline!r}.")
    tables_of = functools.partial(method_tables, labels=labels, baseline=baseline)
    name = "-".join(part for part in ("compare", common_name(labels)) if part)
    study = study_of(arguments, variants, name, title="Comparison", stem="comparison", tables_of=tables_of)
    return carry_out(study, stations.stations_of, screen.console)


def common_name(labels: list[str]) -> str:
    """Returns the common first parts of config names: ml1m of ml1m-dnc and ml1m-mf."""
    if len(labels) == 1:
        return labels[0]
    columns = zip(*(label.split("-") for label in labels), strict=False)
    return "-".join(parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, columns))


def study_of(arguments: argparse.Namespace, variants: list[Variant], name: str, **options: Any) -> Study:
    """Returns a study with the flags of `shared_flags.add_seeds`.

    Args:
        arguments: the flags.
        variants: the variants of the study.
        name: name of its folder, unless `--output` names another.
        options: further fields of `Study`.
    """
    return Study(
        command=shlex.join(["tfdnc", *arguments.argv]),
        variants=variants,
        seeds=arguments.seeds,
        runs=arguments.runs,
        output=arguments.output or arguments.runs / name,
        lanes=arguments.lanes,
        **options,
    )
