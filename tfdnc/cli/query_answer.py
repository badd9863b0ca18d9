"""The work of `tfdnc query`: shows a user, the user's history, and the candidates of a server by cluster."""

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.text import Text

from serving.bundles.bundle import read_manifest as read_bundle_manifest
from serving.bundles.verify import find_version
from serving.client import Retrieval, RetrievalClient, RetrievalError, Tls
from serving.client.refusals import means_other_inputs
from serving.messages import known_arguments
from tfdnc.cli import screen
from tfdnc.cli.cluster_flags import cluster_controls
from tfdnc.cli.query_features import shown_features
from tfdnc.cli.query_rules import shown_rules
from tfdnc.cli.query_user import find_user
from tfdnc.cli.reach import await_model, other_bundle, unknown_model
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature
from tfdnc.contracts.items import ItemTable, read_items
from tfdnc.contracts.request_inputs import manifest_features
from tfdnc.operations.run_users import User
from tfdnc.operations.shown_items import shown_items
from tfdnc.pipeline import stations
from tfdnc.pipeline.manifests import read_manifest

_SHOWN_HISTORY = 8
_SHOWN_PER_CLUSTER = 5


def query(arguments: argparse.Namespace) -> None:
    """Sends one user's history, the events before the test target, and shows the answer."""
    if arguments.start_server and (arguments.tls_roots or arguments.label):
        raise UserError(
            "Expected --start-server or the --tls-roots and --label of a server that runs, got both: the server of a "
            "query has neither. Drop one."
        )
    run = arguments.run or _newest_run(arguments.runs)
    # The bundle's own config is read, because a later command may have rewritten that of the run.
    version = find_version(run / stations.EXPORT.folder)
    manifest = read_bundle_manifest(version)
    items = read_items(run / stations.CLUSTER.folder)
    if manifest["cluster_names"] != items.cluster_names:  # the screen would show wrong names
        raise UserError(f"The clusters of {run} are newer than its bundle: run `tfdnc export` on its config first.")
    features = manifest_features(manifest["config"])
    items = shown_items(items, version)
    user = find_user(arguments, run, items, features)
    tls = Tls(arguments.tls_roots) if arguments.tls_roots else None
    with (
        _target(arguments, run) as target,
        RetrievalClient(target, arguments.model_name, label=arguments.label, tls=tls) as client,
    ):
        try:
            await_model(client, arguments.wait)
            answer = _ask(client, user, features, arguments)
            served = client.cluster_names()
        except RetrievalError as error:
            if means_other_inputs(error.said):
                difference = "its model takes other inputs than the bundle of the run"
                raise other_bundle(target, run, difference, newest=not arguments.run) from error
            if error.code is not grpc.StatusCode.NOT_FOUND or arguments.label:
                raise
            names = {contract.MODEL_NAME, *(folder.name for folder in run.parent.iterdir())}
            raise unknown_model(target, arguments.model_name, names, tls) from error
    if served != items.cluster_names or not set(answer.item_ids) <= set(items.item_ids):
        difference = "its clusters or items are not those of this run, in number, name or order"
        raise other_bundle(target, run, difference, newest=not arguments.run)
    _show_user(run, user, items)
    if beside := shown_features(user.known, features):
        screen.console.print(f"Asked with {beside}.", soft_wrap=True)
    if rules := shown_rules(arguments, manifest):
        screen.console.print(rules, soft_wrap=True)
    _show_answer(answer, user, items, _merge_of(arguments))


def _ask(client: RetrievalClient, user: User, features: Sequence[Feature], arguments: argparse.Namespace) -> Retrieval:
    controls: dict[str, Any] = {"exclude": [arguments.exclude]} if arguments.exclude else {}
    controls |= {"where": arguments.where} if arguments.where else {}
    controls |= {"allow": [arguments.allow]} if arguments.allow else {}
    if arguments.seen is not None:
        controls["seen"] = arguments.seen
    if arguments.joint_alpha is not None:
        controls["joint_alpha"] = arguments.joint_alpha
    controls |= cluster_controls(arguments)
    controls |= known_arguments(features, [user.known])
    try:
        [answer] = client.retrieve([user.history], arguments.num_candidates, arguments.alpha, **controls)
    except ValueError as error:  # an unknown cluster, bounds that contradict each other, no condition
        raise UserError(str(error)) from error
    return answer


