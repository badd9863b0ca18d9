"""`tfdnc`: one command per station, `run` for all of them, commands about many runs, `serve` and `query`."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from serving import options as server_flags
from tfdnc.cli import screen
from tfdnc.cli.cluster_flags import add_cluster_flags
from tfdnc.cli.noise import quiet_libraries, set_up_logging
from tfdnc.cli.station_runs import run_stations
from tfdnc.cli.streams import lenient_streams
from tfdnc.contracts.config import load_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.schema import MODEL_NAME
from tfdnc.contracts.station_names import StationName
from tfdnc.pipeline.working import last_log_line

_STATION_HELP = {
    StationName.GENERATE: "make a log with planted tastes (configs with a `generate` section)",
    StationName.PREPARE: "read and filter the log, write one ordered sequence per user",
    StationName.CLUSTER: "give every item a cluster",
    StationName.JUDGE: "cluster the items to judge lists by (configs with `evaluate.judge`)",
    StationName.EXAMPLES: "write training records with in-cluster negatives",
    StationName.TRAIN: "train the retriever",
    StationName.EVALUATE: "rank the held-out items and report",
    StationName.EXPORT: "write the serving bundle",
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    0; 1 if experiments of a comparison failed, or if output was lost; 2 after a message about bad input; 130 when
    interrupted.
    """
    is_program = argv is None
    argv = sys.argv[1:] if is_program else argv
    with lenient_streams() as streams:
        arguments = _parser().parse_args(argv, argparse.Namespace(argv=argv))
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tfdnc", description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="log what the stations do")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = _adder(commands)
    run = add("run", _run, "run every station of a config")
    for command in [run, *(add(name, _station, text) for name, text in _STATION_HELP.items())]:
        command.add_argument("config", type=Path, help="YAML config, see configs/")
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one config key")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
        command.add_argument("--force", action="store_true", help="run although nothing changed")
    for name in _STATION_HELP:
        commands.choices[name].set_defaults(station=name)
    _add_studies(add)

    serve = add("serve", _serve, "serve a bundle over gRPC with TF Serving's API")
    serve.add_argument("bundle", type=Path, help="folder with numbered versions, such as runs/NAME/bundle")
    # Somebody is waiting: a bundle that cannot be loaded is told at once, and not after five minutes of retries.
    of_many_models = {"model_config_file": None, "model_config_file_poll_wait_seconds": None}
    server_flags.add_flags(serve, model_base_path=None, model_name=MODEL_NAME, max_num_load_retries=0, **of_many_models)

    _add_bundle_commands(add)

    query = add("query", _query, "ask a server for one user of a run")
    _add_user_flags(query)
    query.add_argument("--run", type=Path, help="run to take the user from (default: the newest bundle in --runs)")
    query.add_argument("--runs", type=Path, default=Path("runs"))
    merges = query.add_mutually_exclusive_group()
    merges.add_argument("--alpha", type=_alpha, help="quota sharpness, 0 or more; without it, the bundle's own merge")
    merges.add_argument("--joint-alpha", type=_alpha, help="sharpness of the joint merge, 0 or more")
    query.add_argument("--num-candidates", type=_count, default=50, help="length of the list (default: 50)")
    query.add_argument("--target", default="127.0.0.1:8500", help="server address (default: 127.0.0.1:8500)")
    query.add_argument("--start-server", action="store_true", help="serve the run's bundle for the time of the query")
    query.add_argument(
        "--wait", type=_seconds, default=120.0, metavar="SECONDS", help="for a server that is starting (default: 120)"
    )
    query.add_argument("--model-name", default=MODEL_NAME)
    query.add_argument("--label", help="label of the version to ask, such as stable (default: the latest version)")
    query.add_argument("--tls-roots", type=Path, metavar="PEM", help="encrypt, and trust these root certificates")
    query.add_argument("--exclude", nargs="+", metavar="ITEM", help="item ids that must not come back")
    add_cluster_flags(query)

    report = add("report", _report, "write one HTML page about evaluated runs")
    report.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run, such as runs/NAME")
    report.add_argument("--output", type=Path, default=Path("report.html"), help="the page (default: report.html)")

    _add_benchmarks(_adder(add("benchmark", None, "measure speed").add_subparsers(required=True, metavar="WHAT")))

    fetch = add("fetch", _fetch, "download a public data set")
    fetch.add_argument("name", help="ml-1m")
    fetch.add_argument("--output", type=Path, default=Path("data"), help="folder for the data set's own folder")
    return parser


