"""The cluster station alone: `python -m tfdnc.clustering --config X.yaml --prepared DIR --output DIR [--runner=..]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from beam_jobs.command import run_command
from tfdnc.clustering.station import build_clusters
from tfdnc.contracts.config import ExperimentConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Clusters the items of the folder `--prepared` into the folder `--output`."""
    parser = argparse.ArgumentParser(description="Sequences and vocabulary -> clustered items.")
    parser.add_argument("--prepared", required=True, type=Path, help="folder that beam_jobs.sequences wrote")

    def job(
        flags: argparse.Namespace, config: ExperimentConfig, output: str, runner_args: list[str]
    ) -> dict[str, float]:
        return build_clusters(flags.prepared, config.cluster, config.seed, Path(output), runner_args)

    return run_command(parser, argv, job)


if __name__ == "__main__":
    sys.exit(main())
