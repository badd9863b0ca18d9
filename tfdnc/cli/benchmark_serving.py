"""`tfdnc benchmark serving`: measures the speed of a bundle's answers, and the limits of its server."""

import argparse
from pathlib import Path

from tfdnc.cli import shared_flags
from tfdnc.cli.flag_types import count

_PARTS = ["batching", "rest", "load", "reloads"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the bundle or the sizes of a synthetic one, the server, and the size of the measurement."""
    parser.add_argument("bundle", type=Path, nargs="?", help="folder with numbered versions (default: a synthetic one)")
    parser.add_argument("--target", metavar="HOST:PORT", help="measure this server of the bundle, and start none")
    shared_flags.add_model_name(parser, "name that --target has for it")
    parser.add_argument("--clients", type=count, nargs="+", default=[1, 2, 4, 8], metavar="N", help="default: 1 2 4 8")
    parser.add_argument("--rounds", type=count, default=5, help="measurements of everything (default: 5)")
    parser.add_argument("--round-seconds", type=float, default=3.0, help="of one measurement (default: 3)")
    parser.add_argument("--seconds", type=float, default=300.0, help="of the long load (default: 300)")
    parser.add_argument("--reloads", type=count, default=20, help="under load (default: 20)")
    parser.add_argument("--without", nargs="+", default=[], choices=_PARTS, help="parts to leave out")
    for name, default in (("items", 100_000), ("clusters", 15), ("dim", 64)):
        parser.add_argument(f"--{name}", type=count, default=default, help="of a synthetic bundle (%(default)s)")
    for name, choice in (("index", "exact"), ("encoder", "hadamard_per_position")):
        parser.add_argument(f"--{name}", default=choice, help="of a synthetic bundle (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmark"), help="folder (default: benchmark)")


def run(arguments: argparse.Namespace) -> None:
    """Measures, and writes tables and a plot."""
    from tfdnc.cli.serving_results import benchmark_serving

    benchmark_serving(arguments)
