"""`tfdnc label`: moves labels such as `stable` in a models.config; `publish` and `rollback` do the same with flags."""

import argparse
from pathlib import Path

from tfdnc.cli import screen, shared_flags
from tfdnc.cli.flag_types import at_least_zero, count
from tfdnc.contracts.errors import UserError
from tfdnc.pipeline.working import last_log_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the file, and the labels with their versions."""
    parser.add_argument("models_config", type=Path, metavar="MODELS_CONFIG", help="file that servers poll")
    parser.add_argument("labels", nargs="+", type=_label, metavar="LABEL=VERSION", help="such as stable=12")
    _add_servers(parser)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a command that makes a version, which the labels then name."""
    parser.add_argument("--label", action="append", default=[], metavar="LABEL", help="move this label to the version")
    parser.add_argument("--models-config", type=Path, metavar="FILE", help="file with the labels, which servers poll")
    _add_servers(parser)


def _add_servers(parser: argparse.ArgumentParser) -> None:
    shared_flags.add_model_name(parser, "name of the model in the file")
    parser.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="wait until this server has the version; may be given several times (default: wait --wait seconds)",
    )
    parser.add_argument(
        "--timeout", type=at_least_zero, default=600.0, help="most seconds to wait for servers (default: 600)"
    )
    parser.add_argument(
        "--wait", type=at_least_zero, default=120.0, help="seconds to wait where no --server is given (default: 120)"
    )
    shared_flags.add_tls(parser)


def run(arguments: argparse.Namespace) -> None:
    """Moves labels to versions of a base path."""
    _move(arguments, dict(arguments.labels))


def check_flags(arguments: argparse.Namespace) -> None:
    """Raises a `UserError` for labels without a file, before anything is published."""
    if arguments.label and arguments.models_config is None:
        raise UserError("Expected --models-config with --label: labels lie in the file that servers poll.")


def listed_versions(arguments: argparse.Namespace) -> set[int]:
    """Returns the versions that the file lists, which servers hold and which must not be removed."""
    from serving.bundles import labels

    if arguments.models_config is None:
        return set()
    return labels.listed_versions(arguments.models_config, arguments.model_name)


def move_to(arguments: argparse.Namespace, version: int) -> None:
    """Moves the labels of `--label` to a version that was published just now."""
    if arguments.label:
        _move(arguments, dict.fromkeys(arguments.label, version))


def _move(arguments: argparse.Namespace, versions: dict[str, int]) -> None:
    from serving.bundles import labels
    from serving.client.connection import Tls

    if arguments.server:
        tls = Tls(arguments.tls_roots) if arguments.tls_roots else None
        wait = labels.wait_for_servers(arguments.server, arguments.timeout, tls)
    else:
        wait = labels.wait_seconds(arguments.wait)
    with last_log_line("label"):
        kept = labels.move(arguments.models_config, arguments.model_name, versions, wait)
    names = ", ".join(f"{label} is version {number}" for label, number in versions.items())
    line = f"In {arguments.models_config} {names}; servers hold {', '.join(map(str, kept))}"
    screen.console.print(line, soft_wrap=True)


def _label(text: str) -> tuple[str, int]:
    name, sign, number = text.partition("=")
    if not (name and sign):
        raise argparse.ArgumentTypeError(f"expected LABEL=VERSION, such as stable=12, got {text!r}")
    return name, int(count(number))
