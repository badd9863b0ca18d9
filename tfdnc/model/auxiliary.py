"""Auxiliary objectives of `train.auxiliary`, which train the user states beside retrieval and intent.

They compare the states of a batch with those of a second encode, which lacks some of the items. Source: Kolodner et al.
2024 (arXiv 2409.14682), for graphs, whose two views lack features of nodes; the views of histories are ours.
"""

from collections.abc import Callable
from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.contracts.registry import Registry
from tfdnc.model.randomness import Stream


class Views(NamedTuple):
    """Two views of P positions of histories; the states are those that know no task prompt, as the intent reads."""

    states: tf.Tensor  # [P, D] of the whole histories
    others: tf.Tensor  # [P, D] of the histories without the masked items
    items: tf.Tensor  # [P, D] vectors of the items at the positions
    masked: tf.Tensor  # [P] bool: the item is left out of the second view


Auxiliary = Callable[[Views], tf.Tensor]
"""`views of P positions -> losses`, one per position that is trained; the loss of a step is their mean."""

AUXILIARIES: Registry[Auxiliary] = Registry("auxiliary objective")
"""Objectives by name, for `train.auxiliary`."""

_DECORRELATION = 1e-3
_POWER = 3


@AUXILIARIES.register("canonical_correlation")
def canonical_correlation(views: Views) -> tf.Tensor:
    """|z - z'|^2 + lambda (|I - C|^2 + |I - C'|^2): `[P]`, the second part the same for all positions.

    z and z' are the states of both views, standardised over the positions, and C and C' their correlations `[D, D]`
    (Zhang et al. 2021, CCA-SSG). Lambda is .001.
    """
    one, other = _standardised(views.states), _standardised(views.others)
    distances = tf.reduce_sum(tf.math.squared_difference(one, other), axis=1)
    return distances + _DECORRELATION * (_correlation_cost(one) + _correlation_cost(other))


@AUXILIARIES.register("masked_reconstruction")
def masked_reconstruction(views: Views) -> tf.Tensor:
    """(1 - cos(h', v))^3 of the state behind each masked item and the item's vector, which is not trained: `[M]`."""
    states = tf.math.l2_normalize(tf.boolean_mask(views.others, views.masked), axis=1)
    items = tf.math.l2_normalize(tf.stop_gradient(tf.boolean_mask(views.items, views.masked)), axis=1)
    return (1.0 - tf.reduce_sum(states * items, axis=1)) ** _POWER


def draw_masked(history: tf.Tensor, share: float, stream: Stream | None) -> tf.Tensor:
    """Returns which items `[B, L]` of a history, padded with 0, a second view lacks; None is one constant stream."""
    stream = stream or Stream.at(0, 0)
    return (tf.random.stateless_uniform(tf.shape(history), stream.seed) < share) & (history > 0)


def _standardised(states: tf.Tensor) -> tf.Tensor:
    """Mean 0 and variance 1 over the positions: `[P, D]`; a dimension without variance is 0."""
    mean, variance = tf.nn.moments(states, axes=[0])
    return (states - mean) * tf.math.rsqrt(variance + 1e-6)


def _correlation_cost(standardised: tf.Tensor) -> tf.Tensor:
    """Sum of the squared elements of I - C."""
    count = tf.cast(tf.shape(standardised)[0], tf.float32)
    correlations = tf.matmul(standardised, standardised, transpose_a=True) / count
    return tf.reduce_sum(tf.square(tf.eye(standardised.shape[1]) - correlations))
