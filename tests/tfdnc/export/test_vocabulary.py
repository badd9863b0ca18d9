"""Vocabularies of a bundle: ids to indices and back, for any ids, shapes and hashes."""

import subprocess
import sys

import numpy as np
import pytest

from tfdnc.backend import tf
from tfdnc.contracts import bundle
from tfdnc.contracts.errors import UserError
from tfdnc.export import sorted_vocabulary, vocabulary
from tfdnc.export.sorted_vocabulary import SortedVocabulary
from tfdnc.export.vocabulary import ItemVocabulary, vocabulary_of

IDS = [f"film {number}" for number in range(40)] + ["ä", "a" * 500, "0", "00", " ", "fil", "film"]


def collide(item_ids):
    return tf.strings.to_hash_bucket_fast(item_ids, 5)


@pytest.fixture(params=["table", "sorted", "sorted, with equal hashes"])
def known(request, tmp_path, monkeypatch):
    if request.param != "table":
        monkeypatch.setattr(vocabulary, "SORTED_FROM", len(IDS))
    if request.param == "sorted, with equal hashes":
        monkeypatch.setattr(sorted_vocabulary, "_hash", collide)
    made = vocabulary_of(IDS, tmp_path)
    assert isinstance(made, ItemVocabulary if request.param == "table" else SortedVocabulary)
    return made


def test_every_id_has_its_index_and_every_row_its_id(known):
    np.testing.assert_array_equal(known.indices(tf.constant(IDS)), np.arange(1, len(IDS) + 1))
    assert [one.decode() for one in known.ids(tf.range(len(IDS))).numpy()] == IDS


def test_unknown_ids_and_padding_have_index_0_in_any_shape(known):
    asked = tf.constant([["", "film 40", "film 3"], ["film 39", "b", "fil"]])
    np.testing.assert_array_equal(known.indices(asked), [[0, 0, 4], [40, 0, 46]])
    np.testing.assert_array_equal(
        known.ids(tf.constant([[[-1, 3]], [[46, -1]]])), [[[b"", b"film 3"]], [[b"film", b""]]]
    )
    assert known.indices(tf.zeros([2, 0], tf.string)).shape == [2, 0]


def test_repeated_ids_are_refused_where_hashes_are_sorted_too(tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "SORTED_FROM", 1)
    with pytest.raises(UserError, match="distinct item ids"):
        vocabulary_of([*IDS, "film 7"], tmp_path)
    with pytest.raises(UserError, match="without line breaks"):
        vocabulary_of(["a", "b\nc"], tmp_path)


LOAD = """
import sys
import tensorflow as tf
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    graph = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1])
    lookup = graph.signature_def["lookup"]
    feeds = {lookup.inputs["ids"].name: ["", "film 12", "ä", "?"], lookup.inputs["rows"].name: [45, -1]}
    print(*(session.run(lookup.outputs[name].name, feeds).tolist() for name in ("rows", "ids")))
"""


def test_a_saved_sorted_vocabulary_answers_in_a_session_of_another_process(tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "SORTED_FROM", 1)
    made = vocabulary_of(IDS, tmp_path)
    lookup = tf.function(
        lambda ids, rows: {"rows": made.indices(ids), "ids": made.ids(rows)},
        input_signature=[tf.TensorSpec([None], tf.string, "ids"), tf.TensorSpec([None], tf.int32, "rows")],
    )
    module = tf.Module()
    module.made = made
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"lookup": lookup})
    assert (tmp_path / "saved" / bundle.ITEM_IDS_ASSET).read_text(encoding="utf-8").splitlines() == IDS
    reader = [sys.executable, "-c", LOAD, str(tmp_path / "saved")]
    answer = subprocess.run(reader, capture_output=True, text=True, check=True).stdout
    assert answer.split("\n")[0] == "[0, 13, 41, 0] [b'fil', b'']"