def _add_user_flags(query: argparse.ArgumentParser) -> None:
    """Whose history a query sends."""
    who = query.add_mutually_exclusive_group()
    who.add_argument("--user", help="user id of the log (default: the first one with an event held out for testing)")
    who.add_argument("--history", nargs="*", metavar="ITEM", help="item ids, oldest first, of a user not in the log")
    query.add_argument("--history-times", type=int, nargs="*", metavar="TIME", help="times of --history, as in the log")
    query.add_argument("--request-time", type=int, metavar="TIME", help="when the user of --history asks")


def _add_benchmarks(add: Callable[..., argparse.ArgumentParser]) -> None:
    training = add("training", _benchmark_training, "measure how fast methods train, beside a baseline")
    training.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="YAML configs, see configs/")
    training.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of every one")
    training.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    training.add_argument(
        "--baseline", metavar="NAME", help="run that ratios are to (default: the one called ...-sasrec)"
    )
    training.add_argument("--steps", type=_count, default=60, help="training steps of a measurement (default: 60)")
    training.add_argument("--rounds", type=_count, default=3, help="measurements of every method (default: 3)")
    training.add_argument("--output", type=Path, default=Path("benchmark"), help="folder (default: benchmark)")

    serving = add("serving", _benchmark_serving, "measure how fast a bundle is answered from, and what a server bears")
    serving.add_argument(
        "bundle", type=Path, nargs="?", help="folder with numbered versions (default: a synthetic one)"
    )
    serving.add_argument("--target", metavar="HOST:PORT", help="measure this server of the bundle, and start none")
    serving.add_argument(
        "--model-name", default=MODEL_NAME, help="name that --target has for it (default: %(default)s)"
    )
    serving.add_argument(
        "--clients", type=_count, nargs="+", default=[1, 2, 4, 8], metavar="N", help="default: 1 2 4 8"
    )
    serving.add_argument("--rounds", type=_count, default=5, help="measurements of everything (default: 5)")
    serving.add_argument("--round-seconds", type=float, default=3.0, help="of one measurement (default: 3)")
    serving.add_argument("--seconds", type=float, default=300.0, help="of the long load (default: 300)")
    serving.add_argument("--reloads", type=_count, default=20, help="under load (default: 20)")
    parts = ["batching", "rest", "load", "reloads"]
    serving.add_argument("--without", nargs="+", default=[], choices=parts, help="parts to leave out")
    for name, default in (("items", 100_000), ("clusters", 15), ("dim", 64)):
        serving.add_argument(f"--{name}", type=_count, default=default, help="of a synthetic bundle (%(default)s)")
    for name, default in (("index", "exact"), ("encoder", "hadamard_per_position")):
        serving.add_argument(f"--{name}", default=default, help="of a synthetic bundle (%(default)s)")
    serving.add_argument("--output", type=Path, default=Path("benchmark"), help="folder (default: benchmark)")


def _add_bundle_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """What stands between an export and a server."""
    verify = add("verify", _verify, "ask a bundle again what it answered when it was exported")
    publish = add("publish", _publish, "verify a bundle and copy it into a model base path that servers watch")
    for command in (verify, publish):
        command.add_argument("bundle", type=Path, help="a version, or folder with numbered versions (the latest)")
    verify.add_argument("--target", metavar="HOST:PORT", help="ask this server (default: a fresh process)")
    verify.add_argument("--model-name", default=MODEL_NAME, help="name the server has for it (default: %(default)s)")
    choice = verify.add_mutually_exclusive_group()
    choice.add_argument("--version", type=_count, help="version to ask the server for (default: its own choice)")
    choice.add_argument("--label", help="label of the version to ask the server for, such as canary")
    verify.add_argument("--tls-roots", type=Path, metavar="PEM", help="encrypt, and trust these root certificates")
    publish.add_argument("base_path", type=Path, metavar="MODEL_BASE_PATH", help="made if it is not there")
    publish.add_argument("--version", type=_count, help="number of the version (default: one above the highest)")
    publish.add_argument("--keep", type=_count, metavar="N", help="leave N versions, remove the oldest (default: all)")


