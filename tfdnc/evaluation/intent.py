"""Figures of the intent model, which predicts the cluster of the next item: accuracy, likelihood, calibration."""

from typing import Any

import numpy as np

from tfdnc.contracts.items import ItemTable
from tfdnc.model.intent import UntrainedKind
from tfdnc.training.records import HeldOutRecords

BINS = 10
"""Number of equal-width bins of confidence in reliability tables."""

UNTRAINED: dict[UntrainedKind, str] = {
    "prior": "the shares of all training events",
    "history": "the shares of the user's own history",
}
"""Intents that need no training, in words."""


def intent_figures(log_intent: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Returns accuracy and negative log-likelihood (nats) of `[U, K]` log-probabilities of the `[U]` clusters."""
    return {
        "intent_accuracy": float(np.mean(log_intent.argmax(axis=1) == clusters)),
        "intent_nll": negative_log_likelihood(log_intent, clusters),
    }


def baseline_figures(records: HeldOutRecords, items: ItemTable) -> dict[str, float]:
    """Returns the negative log-likelihood, in nats, of two baselines: the training prior, and the user's history."""
    prior = np.broadcast_to(np.log(items.cluster_prior()), [len(records.targets), items.num_clusters])
    history = history_log_shares(items.clusters[records.items - 1], records.splits, items.num_clusters)
    return {
        "intent_nll_prior": negative_log_likelihood(prior, records.target_clusters),
        "intent_nll_history": negative_log_likelihood(history, records.target_clusters),
    }


def intent_check(log_intent: np.ndarray, records: HeldOutRecords, items: ItemTable, kind: str) -> dict[str, Any]:
    """Compares an intent that the config names with baselines that need no training, by the likelihood.

    Args:
        log_intent: `[U, K]` of the users of `records`.
        records: of validation, so that a choice by this does not look at the test part.
        items: the item table.
        kind: that of the intent model.

    Returns:
        Figures and baselines of the intent, `no_better_than` (names of baselines) and `advice` (None, or a text).
    """
    figures = intent_figures(log_intent, records.target_clusters) | baseline_figures(records, items)
    own = figures["intent_nll"]
    beaten = [name for name in UNTRAINED if figures[f"intent_nll_{name}"] <= own]
    if not beaten:
        return {**figures, "no_better_than": [], "advice": None}
    named = " and ".join(f"{UNTRAINED[name]} ({figures[f'intent_nll_{name}']:.3f})" for name in beaten)
    advice = (
        f"The intent model ({kind}) is no better than {named}: {own:.3f} nats on validation. Lists are divided among "
        "clusters by its probabilities. Set model.intent: auto, and train again: it takes what makes the better lists."
    )
    return {**figures, "no_better_than": beaten, "advice": advice}


def negative_log_likelihood(log_intent: np.ndarray, clusters: np.ndarray) -> float:
    """Returns the mean of -log p(cluster of the target), in nats, from `[U, K]` and `[U]`."""
    return float(0 - np.mean(log_intent[np.arange(len(clusters)), clusters]))  # 0 - 0 is 0, and -(0.0) is "-0.0"


def history_log_shares(clusters: np.ndarray, splits: np.ndarray, num_clusters: int) -> np.ndarray:
    """Returns the logarithms of every user's shares of events in each cluster, with add-one smoothing.

    Args:
        clusters: `[E]` cluster of every event, those of user u at splits[u] .. splits[u + 1] - 1.
        splits: `[U + 1]`.
        num_clusters: K.

    Returns:
        `[U, K]` log((events in cluster k + 1) / (events + K)).
    """
    users = len(splits) - 1
    owners = np.repeat(np.arange(users), np.diff(splits))
    events = np.bincount(owners * num_clusters + clusters, minlength=users * num_clusters).reshape(users, num_clusters)
    return np.log((events + 1) / (np.diff(splits)[:, None] + num_clusters))


def last_events(splits: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which events are among the last ones of their user, `[E]` bool, and the splits `[U + 1]` of these.

    Args:
        splits: `[U + 1]` of all events, those of user u at splits[u] .. splits[u + 1] - 1.
        most: events of a user.
    """
    lengths = np.diff(splits)
    kept = np.arange(splits[-1]) >= np.repeat(splits[1:] - most, lengths)
    return kept, np.concatenate([[0], np.cumsum(np.minimum(lengths, most))])


def calibration(log_intent: np.ndarray, clusters: np.ndarray) -> dict[str, Any]:
    """Compares the probabilities of the intent model with the frequencies of the clusters.

    Args:
        log_intent: `[U, K]`.
        clusters: `[U]` clusters of the targets.

    Returns:
        `bins` and `ece` of the predicted (likeliest) clusters, see `reliability`; `all_clusters`: the same for all
        U * K statements "the next item is in cluster k", on which quotas depend.
    """
    probabilities = np.exp(log_intent.astype(np.float64))
    predicted = probabilities.argmax(axis=1)
    true = clusters[:, None] == np.arange(probabilities.shape[1])
    return {
        **reliability(probabilities[np.arange(len(clusters)), predicted], predicted == clusters),
        "all_clusters": reliability(probabilities.ravel(), true.ravel()),
    }


def reliability(confidence: np.ndarray, correct: np.ndarray) -> dict[str, Any]:
    """Returns confidence and accuracy in bins [0, 0.1), ..., [0.9, 1].

    Args:
        confidence: `[S]` probabilities of S statements.
        correct: `[S]` bool, True for a true statement.

    Returns:
        `bins`: for each of ten bins `confidence` (mean), `accuracy` (share of true statements) and `count`; the first
        two are None in an empty bin. `ece`: expected calibration error, the mean over statements of
        |accuracy - confidence| of their bin (Guo et al. 2017).
    """
    number = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(number, minlength=BINS)
    predicted = np.bincount(number, weights=confidence, minlength=BINS)
    true = np.bincount(number, weights=correct, minlength=BINS)
    bins = [
        {"confidence": expected / n if n else None, "accuracy": observed / n if n else None, "count": n}
        for expected, observed, n in zip(predicted.tolist(), true.tolist(), count.tolist(), strict=True)
    ]
    return {"bins": bins, "ece": float(np.abs(true - predicted).sum() / max(1, count.sum()))}
