"""The grid of experiments: variants of configs, each with several seeds."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfdnc.contracts.config import ExperimentConfig, load_config
from tfdnc.contracts.errors import UserError


@dataclass(frozen=True)
class Variant:
    """A config file with overrides: one row of a table.

    Attributes:
        label: name of the row, and first part of the names of its runs.
        source: the config file.
        overrides: `section.key=value`, applied to the file.
    """

    label: str
    source: Path
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """One variant with one seed: one run."""

    variant: Variant
    config: ExperimentConfig

    @property
    def label(self) -> str:
        """Label of the variant."""
        return self.variant.label

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.config.name

    def arguments(self, runs: Path) -> list[str]:
        """Returns the arguments of `tfdnc STATION` that make it work on this run."""
        overrides = _overrides(self.variant, self.config.seed)
        return [
            str(self.variant.source),
            *(part for text in overrides for part in ("--set", text)),
            "--runs",
            str(runs),
        ]


def variants_of(configs: Sequence[Path], overrides: Sequence[str]) -> list[Variant]:
    """Returns one variant per config file, labelled by the config's name.

    Raises:
        UserError: a config is bad, or two have the same name.
    """
    variants = [Variant(load_config(path, tuple(overrides)).name, path, tuple(overrides)) for path in configs]
    by_label: dict[str, Variant] = {}
    for variant in variants:
        other = by_label.setdefault(variant.label, variant)
        if other is not variant:
            raise UserError(
                f"Expected configs of different names, but {other.source} and {variant.source} are both called "
                f"{variant.label!r}: give one of them another `name`."
            )
    return variants


def expand(variants: Sequence[Variant], seeds: Iterable[int]) -> list[Experiment]:
    """Returns every variant with every seed; all variants with the first seed come first, for an early full table.

    Raises:
        UserError: a seed or a name is not allowed, or an override sets the seed.
    """
    for variant in variants:
        if any(text.startswith("seed=") for text in variant.overrides):
            raise UserError("Expected --seeds to say which seeds are run, got --set seed=...: leave that out.")
    return [experiment(variant, seed) for seed in dict.fromkeys(seeds) for variant in variants]


def experiment(variant: Variant, seed: int) -> Experiment:
    """Returns a variant with one seed."""
    return Experiment(variant, load_config(variant.source, _overrides(variant, seed)))


def seeds_in(runs: Path, variant: Variant) -> list[int]:
    """Returns the seeds for which a variant has a run, finished or not, in ascending order."""
    pattern = re.compile(re.escape(variant.label) + r"-seed(0|[1-9]\d{0,9})")
    matches = [pattern.fullmatch(path.name) for path in runs.glob(f"{variant.label}-seed*")]
    seeds = sorted(int(match.group(1)) for match in matches if match)
    return [seed for seed in seeds if seed < 2**31]  # the config refuses larger seeds


def _overrides(variant: Variant, seed: int) -> list[str]:
    others = [text for text in variant.overrides if not text.startswith("name=")]  # the label contains the name
    return [*others, f"name={variant.label}-seed{seed}", f"seed={seed}"]
