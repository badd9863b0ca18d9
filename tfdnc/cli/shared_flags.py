"""Flags that several commands share, with one meaning."""

import argparse
from pathlib import Path

from tfdnc.cli.flag_types import count, instant
from tfdnc.contracts.bundle import MODEL_NAME


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds the config of one run."""
    parser.add_argument("config", type=Path, help="YAML config, see configs/")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one config key")


def add_configs(parser: argparse.ArgumentParser) -> None:
    """Adds the configs of a comparison."""
    parser.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="YAML configs, one per row")


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Adds the folder of all runs."""
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Adds the bundle of a command about one version."""
    parser.add_argument("bundle", type=Path, help="a version, or folder with numbered versions (the latest)")


def add_model_name(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds the name of the model on a server."""
    parser.add_argument("--model-name", default=MODEL_NAME, help=f"{text} (default: %(default)s)")


def add_tls(parser: argparse.ArgumentParser) -> None:
    """Adds the certificates of a server with encrypted connections."""
    parser.add_argument("--tls-roots", type=Path, metavar="PEM", help="encrypt, and trust these root certificates")


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of every study of many runs."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="S", help="default: 1 2 3")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override in every config")
    add_runs(parser)
    parser.add_argument("--lanes", type=count, help="trainings side by side (default: one per CPU core)")
    parser.add_argument("--output", type=Path, help="folder for the tables (default: one in --runs)")


def add_questions(parser: argparse.ArgumentParser, required: bool) -> None:
    """Adds the log, or the request log, by whose users two versions are compared."""
    choice = parser.add_mutually_exclusive_group(required=required)
    choice.add_argument(
        "--requests",
        type=Path,
        nargs="+",
        default=(),
        metavar="PATH",
        help="files or folders of a request log: users without next events, so without recall",
    )
    choice.add_argument(
        "--log",
        nargs="+",
        metavar="PATH",
        help="log with what users did, read as that of the bundle",
    )
    parser.add_argument(
        "--since",
        type=instant,
        metavar="TIME",
        help="events from here on came next: ISO 8601, or a number in the log's unit (default: the last of a user)",
    )
    parser.add_argument("--users", type=count, default=5000, help="most users to ask for (default: 5000)")
