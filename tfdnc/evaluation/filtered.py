"""Figures of lists under a filter, `evaluate.where`: the cost of a rule to recall, spread and length of lists."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfdnc.evaluation import metrics
from tfdnc.evaluation.evaluator import Lists
from tfdnc.evaluation.figures import ranking_figures


def filtered_figures(
    lists: Lists,
    targets: np.ndarray,
    mask: np.ndarray,
    where: Sequence[str],
    sizes: Sequence[int],
    figures: Callable[[Lists], dict[str, float]],
) -> dict[str, Any]:
    """Returns the entry `filtered` of the report.

    Args:
        lists: lists under the filter, of U users.
        targets: `[U]` item indices 1..N.
        mask: `[N]` bool, True for items that pass.
        where: the conditions.
        sizes: list lengths m to report.
        figures: all figures of lists, such as their spread.

    Returns:
        `where`; `item_share`, share of the items that pass; `targets`, number of targets that pass; `target_share`;
        the figures of the configured merge, with `recall@m` and `ndcg@m` of the targets that pass, 0 without any; and
        `short_lists@m`, share of the lists with less than m items.
    """
    passing = mask[targets - 1]
    ranks = metrics.ranks(lists.rows, targets - 1)[passing]
    ranking = ranking_figures(ranks if len(ranks) else np.array([metrics.NOT_FOUND]), sizes)
    lengths = (lists.rows >= 0).sum(axis=1)
    short = {f"short_lists@{m}": float(np.mean(lengths < m)) for m in sizes}
    shares = {"item_share": float(mask.mean()), "target_share": float(passing.mean())}
    counted = {"where": list(where), **shares, "targets": int(passing.sum())}
    return {**counted, **figures(lists), **ranking, **short}