def _add_studies(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that run a config many times."""
    compare = add("compare", _compare, "run configs under several seeds and put them side by side")
    compare.add_argument("configs", type=Path, nargs="+", metavar="CONFIG", help="YAML configs, one per row")
    compare.add_argument("--baseline", metavar="NAME", help="config name to measure against (default: the -sasrec one)")
    sweep = add("sweep", _sweep, "run a config with several shares of in-cluster negatives (paper, Figure 1a)")
    sweep.add_argument("what", choices=["negatives"], help="what is swept")
    sweep.add_argument("config", type=Path, help="YAML config with examples.sampler mixed")
    sweep.add_argument("--ratios", type=_share, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0], metavar="R")
    for command in (compare, sweep):
        command.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="S", help="default: 1 2 3")
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override in every config")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
        command.add_argument("--lanes", type=_count, help="trainings side by side (default: one per CPU core)")
        command.add_argument("--output", type=Path, help="folder for the tables (default: one in --runs)")


def _number(kind: type, fits: Callable[[float], bool], expected: str) -> Callable[[str], float]:
    """Reads a flag; argparse itself would name the function that it calls."""

    def read(text):
        try:
            value = kind(text)
        except ValueError as error:
            whole = "whole " if kind is int else ""
            raise argparse.ArgumentTypeError(f"expected a {whole}number, got {text}") from error
        if not fits(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return value

    return read


_share = _number(float, lambda value: 0 <= value <= 1, "a share in 0..1")
_alpha = _seconds = _number(float, lambda value: value >= 0, "a number of 0 or more")  # NaN is not
_count = _number(int, lambda value: 1 <= value < 2**31, "1 or more, and below 2^31")


def _adder(commands) -> Callable[..., argparse.ArgumentParser]:
    def add(name: str, command: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=text)
        parser.set_defaults(command=command)
        return parser

    return add


def _run(arguments: argparse.Namespace) -> None:
    _run_stations(arguments, last=None)


def _station(arguments: argparse.Namespace) -> None:
    _run_stations(arguments, last=arguments.station)


def _run_stations(arguments: argparse.Namespace, last: str | None) -> None:
    config = load_config(arguments.config, arguments.set)
    run_stations(config, arguments.runs / config.name, last, arguments.force)


def _compare(arguments: argparse.Namespace) -> int:
    from tfdnc.cli.compare import compare

    return compare(arguments)


def _sweep(arguments: argparse.Namespace) -> int:
    from tfdnc.cli.compare import sweep

    return sweep(arguments)


def _serve(arguments: argparse.Namespace) -> None:
    options = server_flags.from_arguments(arguments, model_base_path=arguments.bundle)
    from serving.server import serve

    def announce(server) -> None:
        line = f"Serving {options.model_name} from {options.model_base_path} at {server.address}"
        screen.console.print(line, soft_wrap=True)

    serve(options, on_ready=announce)


def _verify(arguments: argparse.Namespace) -> None:
    from tfdnc.cli.publish import verify_bundle

    verify_bundle(arguments)


def _publish(arguments: argparse.Namespace) -> None:
    from tfdnc.cli.publish import publish_version

    publish_version(arguments)


def _query(arguments: argparse.Namespace) -> None:
    from tfdnc.cli.query import query

    query(arguments)


def _report(arguments: argparse.Namespace) -> None:
    from tfdnc.page.build import write_page

    with last_log_line("report"):
        shown = write_page(arguments.runs, arguments.output)
    size = arguments.output.stat().st_size / 1e6
    line = (
        f"{arguments.output}: {shown} {'run' if shown == 1 else 'runs'}, {size:.2f} MB, nothing loaded from elsewhere"
    )
    screen.console.print(line, soft_wrap=True)


def _benchmark_training(arguments: argparse.Namespace) -> None:
    from tfdnc.cli.benchmark import benchmark_training

    benchmark_training(arguments)


def _benchmark_serving(arguments: argparse.Namespace) -> None:
    from tfdnc.cli.benchmark_serving import benchmark_serving

    benchmark_serving(arguments)


def _fetch(arguments: argparse.Namespace) -> None:
    from tfdnc.datasets.fetch import fetch

    folder = fetch(arguments.name, arguments.output / arguments.name)
    screen.console.print(f"{arguments.name} is in {folder}")


if __name__ == "__main__":
    sys.exit(main())
