"""Declared inputs in a token: a layer per kind, which adds a vector to the token of an item, and hidden values."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature, Kind, Of
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.contracts.schema import UNKNOWN_NUMBER
from tfdnc.model.elapsed import ElapsedEmbedding
from tfdnc.model.item_rows import ItemRows
from tfdnc.model.passed_over import PassedOver
from tfdnc.model.randomness import Stream

_FURTHEST = 8.0  # standard deviations: an extreme value of a request must not dominate the item


class TokenInput(Protocol):
    """Layer that reads the inputs of one kind, `[B, L]` in the dtype of its form -> `[B, L, D]`.

    Args:
        feature: the input, with the values that it knows.
        dim: D.
    """

    def __init__(self, feature: Feature, dim: int) -> None: ...

    def __call__(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the vectors to add to the tokens; unknown values have a separate embedding."""

    stream_path: tuple[str, ...]
    """Names that lead to the stream by which training hides values; inputs of one stream are hidden together."""

    def hidden_share(self, train: TrainConfig) -> float:
        """Returns the share of the windows in which training hides all values, so that requests may lack them too."""


@runtime_checkable
class Standardised(Protocol):
    """A `TokenInput` that standardises its values by the mean and the scale of the training part."""

    def measure(self, moments: np.ndarray) -> None:
        """Takes mean and scale from the pooled `moments_of` the training part, `[3]`."""


@runtime_checkable
class OfItems(Protocol):
    """A `TokenInput` whose values are items, which reads their vectors."""

    def __call__(self, values: tf.Tensor, items: tf.Tensor | ItemRows) -> tf.Tensor:
        """Returns the vectors to add to the tokens, `[B, L, W]` item indices and `[N, D]` -> `[B, L, D]`."""

    reads_items: bool


class Times(ElapsedEmbedding):
    """Embedding of the time to the next event, or to the request."""

    stream_path: tuple[str, ...] = ("times",)

    def __init__(self, feature: Feature, dim: int) -> None:
        super().__init__(dim, name=feature.key)

    def hidden_share(self, train: TrainConfig) -> float:
        """See `TokenInput`."""
        return train.hidden_times


class Numbers(keras.layers.Layer):
    """Standardised number times a direction `[D]`, or another embedding `[D]` where it is unknown.

    Mean and scale are those of the training part, see `measure`; they are weights, so that a checkpoint holds them.
    """

    def __init__(self, feature: Feature, dim: int) -> None:
        super().__init__(name=feature.key)
        self._feature = feature
        self.stream_path: tuple[str, ...] = _stream_path(feature)
        # Two initializers, because one would return the same numbers twice.
        starts = [keras.initializers.RandomNormal(0, 0.02) for _ in range(2)]
        self._direction = self.add_weight(name="direction", shape=[dim], initializer=starts[0])
        self._unknown = self.add_weight(name="unknown", shape=[dim], initializer=starts[1])
        self._mean = self.add_weight(name="mean", shape=[], initializer="zeros", trainable=False)
        self._scale = self.add_weight(name="scale", shape=[], initializer="ones", trainable=False)

    def hidden_share(self, train: TrainConfig) -> float:
        """See `TokenInput`."""
        return train.hidden_inputs

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """`[B, L]` float32 -> `[B, L, D]`."""
        known = ((values > UNKNOWN_NUMBER) & tf.math.is_finite(values))[:, :, None]  # NaN and infinity are not
        standard = tf.clip_by_value((values - self._mean) / self._scale, -_FURTHEST, _FURTHEST)[:, :, None]
        return tf.where(known, tf.where(known, standard, 0.0) * self._direction, tf.convert_to_tensor(self._unknown))

    def measure(self, moments: np.ndarray) -> None:
        """Takes mean and scale from the moments `[3]` of the training part.

        Raises:
            UserError: no number is known.
        """
        count, mean, squares = moments
        if not count:
            raise UserError(
                f"Expected numbers in the column of {self._feature.config_key}, found none in the training part: take "
                f"{self._feature.name} out of model.inputs."
            )
        self._mean.assign(mean)
        self._scale.assign(float(np.float32(np.sqrt(squares / count))) or 1.0)


