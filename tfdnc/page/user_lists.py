"""Lists of users at several alphas, answered by the bundles of runs, for the slider of the page."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable, read_items
from tfdnc.contracts.request_inputs import manifest_features
from tfdnc.contracts.station_names import StationName
from tfdnc.operations.run_users import User, tested_users
from tfdnc.operations.shown_items import shown_items
from tfdnc.page.runs import Group, Run
from tfdnc.pipeline.manifests import read_manifest

if TYPE_CHECKING:
    from serving.bundles.in_process import Bundle
    from serving.messages import Retrieval

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Stops of the slider."""

ARGUMENTS = {"quota": "alpha", "joint": "joint_alpha"}
"""Merge of the page -> the argument of `Bundle.retrieve` that asks for it."""

USERS = 100
"""Users on the page, unless another number is asked for."""

LENGTH, HISTORY = 20, 50
"""Items of a list, and most items of a history that the page shows."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UserLists:
    """Lists of the first run of each group that has several clusters.

    Attributes:
        alphas: Stops of the slider.
        runs: What the page holds of each run: its name, the names of its clusters, the items by number, and its users.
        missing: Sentences about runs without lists.
    """

    alphas: tuple[float, ...]
    runs: list[dict[str, Any]]
    missing: list[str]


def user_lists(groups: Sequence[Group], count: int) -> UserLists:
    """Asks the bundles of runs for lists of their first `count` users with a held-out item.

    Runs of one cluster have no lists, because alpha changes nothing there.
    """
    made, missing = [], []
    for run in (group.first for group in groups if count and group.first.num_clusters > 1):
        try:
            made.append(_lists_of(run, count))
        except UserError as error:  # the page has the figures of this run all the same, and says what it lacks
            _log.warning("no lists of %s: %s", run.label, error)
            missing.append(f"{run.label}: {error}")
    return UserLists(ALPHAS, made, missing)


def _lists_of(run: Run, count: int) -> dict[str, Any]:
    from serving.bundles.in_process import load_bundle
    from serving.messages import known_arguments

    _check(run)
    with load_bundle(run.path / StationName.EXPORT.folder) as bundle:
        items = shown_items(read_items(run.path / StationName.CLUSTER), bundle.path)
        features = manifest_features(bundle.manifest["config"])
        users = tested_users(run.path, items, features, count)
        _log.info("lists of %s: %d users", run.label, len(users))
        known = known_arguments(features, [user.known for user in users])
        merges = {name: _ask(bundle, users, argument, known) for name, argument in ARGUMENTS.items()}
    return _embedded(run.label, items, users, merges)


def _check(run: Run) -> None:
    """Raises a `UserError` if a run has no bundle of the model that its figures are of."""
    folder = run.path / StationName.EXPORT.folder
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"Expected a finished bundle in {folder}, found none; `tfdnc export` on its config makes one.")
    for station, fingerprint in manifest["inputs"]["stations"].items():
        if station in run.manifests and run.manifests[station]["fingerprint"] != fingerprint:
            raise UserError(
                f"Expected the bundle in {folder} to be of the run's present stations, found one of another {station}; "
                "`tfdnc export` on its config makes a new one."
            )


def _ask(bundle: "Bundle", users: Sequence[User], argument: str, known: dict[str, Any]) -> "list[list[Retrieval]]":
    """Returns the lists of all users, `[alphas][users]`."""
    length = min(LENGTH, bundle.manifest["config"]["export"]["max_candidates"])
    histories = [user.history for user in users]
    return [bundle.retrieve(histories, length, **(known | {argument: alpha})) for alpha in ALPHAS]


def _embedded(
    name: str, items: ItemTable, users: Sequence[User], merges: "dict[str, list[list[Retrieval]]]"
) -> dict[str, Any]:
    """Returns what the page holds of a run; an item that it names is a number in its table of items."""
    numbers: dict[str, int] = {}

    def number(item_id: str) -> int:
        return numbers.setdefault(item_id, len(numbers))

    shown = [
        {
            "id": user.name,
            "history": [number(item) for item in user.history[: -HISTORY - 1 : -1]],  # the latest first
            "earlier": max(0, len(user.history) - HISTORY),
            "heldOut": number(user.held_out) if user.held_out is not None else None,
            "intent": [round(float(share), 4) for share in next(iter(merges.values()))[0][row].intent],
            "lists": {
                merge: [[number(item) for item in of_alpha[row].item_ids] for of_alpha in lists]
                for merge, lists in merges.items()
            },
        }
        for row, user in enumerate(users)
    ]
    row_of = {item_id: row for row, item_id in enumerate(items.item_ids)}
    table = [(items.titles[row_of[item_id]], int(items.clusters[row_of[item_id]])) for item_id in numbers]
    return {"name": name, "clusters": items.cluster_names, "items": table, "users": shown}
