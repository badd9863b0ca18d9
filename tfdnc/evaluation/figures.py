"""Figures of ranks: recall and NDCG of the targets."""

from collections.abc import Sequence

import numpy as np

from tfdnc.evaluation import metrics


def ranking_figures(rank: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    """Returns `recall@m` and `ndcg@m` of the `[U]` ranks of the targets."""
    return recalls(rank, sizes) | {f"ndcg@{m}": metrics.ndcg(rank, m) for m in sizes}


def recalls(rank: np.ndarray, sizes: Sequence[int]) -> dict[str, float]:
    """Returns `recall@m` of the `[U]` ranks of the targets."""
    return {f"recall@{m}": metrics.recall(rank, m) for m in sizes}
