"""Figures of lists under a rule, `evaluate.where`, `minimum` and `maximum`: its cost to recall, spread and length."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfdnc.contracts.config import EvaluateConfig
from tfdnc.evaluation import metrics
from tfdnc.evaluation.evaluator import Lists, Sink
from tfdnc.evaluation.figures import ranking_figures
from tfdnc.evaluation.list_bounds import ListBounds
from tfdnc.evaluation.tally import ListTally


class RuleTally:
    """Tallies of the lists under a rule: one for all lengths, but under bounds one for each, because counts differ.

    Args:
        make_tally: `ListTally` with all arguments bound but the lengths.
        targets: `[U]` item indices 1..N.
        settings: the rule and the lengths m.
        bounds: bounds on the lists, None for none.
    """

    def __init__(
        self,
        make_tally: Callable[..., ListTally],
        targets: np.ndarray,
        settings: EvaluateConfig,
        bounds: ListBounds | None,
    ) -> None:
        self._targets, self._settings, self._bounds = targets, settings, bounds
        lengths = [settings.candidates] if bounds is None else [(m,) for m in bounds.lengths]
        self._tallies: list[tuple[Sequence[int], ListTally]] = [(own, make_tally(sizes=own)) for own in lengths]
        self._missed = np.zeros([len(lengths), len(targets)], bool)

    @property
    def sinks(self) -> list[Sink]:
        """Takers of the lists, in the order of `Evaluator.run`."""
        return [self._sink(place) for place in range(len(self._tallies))]

    def figures(self, mask: np.ndarray) -> dict[str, Any]:
        """Returns the entry `filtered` of the report.

        Args:
            mask: `[N]` bool, True for items that pass the conditions.

        Returns:
            `where`; `item_share`, share of the items that pass; `targets`, number of targets that pass; `target_share`;
            the figures of the configured merge, with `recall@m` and `ndcg@m` of the targets that pass, 0 without any;
            and `short_lists@m`, share of the lists with less than m items. Under bounds also `minimum`, `maximum`, and
            `missed_minima@m`, share of the lists that leave a minimum short.
        """
        passing = mask[self._targets - 1]
        shares = {"item_share": float(mask.mean()), "target_share": float(passing.mean())}
        found = {"where": list(self._settings.where), **shares, "targets": int(passing.sum())}
        for sizes, tally in self._tallies:
            ranks = tally.ranks.ranks[passing]
            found |= tally.figures()
            found |= ranking_figures(ranks if len(ranks) else np.array([metrics.NOT_FOUND]), sizes)
        for sizes, tally in self._tallies:
            found |= {f"short_lists@{m}": float(np.mean(tally.ranks.lengths < m)) for m in sizes}
        if self._bounds is None:
            return found
        missed = zip(self._bounds.lengths, self._missed, strict=True)
        return (
            found
            | {"minimum": self._settings.minimum, "maximum": self._settings.maximum}
            | {f"missed_minima@{m}": float(own.mean()) for m, own in missed}
        )

    def _sink(self, place: int) -> Sink:
        bounds, (sizes, tally) = self._bounds, self._tallies[place]

        def add(users: np.ndarray, lists: Lists) -> None:
            tally.add(users, lists)
            if bounds is not None:
                self._missed[place, users] = bounds.missed(lists.rows, max(sizes))

        return add
