"""Figures of lists under a filter, `evaluate.where`: the cost of a rule to recall, spread and length of lists."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfdnc.evaluation import metrics
from tfdnc.evaluation.figures import ranking_figures
from tfdnc.evaluation.tally import ListTally


def filtered_figures(
    tally: ListTally, targets: np.ndarray, mask: np.ndarray, where: Sequence[str], sizes: Sequence[int]
) -> dict[str, Any]:
    """Returns the entry `filtered` of the report.

    Args:
        tally: tally of the lists under the filter, of U users.
        targets: `[U]` item indices 1..N.
        mask: `[N]` bool, True for items that pass.
        where: the conditions.
        sizes: list lengths m to report.

    Returns:
        `where`; `item_share`, share of the items that pass; `targets`, number of targets that pass; `target_share`;
        the figures of the configured merge, with `recall@m` and `ndcg@m` of the targets that pass, 0 without any; and
        `short_lists@m`, share of the lists with less than m items.
    """
    passing = mask[targets - 1]
    ranks = tally.ranks.ranks[passing]
    ranking = ranking_figures(ranks if len(ranks) else np.array([metrics.NOT_FOUND]), sizes)
    short = {f"short_lists@{m}": float(np.mean(tally.ranks.lengths < m)) for m in sizes}
    shares = {"item_share": float(mask.mean()), "target_share": float(passing.mean())}
    counted = {"where": list(where), **shares, "targets": int(passing.sum())}
    return {**counted, **tally.figures(), **ranking, **short}
