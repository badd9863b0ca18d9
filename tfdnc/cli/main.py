"""`tfdnc`: one command per station, `run` for all of them, commands about many runs, `serve` and `query`."""

import argparse
import contextlib
import re
import sys
from typing import NoReturn, Protocol

from tfdnc.cli import (
    benchmark_serving,
    benchmark_training,
    compare,
    diff,
    explore,
    fetch,
    label,
    picture,
    publish,
    query,
    refresh,
    report,
    rollback,
    run,
    serve,
    simulate,
    sweep,
    verify,
)
from tfdnc.cli.noise import quiet_libraries, set_up_logging
from tfdnc.cli.streams import lenient_streams
from tfdnc.contracts.errors import UserError


class _Command(Protocol):
    """A module of one command. Only its `run` imports libraries that load slowly."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int | None: ...


_COMMANDS: dict[str, tuple[_Command, str]] = {
    "run": (run, "run every station of a config"),
    "compare": (compare, "run configs under several seeds and put them side by side"),
    "sweep": (sweep, "run a config with several shares of in-cluster negatives (paper, Figure 1a)"),
    "report": (report, "write one HTML page about evaluated runs"),
    "explore": (explore, "open a local page to play with users, lists and alpha"),
    "picture": (picture, "draw one user's list at several alphas, as an SVG"),
    "refresh": (refresh, "make a version of a run's bundle with the items of a newer item file, without training"),
    "verify": (verify, "ask a bundle again what it answered when it was exported"),
    "publish": (publish, "verify a bundle and copy it into a model base path that servers watch"),
    "rollback": (rollback, "bring back the version before the latest one of a model base path"),
    "label": (label, "move labels such as stable to versions, in a models.config that servers poll"),
    "diff": (diff, "compare two versions of a bundle on what users of a log did next"),
    "simulate": (simulate, "play days of a log with a model that is brought up to date in several ways"),
    "serve": (serve, "serve a bundle over gRPC with TF Serving's API"),
    "query": (query, "ask a server for one user of a run"),
    "fetch": (fetch, "download a public data set"),
}

_BENCHMARKS: dict[str, tuple[_Command, str]] = {
    "training": (benchmark_training, "measure how fast methods train, beside a baseline"),
    "serving": (benchmark_serving, "measure how fast a bundle is answered from, and what a server bears"),
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        Exit status: 0; 1 if experiments of a comparison failed, or if output was lost; 2 after a message about bad
        input; 130 when interrupted.
    """
    is_program = argv is None
    argv = sys.argv[1:] if is_program else argv
    with lenient_streams() as streams:
        arguments = build_parser().parse_args(argv, argparse.Namespace(argv=argv))
        with quiet_libraries() if is_program and not arguments.verbose else contextlib.nullcontext():
            set_up_logging(arguments.verbose)
            status = _carry_out(arguments)
        for stream in streams:
            stream.flush()
        if lost := [stream.lost for stream in streams if stream.lost]:
            print(f"tfdnc: not all output could be written ({lost[0].strerror})", file=sys.stderr)
        return status or (1 if lost else 0)


def _carry_out(arguments: argparse.Namespace) -> int:
    try:
        return arguments.command(arguments) or 0
    except UserError as error:
        print(f"tfdnc: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tfdnc: interrupted; the same command continues", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """A parser, of the program or of a command, that explains several `KEY=VALUE` behind one `--set`."""

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split()
        if unknown and all(re.match(r"[a-z_]+(\.\w+)*=", word) for word in unknown):
            message += f"; expected --set before each KEY=VALUE, as in {' '.join(f'--set {word}' for word in unknown)}"
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands; `command` of its result is the function that runs the chosen one."""
    parser = _Parser(prog="tfdnc", description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="log what the stations do")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module, text) in _COMMANDS.items():
        _add(commands, name, module, text)
    for station, text in run.STATION_HELP.items():
        _add(commands, station, run, text).set_defaults(station=station)
    benchmark = commands.add_parser("benchmark", help="measure speed", description="measure speed")
    parts = benchmark.add_subparsers(required=True, metavar="WHAT")
    for name, (module, text) in _BENCHMARKS.items():
        _add(parts, name, module, text)
    return parser


def _add(
    commands: "argparse._SubParsersAction[_Parser]", name: str, module: _Command, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=module.run)
    module.add_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
