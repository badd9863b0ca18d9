"""The item tower: an embedding per item and, in training with features, the sum of one per feature."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.errors import UserError
from tfdnc.model.catalogue import Catalogue, Targets
from tfdnc.model.randomness import Stream


@dataclass(frozen=True)
class FeatureMatrix:
    """`[N, F]`, which features each item has, as the entries that are not 0, row after row."""

    places: np.ndarray  # [E, 2] int64
    weights: np.ndarray  # [E] float32: 1 / sqrt(n) for n values of one column, so that a column counts about alike
    names: list[str]  # [F] "column=value"
    num_items: int  # N

    @classmethod
    def of(cls, features: Sequence[Sequence[str]], names: list[str]) -> "FeatureMatrix":
        """The matrix of `[N]` lists of "column=value"; columns are in the order of `names`, other features left out."""
        column_of = {name: column for column, name in enumerate(names)}
        places, weights = [], []
        for row, own in enumerate(features):
            used = sorted(name for name in own if name in column_of)
            kinds = Counter(_kind(name) for name in used)
            places += [(row, column_of[name]) for name in used]
            weights += [kinds[_kind(name)] ** -0.5 for name in used]
        return cls(np.array(places, np.int64).reshape(-1, 2), np.array(weights, np.float32), names, len(features))

    def lists(self) -> list[list[str]]:
        """The features of every item: `[N]` lists, from which `of` makes this matrix again."""
        lists = [[] for _ in range(self.num_items)]
        for row, column in self.places.tolist():
            lists[row].append(self.names[column])
        return lists

    def tensor(self) -> tf.SparseTensor:
        """The matrix for TensorFlow; times the `[F, D]` rows of the features it is their share of the item vectors."""
        return tf.SparseTensor(self.places, self.weights, [self.num_items, len(self.names)])


def feature_matrix(features: list[list[str]] | None, counts: np.ndarray) -> FeatureMatrix:
    """Returns the features that two trained items or more have.

    One that a single item has says no more than which item it is; one that only untrained items have, nothing.

    Args:
        features: `[N]` lists of "column=value"; None where the log came without.
        counts: `[N]` training events of each item.

    Raises:
        UserError: there are none.
    """
    features = [[]] * len(counts) if features is None else features
    trained = (own for own, count in zip(features, counts, strict=True) if count > 0)
    trained_items = Counter(name for own in trained for name in own)
    names = sorted(name for name, number in trained_items.items() if number > 1)
    if not names:
        raise UserError(
            "Expected features that several items share for model.item_features, found none: name columns in "
            "data.items.features, or set model.item_features to false."
        )
    return FeatureMatrix.of(features, names)


def _kind(name: str) -> str:
    """The column that a feature is of."""
    return name.partition("=")[0]


class ItemEmbeddings(keras.layers.Layer):
    """Item vectors that are one embedding per item, as requests read them.

    Args:
        num_items: N.
        dim: D.
        initial: `[N, D]` to start from; None for small random ones.
    """

    def __init__(self, num_items: int, dim: int, initial: np.ndarray | tf.Tensor | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.embeddings = self.add_weight(
            name="embeddings", shape=[num_items, dim], initializer=keras.initializers.RandomNormal(0, 0.02)
        )
        if initial is not None:
            self.embeddings.assign(initial)

    def vectors(self, stream: Stream | None = None) -> tf.Tensor:
        """Item vectors `[N, D]`; `stream` is that of a training step, None outside."""
        del stream
        return tf.convert_to_tensor(self.embeddings)


class FeaturedItems(ItemEmbeddings):
    """Item vectors with the features of items: v_i = e_i + sum over its features f of w_if x_f.

    An item without training events has v_i = sum w_if x_f: its e_i was never trained. So that features alone learn to
    stand for an item, e_i is left out for some of the items in every training step (DropoutNet, Volkovs et al. 2017).
    The paper calls the features of an item x_i (section 2.1) and does not say how they enter.

    Args:
        dim: D.
        features: of N items.
        counts: `[N]` training events of each item.
        hidden: share of the items whose embedding is left out of a training step.
    """

    def __init__(self, dim: int, features: FeatureMatrix, counts: np.ndarray, hidden: float, **kwargs: Any):
        super().__init__(len(counts), dim, **kwargs)
        self.features = features
        self._matrix = features.tensor()
        self._trained = (np.asarray(counts) > 0).astype(np.float32)[:, None]
        self._hidden = hidden
        self.feature_rows = self.add_weight(
            name="feature_rows",
            shape=[len(features.names), dim],
            initializer=keras.initializers.RandomNormal(0, 0.02),
        )

    def vectors(self, stream: Stream | None = None) -> tf.Tensor:
        """Item vectors `[N, D]`; without a stream no embedding is left out."""
        known = tf.constant(self._trained)
        if stream is not None and self._hidden > 0:
            drawn = tf.random.stateless_uniform(known.shape, stream.seed)
            known *= tf.cast(drawn >= self._hidden, tf.float32)
        share = tf.sparse.sparse_dense_matmul(self._matrix, tf.convert_to_tensor(self.feature_rows))
        return tf.convert_to_tensor(self.embeddings) * known + share


class TrainedItems:
    """The items that targets compete with where features stand for those without training events.

    As negatives of every position and targets of none, these would teach the features of new items that nobody wants
    them.

    Args:
        counts: `[N]` training events of each item.
        offsets: K + 1; cluster k is rows offsets[k] .. offsets[k + 1] - 1.
    """

    def __init__(self, counts: np.ndarray, offsets: tuple[int, ...]):
        kept = np.asarray(counts) > 0
        kept[np.array(offsets[:-1])] = True  # a cluster of none has nothing to be a softmax of
        self._rows = np.flatnonzero(kept)
        self._counts = np.asarray(counts)[kept]
        self._offsets = tuple(int(kept[:offset].sum()) for offset in offsets)
        places = np.zeros(len(kept) + 1, np.int64)  # item index -> that among the kept ones, 0 for the others
        places[self._rows + 1] = 1 + np.arange(len(self._rows))
        self._places = places

    def catalogue(self, vectors: tf.Tensor) -> Catalogue:
        """The catalogue of these items, of item vectors `[N, D]`."""
        return Catalogue(tf.gather(vectors, self._rows), self._offsets, self._counts)

    def targets(self, targets: Targets) -> Targets:
        """Targets with the item indices of that catalogue; negatives that are not in it count as padding."""
        places = tf.constant(self._places)
        return targets._replace(items=tf.gather(places, targets.items), negatives=tf.gather(places, targets.negatives))
