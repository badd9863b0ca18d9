"""Answers of one version of a bundle to questions: lists, and the latency of single requests."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from serving import messages
from serving.bundles import replay
from serving.bundles.questions import Questions
from serving.bundles.verify import check_manifest
from tfdnc.contracts.bundle import ITEM_IDS_ASSET
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.request_inputs import manifest_features

_BATCH = 32
_TIMED = 100
"""Timed requests of one user each."""

_WARM_UP = 5
"""Requests before the timed ones; these build executors."""


class Answers(NamedTuple):
    """The lists of one version.

    Attributes:
        path: Folder of the version.
        lists: [U] item ids, best first.
        clusters: [U] names of the clusters of the items in each list.
        catalogue: Ids of all items of the version.
        latency_ms: Median milliseconds of a request for one user, in one process, without a network.
        megabytes: Size of the folder.
    """

    path: Path
    lists: list[list[str]]
    clusters: list[list[str]]
    catalogue: frozenset[str]
    latency_ms: float
    megabytes: float


def ask(path: Path, questions: Questions, num_candidates: int) -> Answers:
    """Returns the answers of the version at `path`, loaded by a fresh process.

    Args:
        path: Folder of a version of a tfdnc bundle.
        questions: Questions of U users.
        num_candidates: Length of the lists.

    Raises:
        UserError: No bundle, a bundle with shorter lists, one that reads times which the questions lack, or a failure.
    """
    manifest = check_manifest(path)
    config = manifest["config"]
    most, features = config["export"]["max_candidates"], manifest_features(config)
    if num_candidates > most:
        raise UserError(
            f"Expected lists of at most {most} items from {path}, asked were {num_candidates}: lower the cut-off, or "
            "export with a larger export.max_candidates."
        )
    missing = dict.fromkeys(feature.name for feature in features if feature not in questions.features)
    if missing:
        raise UserError(
            f"Expected a log with {', '.join(missing)} of every event for {path}, whose model reads them. Name their "
            "columns in the config of the newer bundle."
        )
    users = range(len(questions.histories))
    timed = [users[number % len(users)] for number in range(_WARM_UP + _TIMED)]
    requests = [
        *questions.requests(timed, num_candidates, features, 1),
        *questions.requests(users, num_candidates, features, _BATCH),
    ]
    answered = replay.ask_fresh_process(path, requests)
    retrievals = [one for response in answered.responses[len(timed) :] for one in messages.read_retrievals(response)]
    names = manifest["cluster_names"]
    return Answers(
        path=path,
        lists=[retrieval.item_ids for retrieval in retrievals],
        clusters=[_names(retrieval.cluster_ids.tolist(), names) for retrieval in retrievals],
        catalogue=read_catalogue(path, manifest["items"]),
        latency_ms=1000 * statistics.median(answered.seconds[_WARM_UP : len(timed)]),
        megabytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6,
    )


def _names(clusters: Sequence[int], names: Sequence[str]) -> list[str]:
    return [names[cluster] for cluster in clusters]


def read_catalogue(path: Path, size: int) -> frozenset[str]:
    """Returns the ids of the items that lists of the version at `path` may hold: the first `size` of its file.

    The others are understood in histories only.

    Raises:
        UserError: The version lacks the file.
    """
    file = path / ITEM_IDS_ASSET
    if not file.is_file():
        raise UserError(f"Expected the item ids of a tfdnc bundle in {file}, found no file. Export the version again.")
    return frozenset(file.read_text(encoding="utf-8").removesuffix("\n").split("\n")[:size])