def _newest_run(runs: Path) -> Path:
    bundles = [folder for folder in runs.glob(f"*/{stations.EXPORT.folder}") if read_manifest(folder)]
    if not bundles:
        raise UserError(f"Expected a run with a bundle in {runs}, found none: run `tfdnc run CONFIG` first.")
    return max(bundles, key=lambda folder: folder.stat().st_mtime).parent


@contextlib.contextmanager
def _target(arguments: argparse.Namespace, run: Path) -> Iterator[str]:
    """Yields the address of a running server, or of one started for this query."""
    if not arguments.start_server:
        yield arguments.target
        return
    from serving.server import running

    with running(run / stations.EXPORT.folder, model_name=arguments.model_name) as server:
        screen.console.print(f"Started an embedded server at {server.address}")
        yield server.address


def _show_user(run: Path, user: User, items: ItemTable) -> None:
    row_of = _rows_by_id(items)
    known = [row_of[item] for item in user.history if item in row_of]
    shown = known[-_SHOWN_HISTORY:]
    name = "A user with this history" if user.name is None else f"User {user.name}"
    table = screen.table(f"{name} of {run}: {len(known)} events, the latest", "", "item", "cluster")
    for age, row in zip(range(len(shown), 0, -1), shown, strict=True):
        table.add_row(f"-{age}", items.titles[row], _cluster_of(row, items))
    if user.held_out is not None:
        row = row_of[user.held_out]
        table.add_row("next", Text(items.titles[row], style="bold"), _cluster_of(row, items), end_section=True)
    screen.console.print(table)


def _merge_of(arguments: argparse.Namespace) -> str:
    if arguments.quotas:
        return "the given quotas"
    for method, alpha in (("quota", arguments.alpha), ("joint", arguments.joint_alpha)):
        if alpha is not None:
            return f"{method}, alpha {alpha:g}"
    return "the bundle's own merge"


def _show_answer(answer: Retrieval, user: User, items: ItemTable, merge: str) -> None:
    title = f"{len(answer.item_ids)} candidates by {merge}"
    table = screen.table(title, "cluster", "intent", "items", "best of them (rank in the list)")
    rank_of = {item_id: rank for rank, item_id in enumerate(answer.item_ids, 1)}
    row_of = _rows_by_id(items)
    for cluster in np.argsort(-answer.intent, kind="stable"):
        own = [i for i, owner in zip(answer.item_ids, answer.cluster_ids, strict=True) if owner == cluster]
        best = [f"{items.titles[row_of[i]]} ({rank_of[i]})" for i in own[:_SHOWN_PER_CLUSTER]]
        bar = ("#" if screen.console.options.ascii_only else "█") * round(10 * answer.intent[cluster])
        intent = f"{answer.intent[cluster]:.3f} {bar}"
        table.add_row(items.cluster_names[cluster], intent, str(answer.quotas[cluster]), ", ".join(best))
    screen.console.print(table)
    if user.name is None:
        return
    if user.held_out is None:
        screen.console.print("No event of this user is held out for testing.\n", soft_wrap=True)
        return
    rank = rank_of.get(user.held_out)
    found = f"at rank {rank}" if rank else "not among them"
    title = items.titles[row_of[user.held_out]]
    screen.console.print(f"The held-out next item, {title}, is {found}.\n", soft_wrap=True)


def _rows_by_id(items: ItemTable) -> dict[str, int]:
    return {item_id: row for row, item_id in enumerate(items.item_ids)}


def _cluster_of(row: int, items: ItemTable) -> str:
    return items.cluster_names[items.clusters[row]]
