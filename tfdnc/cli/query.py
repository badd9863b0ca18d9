"""`tfdnc query`: asks a server for the candidates of one user."""

import argparse
from pathlib import Path

from tfdnc.cli import shared_flags
from tfdnc.cli.cluster_flags import add_cluster_flags
from tfdnc.cli.flag_types import at_least_zero, count
from tfdnc.contracts.bundle import SEEN_RULES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the user, the controls of the list, and the server."""
    _add_user(parser)
    parser.add_argument("--run", type=Path, help="run to take the user from (default: the newest bundle in --runs)")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    merges = parser.add_mutually_exclusive_group()
    merges.add_argument(
        "--alpha", type=at_least_zero, help="quota sharpness, 0 or more; without it, the bundle's own merge"
    )
    merges.add_argument("--joint-alpha", type=at_least_zero, help="sharpness of the joint merge, 0 or more")
    parser.add_argument("--num-candidates", type=count, default=50, help="length of the list (default: 50)")
    _add_server(parser)
    parser.add_argument(
        "--exclude", nargs="+", action="extend", metavar="ITEM", help="item ids that must not come back"
    )
    parser.add_argument(
        "--seen", choices=SEEN_RULES, help="items of the history in the list (default: the bundle's own rule)"
    )
    parser.add_argument(
        "--where",
        nargs="+",
        action="extend",
        metavar="CONDITION",
        help='conditions on attributes of the bundle, such as in_stock=true "price<=20" "brand!=acme"',
    )
    parser.add_argument(
        "--allow", nargs="+", action="extend", metavar="ITEM", help="the only item ids that may come back"
    )
    add_cluster_flags(parser)


def run(arguments: argparse.Namespace) -> None:
    """Sends the history of one user, the events before the test target, and shows the answer."""
    from tfdnc.cli.query_answer import query

    query(arguments)


def _add_user(parser: argparse.ArgumentParser) -> None:
    user = parser.add_mutually_exclusive_group()
    user.add_argument("--user", help="user id of the log (default: the first one with an event held out for testing)")
    user.add_argument("--history", nargs="*", metavar="ITEM", help="item ids, oldest first, of a user not in the log")
    parser.add_argument(
        "--history-times", type=int, nargs="*", metavar="TIME", help="times of --history, as in the log"
    )
    parser.add_argument("--request-time", type=int, metavar="TIME", help="when the user of --history asks")
    parser.add_argument(
        "--features",
        nargs="+",
        action="extend",
        metavar="NAME=VALUE",
        help="other inputs of the model, such as user_country=DE request_device=phone dwell=3.5,2 (by event) "
        "exposures=17+2571,5 (items passed over after each event)",
    )


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", default="127.0.0.1:8500", help="server address (default: 127.0.0.1:8500)")
    parser.add_argument("--start-server", action="store_true", help="serve the run's bundle for the time of the query")
    parser.add_argument(
        "--wait",
        type=at_least_zero,
        default=120.0,
        metavar="SECONDS",
        help="for a server that is starting (default: 120)",
    )
    shared_flags.add_model_name(parser, "name the server has for the bundle")
    parser.add_argument("--label", help="label of the version to ask, such as stable (default: the latest version)")
    shared_flags.add_tls(parser)
