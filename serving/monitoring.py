"""Monitoring of bundles: counts what a version answers, at little cost, and without ever failing a request."""

import itertools
import logging
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from serving.bundles import bundle
from serving.deadline import Abandoned
from serving.known_items import KnownItems
from serving.list_metrics import ListMetrics
from serving.loaded_version import Load, LoadedVersion
from serving.observations import Observation, read_histories, read_lists
from tfdnc.contracts import bundle as contract

_LOG = logging.getLogger(__name__)

BATCH = 32
"""Requests that are counted together. Alone, each would take several times as long: after a run of the graph nothing of
the counting is in the processor's caches."""

_BATCH_IDS = 1 << 14
"""Ids in the histories of a batch: of larger requests fewer are kept, for they take memory."""

_OF_LISTS = {contract.ITEM_IDS, contract.NUM_RESULTS, contract.QUOTAS}


def monitored(load: Load, metrics: ListMetrics) -> Load:
    """Returns `load`, with the answers of bundles counted; versions of other models stay as they are.

    A bundle is recognised by the outputs of its signatures.
    """

    def load_monitored(name: str, version: int, path: Path) -> LoadedVersion:
        servable = load(name, version, path)
        with_lists = {key for key, signature in servable.signatures.items() if signature.outputs.keys() >= _OF_LISTS}
        return MonitoredVersion(servable, metrics, with_lists) if with_lists else servable

    return load_monitored


def unmonitored(version: LoadedVersion) -> LoadedVersion:
    """Returns the version whose answers are not counted, to be asked by others than clients."""
    return version.servable if isinstance(version, MonitoredVersion) else version


class MonitoredVersion:
    """A version of a bundle whose answers are counted.

    Args:
        servable: The version; closed with this.
        metrics: Counts.
        with_lists: Names of the signatures that answer with lists.

    Attributes:
        servable: As given.
    """

    def __init__(self, servable: LoadedVersion, metrics: ListMetrics, with_lists: set[str]) -> None:
        self.name, self.version, self.path = servable.name, servable.version, servable.path
        self.signatures, self.signature = servable.signatures, servable.signature
        self.interrupt = servable.interrupt
        self.servable, self._metrics, self._with_lists = servable, metrics, with_lists
        self._labels = (servable.name, str(servable.version))
        # `search` reads a history only to leave out what was seen: an empty one says nothing of the user.
        self._with_histories = {
            key
            for key, signature in servable.signatures.items()
            if contract.HISTORY in signature.inputs and contract.INTENT in signature.outputs
        }
        self._cluster_names: list[str] = bundle.read_manifest(servable.path).get("cluster_names") or []
        self._known = _known_items(servable.path)
        self._lock = threading.Lock()
        self._waiting: list[tuple] = []  # fields of `Observation`s
        self._waiting_ids = 0
        self._has_reported = False
        metrics.begin(*self._labels, self.count)

    def run(
        self,
        key: str,
        feeds: Mapping[str, np.ndarray],
        outputs: Iterable[str],
        deadline: float | None = None,
        abandoned: Abandoned | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns the requested outputs of a signature, and counts what they show; see `Servable.run`."""
        results = self.servable.run(key, feeds, outputs, deadline, abandoned)
        if key in self._with_histories or key in self._with_lists:
            self._observe(key, feeds, results)
        return results

    def _observe(self, key: str, feeds: Mapping[str, np.ndarray], results: Mapping[str, np.ndarray]) -> None:
        """Keeps what is to be counted of an answer; cannot fail, whatever it looks like."""
        history, asked, items = (
            feeds.get(contract.HISTORY),
            feeds.get(contract.NUM_CANDIDATES),
            results.get(contract.ITEM_IDS),
        )
        if asked is None and items is not None:
            asked = items.shape[-1]  # the answer of `serving_default` is as wide as its lists
        minimum, lengths, quotas = (
            feeds.get(contract.CLUSTER_MIN),
            results.get(contract.NUM_RESULTS),
            results.get(contract.QUOTAS),
        )
        # A plain tuple: a named one takes several times as long, here where nothing is in the processor's caches.
        seen = (key, history, asked, minimum, lengths, quotas)
        with self._lock:
            self._waiting.append(seen)
            self._waiting_ids += 0 if history is None else history.size
            is_full = len(self._waiting) >= BATCH or self._waiting_ids >= _BATCH_IDS
        if is_full:
            self.count()

    def count(self) -> None:
        """Counts all answers that wait for it."""
        with self._lock:
            waiting, self._waiting, self._waiting_ids = self._waiting, [], 0
        try:
            self._count(waiting)
        except Exception:  # one of them is not what a bundle answers: find out which
            for seen in waiting:
                try:
                    self._count([seen])
                except Exception as error:
                    self._pass_over(error)

    def _count(self, waiting: list[tuple]) -> None:
        """Counts answers, all or none of them: everything is read before anything is counted."""
        observations = list(itertools.starmap(Observation, waiting))
        histories = [_history_of(seen) for seen in observations if seen.signature in self._with_histories]
        answers = [seen for seen in observations if seen.signature in self._with_lists]
        read = read_histories(histories, self._known) if histories else None
        lists = read_lists(answers) if answers else None
        if read is not None:
            self._metrics.observe_histories(*self._labels, read)
        if lists is not None:
            self._metrics.observe_lists(*self._labels, self._cluster_names, lists)

    def close(self) -> None:
        """Frees the version, and removes its series."""
        self._metrics.forget(*self._labels)
        self.servable.close()

    def _pass_over(self, error: Exception) -> None:
        """Counts a request that is in no other metric, and logs the first one."""
        self._metrics.observe_unmonitored(*self._labels)
        if not self._has_reported:
            self._has_reported = True
            _LOG.warning("an answer of model %s version %s was not monitored: %r", *self._labels, error)


def _known_items(version: Path) -> KnownItems | None:
    try:
        return KnownItems.read(version)
    except OSError:  # the graph has its own copy: the version can answer
        _LOG.exception("unknown ids are not counted: the item ids of %s cannot be read", version)
        return None


def _history_of(seen: Observation) -> np.ndarray:
    if seen.history is None:
        raise ValueError(f"Expected a history in a request to {seen.signature}, found none.")
    return seen.history
