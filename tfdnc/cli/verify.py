"""`tfdnc verify`: replays requests recorded at export, or those of a request log, and compares the answers."""

import argparse
from pathlib import Path

from tfdnc.cli import shared_flags
from tfdnc.cli.flag_types import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the bundle, and the server to ask."""
    shared_flags.add_bundle(parser)
    parser.add_argument("--target", metavar="HOST:PORT", help="ask this server (default: a fresh process)")
    shared_flags.add_model_name(parser, "name the server has for it")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--version", type=count, help="version to ask the server for (default: its own choice)")
    choice.add_argument("--label", help="label of the version to ask the server for, such as canary")
    parser.add_argument(
        "--requests",
        type=Path,
        nargs="+",
        default=(),
        metavar="PATH",
        help="files or folders of a request log to ask instead of the recorded requests",
    )
    shared_flags.add_tls(parser)


def run(arguments: argparse.Namespace) -> None:
    """Verifies the latest version of a bundle, in a fresh process or on a server."""
    from serving.bundles.verify import find_version
    from tfdnc.cli.verification import check_version, server_of

    path = find_version(arguments.bundle)
    check_version(path, path, server_of(arguments) if arguments.target else None, arguments.requests)
