"""Texts of bounds that stand for more than one value, or for the value that looks like it."""

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.bounds import bound_texts
from tfdnc.retrieval.bounds.parsed import NO_BOUND, BoundTable
from tfdnc.retrieval.rules.planes import build_planes
from tfdnc.retrieval.rules.rules import Rules


def test_the_value_with_the_text_of_each_value_can_be_bounded(tmp_path):
    """The value `*` could not be bounded by itself."""
    planes = build_planes([Attribute("brand", "value", [("*",), ("acme",), ("*",), ("other",)])], (0, 4))
    table = BoundTable(Rules(planes, ["all"], tmp_path).table, planes)
    texts = bound_texts({"brand": {"\\*": 1}}, {"brand": {"*": 3, "\\*": 2}}, 4)
    assert texts == ["brand=\\*>=1", "brand=*<=3", "brand=\\*<=2"]
    found = table.parse(tf.constant([texts]), tf.constant([4]), tf.constant([[-1]]))
    assert [planes.conditions[text] for text in found.texts.numpy()] == ["brand=*"]
    assert (found.least.numpy().tolist(), found.most.numpy().tolist()) == ([1], [2])
    np.testing.assert_array_equal(found.each, [[3]])
    alone = table.parse(tf.constant([["brand=*<=3"]]), tf.constant([4]), tf.constant([[-1]]))
    assert alone.each.numpy().tolist() == [[3]]
    assert NO_BOUND not in alone.most


def test_each_value_of_an_unknown_column_is_refused_with_the_columns(tmp_path):
    """The refusal named another value of the unknown column."""
    planes = build_planes([Attribute("brand", "value", [("acme",), ("other",)])], (0, 2))
    table = BoundTable(Rules(planes, ["all"], tmp_path).table, planes)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"got country=\*<=3\. Columns: brand, cluster\."):
        table.parse(tf.constant([["country=*<=3"]]), tf.constant([4]), tf.constant([[-1]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Each value of a column of texts can have a maximum"):
        table.parse(tf.constant([["brand=*>=3"]]), tf.constant([4]), tf.constant([[-1]]))
