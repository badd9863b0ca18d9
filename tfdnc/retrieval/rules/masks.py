"""Conditions on all items at once, outside of a bundle: the items that pass, for an evaluation under a filter."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfdnc.backend import tf
from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.retrieval.rules.failed_checks import sentence_of
from tfdnc.retrieval.rules.layout import Layout
from tfdnc.retrieval.rules.passing import Passing
from tfdnc.retrieval.rules.planes import Planes, build_planes
from tfdnc.retrieval.rules.rules import Rules


def make_rules(planes: Planes, items: ItemTable) -> Rules:
    """Returns the rules of the items outside of a bundle, whose assets nothing reads again."""
    with tempfile.TemporaryDirectory() as assets:
        return Rules(planes, items.cluster_names, Path(assets))


def passing_items(attributes: Sequence[Attribute], items: ItemTable, conditions: Sequence[str]) -> np.ndarray:
    """Returns `[N]` bool, True for items that pass all conditions; it is what a bundle would decide.

    Args:
        attributes: columns of the items, in order of the item table.
        items: the item table.
        conditions: as in `tfdnc.contracts.conditions`.

    Raises:
        UserError: a condition that the items do not know.
    """
    rules = make_rules(build_planes(attributes, items.offsets), items)
    nothing = tf.zeros([1, 0], tf.int32), tf.zeros([1], tf.bool)
    try:
        passing = rules.passing(tf.constant([list(conditions)], tf.string), *nothing)
    except tf.errors.InvalidArgumentError as error:
        raise UserError(sentence_of(error)) from error
    return np.concatenate([mask.numpy()[0] for mask in passing.of_clusters()])


def as_passing(mask: np.ndarray, offsets: Sequence[int], rows: tf.Tensor) -> Passing:
    """Returns `[N]` bool as the one rule of a batch with so many rows (int32 scalar)."""
    layout = Layout(offsets)
    return Passing(tf.constant(layout.pack(mask)[None]), tf.zeros([rows], tf.int32), layout)
