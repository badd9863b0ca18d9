"""`tfdnc compare` and `tfdnc sweep`: make a study of the arguments, and carry it out."""

import argparse
import functools
import itertools
import shlex
from typing import Any

from tfdnc.cli import screen
from tfdnc.comparison.grid import Variant, variants_of
from tfdnc.comparison.method_tables import default_baseline, method_tables
from tfdnc.comparison.ratio_sweep import plot_ratios, ratio_table, ratio_variants
from tfdnc.comparison.study import Study, carry_out
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline import stations


def compare(arguments: argparse.Namespace) -> int:
    """Runs configs with several seeds and compares them; returns the exit status."""
    variants = variants_of(arguments.configs, arguments.set)
    labels = [variant.label for variant in variants]
    baseline = arguments.baseline or default_baseline(labels)
    if baseline is not None and baseline not in labels:
        raise UserError(f"Expected --baseline to be one of {', '.join(labels)}, got {baseline!r}.")
    tables_of = functools.partial(method_tables, labels=labels, baseline=baseline)
    name = "-".join(part for part in ("compare", common_name(labels)) if part)
    study = _study(arguments, variants, name, title="Comparison", stem="comparison", tables_of=tables_of)
    return carry_out(study, stations.stations_of, screen.console)


def sweep(arguments: argparse.Namespace) -> int:
    """Runs one config with several shares of in-cluster negatives; returns the exit status."""
    variants = ratio_variants(arguments.config, arguments.set, arguments.ratios)
    study = _study(
        arguments,
        variants,
        f"sweep-negatives-{common_name([variant.label.rpartition('-ratio')[0] for variant in variants])}",
        title="Easy and hard negatives",
        stem="negatives",
        tables_of=lambda results: [ratio_table(results)] if results else [],
        extra=plot_ratios,
    )
    return carry_out(study, stations.stations_of, screen.console)


def common_name(labels: list[str]) -> str:
    """Returns the common first parts of config names: ml1m of ml1m-dnc and ml1m-mf."""
    if len(labels) == 1:
        return labels[0]
    columns = zip(*(label.split("-") for label in labels), strict=False)
    return "-".join(parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, columns))


def _study(arguments: argparse.Namespace, variants: list[Variant], name: str, **options: Any) -> Study:
    """Returns a study; `options` are the fields of `Study` that the command decides."""
    return Study(
        command=shlex.join(["tfdnc", *arguments.argv]),
        variants=variants,
        seeds=arguments.seeds,
        runs=arguments.runs,
        output=arguments.output or arguments.runs / name,
        lanes=arguments.lanes,
        **options,
    )
