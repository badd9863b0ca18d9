"""Word2Vec within a budget of trained words, on counts that can be checked by hand."""

import numpy as np
import pytest
from gensim.models import Word2Vec

from tfdnc.clustering.budget import Plan, plan_training, words_per_epoch
from tfdnc.contracts.config import ClusterConfig

EVEN = np.full(10, 1_000)  # ten items, ten thousand events


def config(**settings):
    return ClusterConfig(sample=0, epochs=10).model_copy(update=settings)


def test_within_the_budget_the_config_decides():
    assert plan_training(EVEN, config(max_words=100_000)) == Plan(10, 1, sample=0)
    assert plan_training(EVEN, config(max_words=100_000, sample=1e-4)) == Plan(10, 1, sample=0.1)  # 1 / N
    assert plan_training(EVEN, config(max_words=100_000, sample=0.3)) == Plan(10, 1, sample=0.3)


def test_movielens_1m_is_within_the_default_budget():
    assert plan_training(np.full(3_416, 290), ClusterConfig()) == Plan(10, 1, sample=1 / 3_416)


def test_a_sparse_log_gets_more_epochs_by_default():
    """At five events per user, ten epochs trained 77 words per item and left 62 % of the items in one cluster."""
    sparse = np.append(np.full(100, 20), 0)  # an item without events is not trained
    assert plan_training(sparse, ClusterConfig(sample=0)).epochs == 500 / 20
    assert plan_training(sparse, ClusterConfig(sample=0, epochs=3)).epochs == 3
    assert plan_training(sparse, ClusterConfig(sample=0, max_words=10_000)).epochs == 5


def test_epochs_are_given_up_first():
    assert plan_training(EVEN, config(max_words=99_999)) == Plan(9, 1, sample=0)
    assert plan_training(EVEN, config(max_words=10_000)) == Plan(1, 1, sample=0)


def test_then_one_epoch_of_fewer_users():
    assert plan_training(EVEN, config(max_words=2_500)) == Plan(1, 0.25, sample=0)


def test_words_that_down_sampling_drops_cost_nothing():
    counts = np.array([100_000, *[10] * 100])
    kept = words_per_epoch(counts, 1 / len(counts))
    assert 1_000 < kept < 20_000
    assert plan_training(counts, config(max_words=int(3.5 * kept), sample=1e-4)) == Plan(3, 1, sample=1 / len(counts))


def test_words_are_counted_as_gensim_keeps_them():
    counts = {token: 4_000 // (token + 1) for token in range(50)}
    model = Word2Vec(sample=2e-3, min_count=1, sorted_vocab=0)
    model.build_vocab_from_freq(counts)
    kept = sum(count * int(model.wv.get_vecattr(token, "sample_int")) / 2**32 for token, count in counts.items())
    assert words_per_epoch(np.array(list(counts.values())), 2e-3) == pytest.approx(kept, rel=1e-6)


def test_too_few_words_per_item_are_said(caplog):
    plan_training(EVEN, config(max_words=5_000))
    assert not caplog.records
    plan_training(EVEN, config(max_words=4_999))
    assert "raise cluster.max_words to 5000, or choose cluster.method: spectral_kmeans" in caplog.text


def test_too_few_configured_epochs_are_said(caplog):
    """The warning came only where `max_words` had cut."""
    plan_training(np.full(10, 40), config(epochs=13))
    assert not caplog.records
    plan_training(np.full(10, 40), config(epochs=12))
    assert "480 trained words per item are few" in caplog.text
    assert "raise cluster.epochs to 13, or choose cluster.method: spectral_kmeans" in caplog.text


def test_enough_words_are_a_number_of_whole_epochs(caplog):
    few = np.full(10, 300)
    plan_training(few, config(max_words=5_999))
    assert "raise cluster.max_words to 6000" in caplog.text
    caplog.clear()
    plan_training(few, config(max_words=6_000))
    assert not caplog.records
