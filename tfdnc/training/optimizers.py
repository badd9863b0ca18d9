"""Optimisers by name: Adam for all variables, or Adam with one number per row for tables of which a step reads few."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfdnc.backend import keras, tf
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.model_config import TrainConfig
from tfdnc.contracts.registry import Registry

AUTO_ITEMS = 200_000
"""Largest catalogue for which `train.optimizer: auto` is `adam`."""

_NEVER = -1e9
"""Logarithm of 0, finite: the difference of two infinities is not a number."""


class Method(NamedTuple):
    """Way to update the variables of a model."""

    make: Callable[
        [keras.optimizers.schedules.LearningRateSchedule, TrainConfig, Sequence[tf.Variable]],
        keras.optimizers.Optimizer,
    ]
    """(learning rate, settings, tables with a row per item, feature or user) -> optimiser."""

    by_row: bool
    """True if it updates those rows of tables that a gradient holds, and no others."""


OPTIMIZERS: Registry[Callable[[int], Method]] = Registry("optimizer")
"""Optimisers by name, for `train.optimizer`: number of items -> method."""


@OPTIMIZERS.register("adam")
def adam(num_items: int) -> Method:
    """Adam for all rows of all variables, in every step."""
    del num_items
    return Method(lambda rate, train, _: keras.optimizers.Adam(rate, beta_2=train.beta_2), by_row=False)


@OPTIMIZERS.register("rowwise_adam")
def rowwise_adam(num_items: int) -> Method:
    """`RowwiseAdam`, whose steps cost the rows that they read.

    Raises:
        UserError: when it is made: `beta_2` is 0 or 1.
    """
    del num_items
    return Method(_make_rowwise, by_row=True)


@OPTIMIZERS.register("auto")
def automatic(num_items: int) -> Method:
    """`adam` up to `AUTO_ITEMS`, `rowwise_adam` above."""
    return adam(num_items) if num_items <= AUTO_ITEMS else rowwise_adam(num_items)


def _make_rowwise(
    rate: keras.optimizers.schedules.LearningRateSchedule, train: TrainConfig, tables: Sequence[tf.Variable]
) -> keras.optimizers.Optimizer:
    if not 0 < train.beta_2 < 1:
        raise UserError(
            f"Expected train.beta_2 above 0 and below 1 with train.optimizer rowwise_adam, got {train.beta_2:g}."
        )
    return RowwiseAdam(rate, train.beta_2, tables)


class RowwiseAdam(keras.optimizers.Adam):
    """Adam that keeps, of a table, one number per row, and changes only the rows of the gradient.

    A row moves by `rate * sqrt(1 - beta_2^t) * g / (sqrt(v) + epsilon)`, where v is Adam's running mean of the squares
    of g, over the steps and over the D values of the row. There is no mean of the gradients: in Adam that of one
    gradient g moves a row by about ten small steps, whose sum is that of one step without it. So with rows that a step
    rarely reads both go equally far.

    v of a row that no step reads falls by beta_2 per step in Adam. Here it is stored so that nothing has to be done for
    it: as ln of the sum of g_s^2 / beta_2^s over the steps s so far (`add_squares`, `mean_squares`).

    All other variables have Adam with both of its moments.

    Args:
        rate: learning rate by step.
        beta_2: decay of v, between 0 and 1.
        tables: variables `[rows, D]`.
    """

    def __init__(
        self, rate: keras.optimizers.schedules.LearningRateSchedule, beta_2: float, tables: Sequence[tf.Variable]
    ) -> None:
        super().__init__(rate, beta_2=beta_2, name="RowwiseAdam")
        self._tables = {self._var_key(table) for table in tables}
        self._log_squares: list[tf.Variable] = []

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Makes two moments of every other variable, then one number per row of every table."""
        if getattr(self, "_built", False):
            return
        others, tables = self.split(var_list)
        super().build(others)
        for place, table in enumerate(tables):
            self._index_dict[self._var_key(table)] = place
            start = keras.initializers.Constant(_NEVER)
            self._log_squares.append(self.add_variable([table.shape[0]], tf.float64, start, "log_squares"))

    def aggregate_gradients(
        self, grads_and_vars: Iterable[tuple[tf.Tensor | tf.IndexedSlices | None, tf.Variable]]
    ) -> list[tuple[tf.Tensor | tf.IndexedSlices | None, tf.Variable]]:
        """Sums gradients over replicas, which exchange the rows of a sparse one; a row that is read often, once."""
        gradients, variables = zip(*grads_and_vars, strict=True)
        if tf.distribute.get_replica_context().num_replicas_in_sync > 1:
            gradients = self._deduplicate_sparse_grad(gradients)
        return super().aggregate_gradients(list(zip(gradients, variables, strict=True)))

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Changes a variable; rows in a sparse gradient are distinct, `apply_gradients` has summed repeated ones."""
        if not self._is_table(variable):
            super().update_step(gradient, variable)
            return
        if not isinstance(gradient, tf.IndexedSlices):  # of a loss that scores all items
            gradient = tf.IndexedSlices(gradient, tf.range(variable.shape[0]))
        log_squares = self._log_squares[self._index_dict[self._var_key(variable)]]
        step = tf.cast(self.iterations + 1, tf.float64)
        values, rows = gradient.values, gradient.indices
        sums = add_squares(tf.gather(log_squares, rows), values, step, self.beta_2)
        log_squares.scatter_update(tf.IndexedSlices(sums, rows))
        correction = tf.cast(tf.sqrt(1 - tf.pow(tf.constant(self.beta_2, tf.float64), step)), variable.dtype)
        scale = tf.cast(tf.sqrt(mean_squares(sums, step, self.beta_2)), variable.dtype) + self.epsilon
        rate = tf.cast(self.learning_rate, variable.dtype)
        variable.scatter_sub(tf.IndexedSlices(values * (rate * correction / scale)[:, None], rows))

    def split(self, variables: Sequence[tf.Variable]) -> tuple[list[tf.Variable], list[tf.Variable]]:
        """Returns the variables with two moments, and the tables, each in the given order."""
        others = [variable for variable in variables if not self._is_table(variable)]
        return others, [variable for variable in variables if self._is_table(variable)]

    def get_config(self) -> dict[str, Any]:
        """Raises an error: tables are variables, which a config cannot name."""
        raise NotImplementedError("Expected no config of RowwiseAdam: make it from the tables of a model.")

    def _is_table(self, variable: tf.Variable) -> bool:
        return self._var_key(variable) in self._tables


class Moments(NamedTuple):
    """State of an optimiser for one variable, as arrays."""

    first: np.ndarray | None  # of the variable's shape, mean of the gradients; None if the optimiser has none
    second: np.ndarray  # of the variable's shape, mean of their squares; [R, 1] if over a row

    @classmethod
    def of_rows(cls, log_squares: np.ndarray, step: float, beta_2: float) -> "Moments":
        """Returns those of a table of `RowwiseAdam`, `[R]`, after so many steps."""
        return cls(None, mean_squares(log_squares, step, beta_2).numpy()[:, None].astype(np.float32))

    def changed(self, change: Callable[[np.ndarray], np.ndarray]) -> "Moments":
        """Returns these with a function applied to every array."""
        return Moments(None if self.first is None else change(self.first), change(self.second))

    def assign_to(self, own: list[tf.Variable], beta_2: float) -> None:
        """Gives them to an optimiser before its first step.

        Args:
            own: its numbers of the variable: two moments of Adam, or those per row of `RowwiseAdam`.
            beta_2: of `RowwiseAdam`.
        """
        if len(own) == 2:
            own[0].assign(np.zeros(own[0].shape, np.float32) if self.first is None else self.first)
            own[1].assign(np.broadcast_to(self.second, own[1].shape))
            return
        squares = self.second.mean(axis=1, dtype=np.float64) / (1 - beta_2)
        own[0].assign(np.log(squares, out=np.full(len(squares), _NEVER), where=squares > 0))


def add_squares(log_squares: tf.Tensor, gradient: tf.Tensor, step: tf.Tensor, beta_2: float) -> tf.Tensor:
    """Returns ln(sum over steps s of g_s^2 / beta_2^s) with one more step, where g^2 is the mean over a row.

    Args:
        log_squares: `[R]` float64, the logarithm before.
        gradient: `[R, D]`.
        step: number of the step, from 1 on, float64.
        beta_2: between 0 and 1.
    """
    squares = tf.reduce_mean(tf.square(gradient), axis=1)
    new = tf.math.log(tf.cast(squares, tf.float64)) - step * math.log(beta_2)
    larger, smaller = tf.maximum(log_squares, new), tf.minimum(log_squares, new)
    return larger + tf.math.log1p(tf.exp(smaller - larger))


def mean_squares(log_squares: tf.Tensor, step: tf.Tensor, beta_2: float) -> tf.Tensor:
    """Returns Adam's v after `step`, (1 - beta_2) sum over s of beta_2^(step - s) g_s^2, `[R]` float64."""
    return (1 - beta_2) * tf.exp(log_squares + step * math.log(beta_2))
