"""Bounds on the lists of an evaluation, `evaluate.minimum` and `evaluate.maximum`, as a bundle would read them."""

from collections.abc import Sequence

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.bounds import EACH, EACH_ITSELF, LEAST, MOST, bound_texts, count_of
from tfdnc.contracts.cluster_controls import check_counts, counts
from tfdnc.contracts.conditions import required
from tfdnc.contracts.config import EvaluateConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.list_limits import ListLimits, of_clusters, of_columns
from tfdnc.retrieval.bounds.parsed import Bounds, BoundTable
from tfdnc.retrieval.merge import Controls
from tfdnc.retrieval.rules.failed_checks import sentence_of
from tfdnc.retrieval.rules.masks import make_rules
from tfdnc.retrieval.rules.planes import build_planes


class ListBounds:
    """The bounds of lists of several lengths; shares are of the length.

    Args:
        attributes: columns of the items, in order of the item table.
        items: the item table of the lists.
        settings: minima, maxima, conditions and lengths.

    Raises:
        UserError: a cluster, column or value that the items do not know, or bounds that no list can keep.
    """

    def __init__(self, attributes: Sequence[Attribute], items: ItemTable, settings: EvaluateConfig) -> None:
        self.lengths = tuple(sorted(settings.candidates))
        planes = build_planes(attributes, items.offsets)
        self.rules = make_rules(planes, items)
        self._table = BoundTable(self.rules.table, planes)
        least, most, names = settings.minimum, settings.maximum, items.cluster_names
        self._texts = {m: bound_texts(of_columns(least), of_columns(most), m) for m in self.lengths}
        try:
            self._least = {m: counts(LEAST, of_clusters(least), names, m) for m in self.lengths}
            self._most = {m: counts(MOST, of_clusters(most), names, m) for m in self.lengths}
            for m in self.lengths:
                check_counts(self._least[m], self._most[m], m, names)
        except ValueError as error:
            raise UserError(f"Bounds of evaluate: {error}") from error
        self._attributes = {one.name: one for one in attributes}
        self._clusters = items.clusters
        self._where = tf.constant([["", *settings.where]], tf.string)
        for m in self.lengths:
            self._check(m)
        self._minima = {m: self._minima_of(least, m) for m in self.lengths}

    def controls(self, length: int, rows: tf.Tensor) -> Controls:
        """Returns the controls of so many rows (int32 scalar)."""
        least, most = (tf.repeat(own[length][None], rows, axis=0) for own in (self._least, self._most))
        return Controls(tf.repeat(length, rows), minimum=least, maximum=most)

    def bounds(self, length: int, controls: Controls) -> Bounds:
        """Returns the bounds on values of the rows."""
        texts = tf.constant([["", *self._texts[length]]], tf.string)
        rows = tf.shape(controls.num_candidates)[0]
        texts, where = (tf.repeat(one, rows, axis=0) for one in (texts, self._where))
        return self._table.parse(texts, controls.num_candidates, controls.maximum, where)

    def missed(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Returns `[B]` bool, True for lists `[B, M]` of item rows, -1 beyond the end, that leave a minimum short."""
        missed = np.zeros(len(rows), bool)
        for having, least in self._minima[length]:
            missed |= (having[rows] & (rows >= 0)).sum(axis=1) < least
        return missed

    def _minima_of(self, minimum: ListLimits, length: int) -> list[tuple[np.ndarray, int]]:
        """Returns the items `[N]` of every minimum, as a mask, with the count."""
        clusters = [(self._clusters == k, int(least)) for k, least in enumerate(self._least[length]) if least]
        of_values = []
        for name, values in of_columns(minimum).items():
            for value, wish in values.items():
                [text] = required({name: [value]})
                own_text = EACH if (literal := text.partition("=")[2]) == EACH_ITSELF else literal
                having = np.array([own_text in own for own in self._attributes[name].texts])
                of_values.append((having, count_of(LEAST, text, wish, length)))
        return clusters + of_values

    def _check(self, length: int) -> None:
        """Raises for bounds that a bundle would refuse."""
        try:
            self.bounds(length, self.controls(length, tf.constant(1)))
        except tf.errors.InvalidArgumentError as error:
            raise UserError(sentence_of(error)) from error