class Values(keras.layers.Layer):
    """Embedding of a category: `[1 + V, D]` for V values, the first row for an unknown one.

    Raises:
        UserError: the input has no known value.
    """

    def __init__(self, feature: Feature, dim: int) -> None:
        super().__init__(name=feature.key)
        if not feature.values:
            raise UserError(
                f"Expected values that occur at least twice in the training part of {feature.config_key}, found none: "
                f"take {feature.name} out of model.inputs."
            )
        self.stream_path: tuple[str, ...] = _stream_path(feature)
        self._rows = self.add_weight(
            name="rows",
            shape=[1 + len(feature.values), dim],
            initializer=keras.initializers.RandomNormal(0, 0.02),
        )

    def hidden_share(self, train: TrainConfig) -> float:
        """See `TokenInput`."""
        return train.hidden_inputs

    def call(self, values: tf.Tensor) -> tf.Tensor:
        """`[B, L]` int32 numbers of values -> `[B, L, D]`."""
        return tf.gather(tf.convert_to_tensor(self._rows), values)


def _stream_path(feature: Feature) -> tuple[str, ...]:
    """A stream per input, but one for all of a user: a request of an unknown user lacks all of them."""
    if feature.of is Of.USER:
        return ("inputs", "of users")
    return ("inputs", feature.name) if feature.of is Of.EVENT else ("inputs", feature.name, feature.of.value)


TOKEN_INPUTS: dict[Kind, type[TokenInput]] = {
    Kind.TIME: Times,
    Kind.NUMBER: Numbers,
    Kind.VALUE: Values,
    Kind.HOUR: Values,
    Kind.WEEKDAY: Values,
    Kind.EXPOSURES: PassedOver,
}
"""Layer by kind of the inputs that a model can read."""


