"""The choice between a learned intent and untrained ones, against numbers by hand."""

import numpy as np
import pytest

from tfdnc.contracts.config import ExperimentConfig, ModelConfig, TrainConfig, parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.evaluation.served_intent import ListsOfIntent, choose, difference, intent_choice, replaces
from tfdnc.model.tower import Tower
from tfdnc.training.served_intent import ServedIntent

OBJECTIVE = "ndcg@10"


def test_the_difference_is_paired_by_user():
    """Differences .1, .3, .2: their mean is .2, their deviation .1."""
    mean, error = difference(np.array([0.6, 0.5, 0.2]), np.array([0.5, 0.2, 0.0]))
    assert mean == pytest.approx(0.2)
    assert error == pytest.approx(0.1 / 3**0.5)
    assert difference(np.array([0.5]), np.array([0.2])) == (pytest.approx(0.3), 0.0)


@pytest.mark.parametrize(
    ("gain", "fewer_nats", "expected"),
    [
        (0.03, False, True),  # clearly better lists
        (0.01, False, False),  # level lists
        (0.01, True, True),
        (-0.01, True, True),
        (-0.03, True, False),  # clearly worse lists, however likely the clusters are
        (0.0, False, False),
    ],
)
def test_lists_decide_and_where_they_are_level_the_likelihood(gain, fewer_nats, expected):
    assert replaces(gain, 0.02, fewer_nats) == expected


def test_a_merge_that_reads_no_intent_leaves_the_choice_to_the_likelihood():
    assert replaces(0.0, 0.0, fewer_nats=True)
    assert not replaces(0.0, 0.0, fewer_nats=False)


def lists(gains, nats):
    gains = np.array(gains)
    return ListsOfIntent(gains, {OBJECTIVE: float(gains.mean()), "intent_nll": nats})


LEARNED = lists([0.5, 0.5, 0.0, 0.0], 2.0)
BETTER, BEST = lists([0.6, 0.7, 0.1, 0.2], 2.5), lists([0.8, 0.7, 0.3, 0.2], 2.5)
WORSE = lists([0.4, 0.3, 0.0, 0.0], 1.5)


@pytest.mark.parametrize(
    ("prior", "history", "served"),
    [(WORSE, WORSE, "learned"), (WORSE, BETTER, "history"), (BETTER, WORSE, "prior"), (BEST, BETTER, "prior")],
)
def test_of_those_that_replace_the_learned_one_the_best_lists_serve(prior, history, served):
    choice = choose("head", OBJECTIVE, {"learned": LEARNED, "prior": prior, "history": history})
    assert (choice.learned, choice.served, choice.objective) == ("head", served, OBJECTIVE)
    assert choice.figures["learned"] == LEARNED.figures
    assert choice.figures["prior"].items() >= prior.figures.items()
    assert (choice.text is None) == (served == "learned")


def test_the_sentence_has_both_figures_of_both():
    choice = choose("head", OBJECTIVE, {"learned": LEARNED, "prior": WORSE, "history": BETTER})
    assert choice.figures["history"]["difference"] == pytest.approx(0.15)
    assert choice.figures["history"]["standard_error"] == pytest.approx(0.0577 / 2, abs=1e-4)
    assert choice.text == (
        "the shares of the user's own history serve as intent in place of the learned one (head), by lists on "
        "validation: ndcg@10 0.4000, learned 0.2500; 2.500 nats, learned 2.000. Keep the learned one by "
        "train.served_intent: learned"
    )


def config_with(intent="auto", **train) -> ExperimentConfig:
    return parse_config(
        {"name": "x", "model": {"intent": intent, "dim": 4, "blocks": 1, "max_length": 4}, "train": train}
    )


def chosen(config: ExperimentConfig, by_intent) -> ServedIntent | None:
    tower = Tower.make(config.model, config.train, (0, 3, 6), 1)
    return intent_choice(config, OBJECTIVE, by_intent)(tower)


def no_lists(tower):
    raise AssertionError("lists were made of a config that leaves nothing to choose")


@pytest.mark.parametrize("intent", ["head", "partition", "history"])
def test_an_intent_that_the_config_names_is_not_replaced(intent):
    assert chosen(config_with(intent), no_lists) is None
    assert chosen(config_with(intent_weight=0), no_lists) is None
    assert chosen(config_with(served_intent="learned"), no_lists) is None


def test_an_intent_that_is_named_to_serve_is_not_chosen():
    choice = chosen(config_with("head", served_intent="prior"), no_lists)
    assert (choice.learned, choice.served, choice.figures) == ("head", "prior", {})
    assert choice.text.startswith("the shares of all training events serve in place of the learned intent (head)")


def test_without_held_out_events_the_learned_intent_stays_and_it_is_said():
    choice = chosen(config_with(), None)
    assert choice.served == "learned"
    assert "partition" in choice.text
    assert "--final" in choice.text


def test_an_intent_is_named_to_serve_only_in_place_of_a_learned_one():
    with pytest.raises(UserError, match=r"not with model\.intent: history"):
        config_with("history", served_intent="prior")
    with pytest.raises(UserError, match=r"not with train\.intent_weight: 0"):
        config_with(intent_weight=0, served_intent="history")


def test_a_tower_with_another_intent_has_the_same_user_vectors():
    config, train = ModelConfig(dim=4, blocks=1, max_length=4), TrainConfig()
    tower, history = (
        Tower.make(config, train, (0, 3, 6), 1, np.array([1, 2, 3, 1, 1, 1])),
        np.array([[1, 2, 5]], np.int32),
    )
    for kind, shares in (("history", [3 / 5, 2 / 5]), ("prior", [6 / 9, 3 / 9])):
        vectors, log_intent = tower.with_intent(kind).user_vectors(history)
        np.testing.assert_array_equal(vectors, tower.user_vectors(history)[0])
        np.testing.assert_allclose(np.exp(log_intent), [shares], atol=1e-3)
