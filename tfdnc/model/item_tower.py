"""Item tower: an embedding per item, plus in training with features the embeddings of its features."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.model.catalogue import Catalogue, Targets
from tfdnc.model.content import Content, Projection, content_of
from tfdnc.model.item_rows import FeaturedRows, ItemRows, SelectedRows, is_by_row
from tfdnc.model.matrix import tensor_of
from tfdnc.model.randomness import Stream


@dataclass(frozen=True)
class FeatureMatrix:
    """Features of each item as a sparse matrix `[N, F]`: its entries that are not 0, row after row."""

    positions: np.ndarray  # [E, 2] int64, row and column of each entry
    weights: (
        np.ndarray
    )  # [E] float32: 1 / sqrt(n) for n values of one column, so that all columns have about the same weight
    names: list[str]  # [F] "column=value"
    num_items: int  # N
    content: tuple[Content, ...] = ()  # the features of kind vector

    @classmethod
    def of(cls, features: Sequence[Sequence[str]], names: list[str]) -> "FeatureMatrix":
        """Returns the matrix of `[N]` lists of "column=value", with a column per name and without other features."""
        column_of = {name: column for column, name in enumerate(names)}
        rows = np.repeat(np.arange(len(features)), [len(own) for own in features])
        columns = np.array([column_of.get(name, -1) for own in features for name in own], np.int64)
        rows, columns = rows[columns >= 0], columns[columns >= 0]
        if not len(columns):
            return cls(np.zeros([0, 2], np.int64), np.zeros(0, np.float32), names, len(features))
        by_name = np.argsort(sorted(range(len(names)), key=names.__getitem__))  # rank of each column
        order = np.lexsort((by_name[columns], rows))
        rows, columns = rows[order], columns[order]
        return cls(np.stack([rows, columns], axis=1), _weights(rows, columns, names), names, len(features))

    def lists(self) -> list[list[str]]:
        """Returns the features of every item: `[N]` lists, from which `of` makes this matrix again."""
        lists: list[list[str]] = [[] for _ in range(self.num_items)]
        for row, column in self.positions.tolist():
            lists[row].append(self.names[column])
        return lists

    def tensor(self) -> tf.SparseTensor:
        """Returns the matrix as a tensor; its product with the `[F, D]` feature rows is their share of item vectors."""
        return tf.SparseTensor(self.positions, self.weights, [self.num_items, len(self.names)])


def _weights(rows: np.ndarray, columns: np.ndarray, names: list[str]) -> np.ndarray:
    """Returns 1 / sqrt(n) of every entry, `[E]` float32, for the n entries of its row with its column of the log."""
    kinds = list(dict.fromkeys(map(_kind, names)))
    kind_of = np.array([kinds.index(_kind(name)) for name in names])
    _, group, sizes = np.unique(rows * len(kinds) + kind_of[columns], return_inverse=True, return_counts=True)
    return np.array([size**-0.5 for size in range(1, 1 + sizes.max())], np.float32)[sizes[group] - 1]


def features_of(items: ItemTable) -> FeatureMatrix:
    """Returns the features of an item table, as a model with `model.item_features` reads them.

    Raises:
        UserError: there are none.
    """
    return feature_matrix(items.features, items.counts, tuple(content_of(items)))


def feature_matrix(
    features: list[list[str]] | None, counts: np.ndarray, content: tuple[Content, ...] = ()
) -> FeatureMatrix:
    """Returns the features that at least two trained items have, beside their content vectors.

    A feature of a single item only identifies that item, and a feature of untrained items alone is never trained.

    Args:
        features: `[N]` lists of "column=value"; None for a log without features.
        counts: `[N]` training events of each item.
        content: the vectors of the items.

    Raises:
        UserError: there are none.
    """
    features = [[]] * len(counts) if features is None else features
    trained = (own for own, count in zip(features, counts, strict=True) if count > 0)
    trained_items = Counter(name for own in trained for name in own)
    names = sorted(name for name, number in trained_items.items() if number > 1)
    if not names and not content:
        raise UserError(
            "Expected features that several items share for model.item_features, found none: name columns in "
            "data.items.features, or set model.item_features to false."
        )
    return replace(FeatureMatrix.of(features, names), content=content)


def _kind(name: str) -> str:
    """The column of a feature."""
    return name.partition("=")[0]


class ItemEmbeddings(keras.layers.Layer):
    """Item vectors with one embedding per item and nothing else, as requests read them.

    Args:
        num_items: N.
        dim: D.
        initial: `[N, D]` initial values; None for small random ones.
    """

    def __init__(self, num_items: int, dim: int, initial: np.ndarray | tf.Tensor | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        random = keras.initializers.RandomNormal(0, 0.02)

        def values(shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
            if initial is None:
                # In a graph the random matrix is scaled in place; op by op, three of its size are in memory. The size
                # is an argument: TensorFlow computes a matrix whose size is constant once more, to make it a constant.
                return tf.function(lambda size: random(size, dtype), autograph=False)(tf.constant(shape))
            random([1], dtype)  # takes a seed, so that later weights are those of a layer with random values
            return tensor_of(initial)

        self.embeddings: tf.Variable = self.add_weight(name="embeddings", shape=[num_items, dim], initializer=values)

    def vectors(self, stream: Stream | None = None) -> tf.Tensor:
        """Returns the item vectors `[N, D]`; `stream` is that of a training step, None outside."""
        del stream
        return tf.convert_to_tensor(self.embeddings)

    def rows(self, stream: Stream | None = None) -> tf.Variable | ItemRows:
        """Returns the item vectors to gather from, so that a step costs the rows it reads; arguments as `vectors`.

        That is the variable: a gather from it reads single rows, and its gradient has no others. From the first such
        gather on, TensorFlow copies the variable whenever it is read whole.
        """
        del stream
        return self.embeddings


class FeaturedItems(ItemEmbeddings):
    """Item vectors with the features of items: v_i = e_i + sum over its features f of w_if x_f + its content's share.

    An item without training events has v_i without e_i, because its e_i was never trained. To train features to
    represent an item alone, every training step leaves out e_i of some items (DropoutNet, Volkovs et al. 2017). The
    paper calls the features of an item x_i (section 2.1) and does not describe their use.

    Args:
        dim: D.
        features: features of N items.
        counts: `[N]` training events of each item.
        hidden: share of the items whose embedding is left out of a training step.
    """

    def __init__(self, dim: int, features: FeatureMatrix, counts: np.ndarray, hidden: float, **kwargs: Any) -> None:
        super().__init__(len(counts), dim, **kwargs)
        self.features: FeatureMatrix = features
        self._matrix = features.tensor()
        self._trained = (np.asarray(counts) > 0).astype(np.float32)[:, None]
        self._hidden = hidden
        self.feature_rows: tf.Variable = self.add_weight(
            name="feature_rows",
            shape=[len(features.names), dim],
            initializer=keras.initializers.RandomNormal(0, 0.02),
        )
        self.content: dict[str, Projection] = {one.name: Projection(one, dim) for one in features.content}

    def vectors(self, stream: Stream | None = None) -> tf.Tensor:
        """Returns the item vectors `[N, D]`; without a stream no embedding is left out."""
        known = tf.constant(self._trained)
        if stream is not None and self._hidden > 0:
            drawn = tf.random.stateless_uniform(known.shape, stream.seed)
            known *= tf.cast(drawn >= self._hidden, tf.float32)
        vectors = tf.convert_to_tensor(self.embeddings) * known
        if self.features.names:
            vectors += self._share(self._matrix)
        return vectors + self.content_share() if self.content else vectors

    def share_of(self, features: Sequence[Sequence[str]]) -> tf.Tensor:
        """Returns the share of features in the vectors of items, `[n, D]`; unknown features have none.

        Args:
            features: `[n]` lists of "column=value".
        """
        return self._share(FeatureMatrix.of(features, self.features.names).tensor())

    def _share(self, matrix: tf.SparseTensor) -> tf.Tensor:
        return tf.sparse.sparse_dense_matmul(matrix, tf.convert_to_tensor(self.feature_rows))

    def content_share(self) -> tf.Tensor:
        """Returns the share of the content vectors in the item vectors `[N, D]`, for features that have some."""
        return tf.add_n([projection.share() for projection in self.content.values()])

    def rows(self, stream: Stream | None = None) -> FeaturedRows:
        """Returns the item vectors to gather from; other embeddings are left out than by `vectors` of the stream."""
        positions, weights = self.features.positions, self.features.weights
        splits = np.searchsorted(positions[:, 0], np.arange(self.features.num_items + 1))
        entries = (splits, positions[:, 1], weights)
        known = self._trained[:, 0]
        parts = self.embeddings, self.feature_rows, *entries, known, self._hidden, stream
        return FeaturedRows(*parts, [projection.share_of for projection in self.content.values()])


class TrainedItems:
    """Items that compete with targets in a model with features: those with training events.

    Items without events are never targets. As negatives they would train the features of new items towards low scores.

    Args:
        counts: `[N]` training events of each item.
        offsets: K + 1; cluster k is rows offsets[k] .. offsets[k + 1] - 1.
    """

    def __init__(self, counts: np.ndarray, offsets: tuple[int, ...]) -> None:
        kept = np.asarray(counts) > 0
        kept[np.array(offsets[:-1])] = True  # a softmax needs at least one item in every cluster
        self._rows = np.flatnonzero(kept)
        self._counts = np.asarray(counts)[kept]
        self._offsets = tuple(int(kept[:offset].sum()) for offset in offsets)
        new_indices = np.zeros(len(kept) + 1, np.int64)  # item index -> index among the kept items, 0 for the others
        new_indices[self._rows + 1] = 1 + np.arange(len(self._rows))
        self._new_indices = new_indices

    def catalogue(self, vectors: tf.Tensor) -> Catalogue:
        """Returns the catalogue of these items, given the item vectors `[N, D]` of all."""
        chosen = SelectedRows(vectors, self._rows) if is_by_row(vectors) else tf.gather(vectors, self._rows)
        return Catalogue(chosen, self._offsets, self._counts)

    def targets(self, targets: Targets) -> Targets:
        """Returns targets with the item indices of that catalogue; other items outside it become padding."""
        new = tf.constant(self._new_indices)
        exposed = None if targets.exposed is None else tf.gather(new, targets.exposed)
        items, negatives = tf.gather(new, targets.items), tf.gather(new, targets.negatives)
        return targets._replace(items=items, negatives=negatives, exposed=exposed)