class TokenInputs(keras.layers.Layer):
    """Sum of all declared inputs that a model reads beside the items.

    Args:
        features: the inputs; their order fixes the initial weights of a seed.
        dim: D.
        user_token: True for inputs of users in a token of their own, see `user_token`, and not in those of items.
    """

    def __init__(self, features: Sequence[Feature], dim: int, user_token: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features: tuple[Feature, ...] = tuple(features)
        self._of_user_token = tuple(one for one in self.features if user_token and one.of is Of.USER)
        self._readers: dict[str, TokenInput] = {
            feature.key: TOKEN_INPUTS[feature.kind](feature, dim) for feature in features
        }

    @property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """Specs of the values, by key."""
        return {
            one.key: tf.TensorSpec([None] * (3 if one.form.of_items else 2), one.form.dtype) for one in self.features
        }

    @property
    def variables_of_values(self) -> dict[str, Feature]:
        """Categories by the names that their variables, with a row per value, have in a checkpoint of the tower."""
        return {f"inputs/readers/{one.key}/rows": one for one in self.features if one.form.is_category}

    def call(
        self, tokens: tf.Tensor, values: Mapping[str, tf.Tensor], items: tf.Tensor | ItemRows | None = None
    ) -> tf.Tensor:
        """Adds the inputs to tokens `[B, L, D]`.

        Args:
            tokens: of the history.
            values: `[B, L]` by key, `[B, L, W]` of exposures; one column is enough for those of users.
            items: `[N, D]` item vectors, for inputs that are items.
        """
        for feature in (one for one in self.features if one not in self._of_user_token):
            own, reader = values[feature.key], self._readers[feature.key]
            if isinstance(reader, OfItems):
                assert items is not None
                tokens = tokens + reader(own, items)
            else:
                tokens = tokens + reader(own[:, :1] if feature.of is Of.USER else own)
        return tokens

    def user_token(self, values: Mapping[str, tf.Tensor]) -> tf.Tensor | None:
        """Returns the sum of the inputs of users `[B, 1, D]`, `values` as of `call`; None if other tokens have them."""
        vectors = [self._readers[one.key](values[one.key][:, :1]) for one in self._of_user_token]
        return tf.ensure_shape(tf.add_n(vectors), [None, 1, None]) if vectors else None

    def complete(self, values: Mapping[str, tf.Tensor] | None, history: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the inputs that the model reads; those not in `values` are unknown for a `history` `[B, L]`."""
        given, shape = values or {}, tf.shape(history)

        def unknown(feature: Feature) -> tf.Tensor:
            value = tf.fill(shape, tf.constant(feature.unknown, feature.form.dtype))
            return value[:, :, None] if feature.form.of_items else value

        return {one.key: given[one.key] if one.key in given else unknown(one) for one in self.features}

    def hide(self, values: Mapping[str, tf.Tensor], train: TrainConfig, stream: Stream | None) -> dict[str, tf.Tensor]:
        """Returns the inputs that the model reads, each made unknown in some windows; without a stream in none."""
        hidden: dict[str, tf.Tensor] = {}
        drawn: dict[tuple[str, ...], tf.Tensor] = {}
        for feature in self.features:
            reader, own = self._readers[feature.key], values[feature.key]
            share, path = reader.hidden_share(train), reader.stream_path
            if stream is not None and share > 0 and path not in drawn:
                drawn[path] = _draw(feature, own, share, Stream(stream.moment, (*stream.path, *path)))
            hidden[feature.key] = hide(own, drawn.get(path), feature.unknown)
        return hidden

    def measure(self, moments: Callable[[Feature], np.ndarray]) -> None:
        """Sets mean and scale of the inputs that are standardised, from the moments of the training part."""
        for feature in self.features:
            if isinstance(reader := self._readers[feature.key], Standardised):
                reader.measure(moments(feature))


def _draw(feature: Feature, values: tf.Tensor, share: float, stream: Stream) -> tf.Tensor:
    """Returns a mask `[B, 1]` or `[B, L]` of the values `[B, L]` of an input to hide, all of a row at once.

    A request may know the context of all events but not its own. So half of the share of a context is single positions.
    """
    if feature.of is not Of.REQUEST:
        return tf.random.stateless_uniform([tf.shape(values)[0], 1], stream.seed) < share
    of_rows = tf.random.stateless_uniform([tf.shape(values)[0], 1], _seed(stream, "rows")) < share / 2
    return of_rows | (tf.random.stateless_uniform(tf.shape(values), _seed(stream, "positions")) < share / 2)


def _seed(stream: Stream, name: str) -> tf.Tensor:
    return Stream(stream.moment, (*stream.path, name)).seed


def hide(values: tf.Tensor, where: tf.Tensor | None, unknown: float) -> tf.Tensor:
    """Returns values `[B, L]` or `[B, L, W]`, unknown `where` the mask is true; all stay with None."""
    if where is None:
        return values
    mask = where if values.shape.rank == 2 else where[:, :, None]
    return tf.where(mask, tf.constant(unknown, values.dtype), values)


def moments_of(values: np.ndarray) -> np.ndarray:
    """Returns count, mean and sum of squared differences to it of the known numbers among `[E]`: `[3]` float64."""
    known = values[values > UNKNOWN_NUMBER].astype(np.float64)
    if not len(known):
        return np.zeros(3)
    return np.array([len(known), known.mean(), np.square(known - known.mean()).sum()])


def pool_moments(moments: np.ndarray) -> np.ndarray:
    """Returns the moments `[3]` of all parts together, given those of every part `[P, 3]` (Chan et al. 1983)."""
    count, mean, squares = moments.T
    total = count.sum()
    if not total:
        return np.zeros(3)
    pooled = (count * mean).sum() / total
    return np.array([total, pooled, squares.sum() + (count * np.square(mean - pooled)).sum()])
