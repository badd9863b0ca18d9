"""Figures of the lists on validation targets, by which training picks the best epoch and the intent that serves."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.items import cluster_prior
from tfdnc.evaluation import metrics
from tfdnc.evaluation.evaluator import Evaluator, Lists
from tfdnc.evaluation.intent import history_log_shares, intent_figures, last_events
from tfdnc.evaluation.served_intent import ListsOfIntent
from tfdnc.evaluation.tally import ClusterTally, RankTally
from tfdnc.model.tower import Tower
from tfdnc.training.records import HeldOutRecords
from tfdnc.training.served_intent import LEARNED


def validation_objective(config: ExperimentConfig) -> str:
    """Returns the name of the figure that picks the best epoch: NDCG of the longest list.

    It changes with every change of a target's rank, and is therefore the least noisy of the figures.
    """
    return f"ndcg@{max(config.evaluate.candidates)}"


class Validator:
    """Lists of the configured merge on validation targets, with one compiled graph for a whole training.

    Args:
        config: the experiment.
        records: the validation targets.
    """

    def __init__(self, config: ExperimentConfig, records: HeldOutRecords) -> None:
        self._config = config
        self._records = records
        self._evaluator = functools.cache(self._make_evaluator)

    def __call__(self, tower: Tower) -> dict[str, float]:
        """Returns the figures of a tower with its present weights and its own intent."""
        tally = self._tally(tower)
        ranked = self._evaluator(tower).run(self._records, [tally.add])
        if tower.num_clusters == 1:  # the only cluster is always right, so accuracy has no meaning
            return tally.figures()
        return tally.figures() | intent_figures(ranked.log_intent, self._records.target_clusters)

    def by_intent(self, tower: Tower) -> Mapping[str, ListsOfIntent]:
        """Returns the lists of a tower with its present weights by its `learned` intent, and by each untrained one."""
        records, num_clusters = self._records, tower.num_clusters
        read, splits = last_events(records.splits, tower.max_length)
        clusters = np.searchsorted(tower.offsets[1:], records.items[read] - 1, side="right")
        prior = np.log(cluster_prior(tower.counts, tower.offsets))
        untrained = {
            "history": history_log_shares(clusters, splits, num_clusters),
            "prior": np.broadcast_to(prior, [len(records.targets), num_clusters]),
        }
        tallies = {kind: self._tally(tower) for kind in (LEARNED, *untrained)}
        sinks = [tally.add for tally in tallies.values()]
        ranked = self._evaluator(tower).run(records, sinks, intents=list(untrained.values()))
        longest, shares = max(self._config.evaluate.candidates), {LEARNED: ranked.log_intent, **untrained}
        return {
            kind: ListsOfIntent(
                metrics.gains(tally.ranks.ranks, longest),
                tally.figures() | intent_figures(shares[kind], records.target_clusters),
            )
            for kind, tally in tallies.items()
        }

    def _make_evaluator(self, tower: Tower) -> Evaluator:
        config = self._config
        return Evaluator(tower, config.merge, max(config.evaluate.candidates), allows_seen=config.data.allows_seen)

    def _tally(self, tower: Tower) -> "_Tally":
        return _Tally(self._records.targets, self._config.evaluate.candidates, tower.num_clusters)


class _Tally:
    """Ranks of the targets in the lists, and spread of the lists over the clusters."""

    def __init__(self, targets: np.ndarray, sizes: Sequence[int], num_clusters: int) -> None:
        self._sizes = sizes
        self.ranks = RankTally(targets)
        self._spread = ClusterTally(len(targets), sizes, num_clusters)

    def add(self, users: np.ndarray, lists: Lists) -> None:
        """Adds the lists of the users with these rows `[B]`."""
        self.ranks.add(users, lists)
        self._spread.add(users, lists)

    def figures(self) -> dict[str, float]:
        """Returns `recall@m`, `ndcg@m`, and with several clusters `coverage@m` and `entropy@m`."""
        return self.ranks.figures(self._sizes) | self._spread.figures()
