"""Choice of the intent that serves, on validation: the learned one, or an untrained one with lists that are no worse.

Lists decide, not the likelihood of the clusters: a head with more nats than the user's own history can still make the
better lists (docs/results.md). Where lists are level, within one standard error, the likelihood decides.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from tfdnc.contracts.config import ExperimentConfig
from tfdnc.evaluation.intent import UNTRAINED
from tfdnc.model.intent import UntrainedKind
from tfdnc.model.tower import Tower
from tfdnc.training.served_intent import LEARNED, Figures, ServedIntent


class ListsOfIntent(NamedTuple):
    """Lists by one intent, on validation."""

    gains: np.ndarray  # [U] gain of each user in the objective, whose mean it is
    figures: Figures  # of all users, `intent_nll` among them


ByIntent = Callable[[Tower], Mapping[str, ListsOfIntent]]
"""Tower -> lists by the `learned` intent and by each of `UNTRAINED`."""


def difference(gains: np.ndarray, learned: np.ndarray) -> tuple[float, float]:
    """Returns the mean of `gains - learned`, both `[U]` of the same users, and its standard error (0 for one user)."""
    each = gains - learned
    deviation = float(np.std(each, ddof=1)) if len(each) > 1 else 0.0
    return float(np.mean(each)), deviation / len(each) ** 0.5


def replaces(gain: float, standard_error: float, fewer_nats: bool) -> bool:
    """Returns True if an untrained intent should serve in place of the learned one.

    The margin is one standard error, so that models of one log do not go back and forth by chance. Where lists do not
    tell the intents apart, as with a merge that reads none, only a larger likelihood is a reason.

    Args:
        gain: its mean gain over the learned one.
        standard_error: of the gain.
        fewer_nats: whether it gives the clusters of the targets a larger likelihood.
    """
    return gain > standard_error or (gain >= -standard_error and fewer_nats)


def choose(learned_kind: str, objective: str, lists: Mapping[str, ListsOfIntent]) -> ServedIntent:
    """Returns the intent that serves: of those that replace the learned one the one with the best lists.

    Args:
        learned_kind: kind of the learned intent.
        objective: name of the figure whose gains are compared.
        lists: as `ByIntent` returns them.
    """
    learned, figures = lists[LEARNED], {LEARNED: lists[LEARNED].figures}
    better: list[UntrainedKind] = []
    for kind in UNTRAINED:
        gain, error = difference(lists[kind].gains, learned.gains)
        figures[kind] = {**lists[kind].figures, "difference": gain, "standard_error": error}
        if replaces(gain, error, figures[kind]["intent_nll"] < learned.figures["intent_nll"]):
            better.append(kind)
    if not better:
        return ServedIntent(learned_kind, LEARNED, objective, figures)
    best = max(better, key=lambda kind: figures[kind][objective])
    return ServedIntent(learned_kind, best, objective, figures, _sentence(learned_kind, best, objective, figures))


def intent_choice(
    config: ExperimentConfig, objective: str, by_intent: ByIntent | None
) -> Callable[[Tower], ServedIntent | None]:
    """Returns a function tower with the best weights -> the intent that serves; None where there is nothing to choose.

    Args:
        config: the experiment; `served_intent` says whether validation decides.
        objective: name of the figure that picks the best epoch.
        by_intent: makes lists of the validation targets; None where nothing is held out.
    """

    def choice(tower: Tower) -> ServedIntent | None:
        named, kind = config.served_intent, tower.intent.kind
        if not tower.intent.trainable or named == LEARNED:
            return None
        if named != "auto":
            text = f"{UNTRAINED[named]} serve in place of the learned intent ({kind}), as train.served_intent says"
            return ServedIntent(kind, named, text=text)
        if by_intent is None:
            text = (
                f"the learned intent ({kind}) serves, as nothing is held out to compare it with others: `tfdnc run "
                "--final` takes the choice of a run with held-out events, train.served_intent names one"
            )
            return ServedIntent(kind, LEARNED, text=text)
        return choose(kind, objective, by_intent(tower))

    return choice


def _sentence(learned_kind: str, served: UntrainedKind, objective: str, figures: Mapping[str, Figures]) -> str:
    untrained, learned = figures[served], figures[LEARNED]
    return (
        f"{UNTRAINED[served]} serve as intent in place of the learned one ({learned_kind}), by lists on validation: "
        f"{objective} {untrained[objective]:.4f}, learned {learned[objective]:.4f}; "
        f"{untrained['intent_nll']:.3f} nats, learned {learned['intent_nll']:.3f}. Keep the learned one by "
        "train.served_intent: learned"
    )
