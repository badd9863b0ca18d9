"""Signatures are declared once: one more row appears in requests, examples, recorded requests, graphs and documents."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from serving import messages, tensors
from serving.bundles import recorded
from tfdnc.backend import tf
from tfdnc.contracts import bundle, bundle_tables
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.config import ExportConfig, MergeConfig, ModelConfig, TrainConfig
from tfdnc.contracts.errors import UserError
from tfdnc.export.module import RetrievalModule
from tfdnc.export.signatures import example_inputs, signature_function
from tfdnc.load_test.bundle import Size, make_items
from tfdnc.model.tower import Tower
from tfdnc.retrieval.index import ExactIndex

DOCUMENT = Path(__file__).parents[3] / "docs" / "serving.md"
BOOST = Row("boost", "float32", bundle.PER_CLUSTER, 0.5, "Made up for this test.")


@pytest.fixture
def boost(monkeypatch):
    """One more input of `retrieve_controlled`, that is all."""
    declared = bundle.SIGNATURES["retrieve_controlled"]
    changed = dataclasses.replace(declared, inputs=(*declared.inputs, BOOST))
    monkeypatch.setitem(bundle.SIGNATURES, "retrieve_controlled", changed)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    items = make_items(Size(items=12, clusters=3))
    tower = Tower.make(
        ModelConfig(encoder="transformer", dim=8, blocks=1, max_length=4),
        TrainConfig(precision="float32"),
        items.offsets,
        seed=1,
    )
    vectors = tower.user_vectors(tf.constant([[1, 2]]))[0][0]
    index = ExactIndex(tower.item_embeddings, items.offsets)
    folder = tmp_path_factory.mktemp("assets")
    return RetrievalModule(tower, items, index, vectors.numpy(), MergeConfig(), ExportConfig(), folder)


def sent(request):
    """Inputs of a request by name."""
    return {name: tensors.decode(proto) for name, proto in request.inputs.items()}


def test_a_request_carries_the_neutral_value_of_a_row(boost):
    request = messages.retrieve_request([["a"], []], 5, exclude=[["b"], []])
    assert request.model_spec.signature_name == "retrieve_controlled"
    np.testing.assert_array_equal(sent(request)["boost"], [[0.5], [0.5]])
    assert sent(request)["boost"].dtype == np.float32
    assert "boost" not in sent(messages.retrieve_request([["a"]], 5))


def test_the_signature_of_an_argument_is_the_first_that_carries_it(boost):
    assert bundle.suitable(["boost"]) == "retrieve_controlled"
    assert bundle.suitable(["joint_alpha"]) == "retrieve_joint"
    assert bundle.suitable([]) == "serving_default"
    with pytest.raises(ValueError, match="Expected arguments that one signature of a bundle carries, got weather"):
        bundle.suitable(["weather"])


def test_a_graph_takes_a_row_and_an_example_has_it(boost, module):
    graph = signature_function(module, "retrieve_controlled").get_concrete_function()
    assert graph.structured_input_signature[0][-1] == tf.TensorSpec([None, None], tf.float32, "boost")
    inputs = example_inputs(module, "retrieve_controlled", [["0", "1"], []])
    np.testing.assert_array_equal(inputs["boost"], [[0.5], [0.5]])
    answer = graph(*map(tf.constant, inputs.values()))
    assert answer[bundle.NUM_RESULTS].numpy().tolist() == [10, 12]


@pytest.mark.parametrize("name", bundle.SIGNATURES)
def test_an_example_answers_as_the_rows_say(name, module):
    inputs = example_inputs(module, name, [["0", "1"], []])
    answer = signature_function(module, name)(*map(tf.constant, inputs.values()))
    declared = bundle.SIGNATURES[name]
    assert tuple(inputs) == declared.input_names
    assert set(answer) == set(declared.output_names)
    for row in declared.outputs:
        assert answer[row.name].dtype == row.dtype
        assert answer[row.name].shape.rank == len(row.shape)
        fixed = [(module.sizes | {"B": 2}).get(letter) for letter in row.shape]
        assert all(size in (None, found) for size, found in zip(fixed, answer[row.name].shape, strict=True))


def test_recorded_requests_have_a_row(boost, monkeypatch, tmp_path):
    monkeypatch.setattr(recorded.Servable, "load", lambda *_: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(recorded, "predict", answer_blank)
    recorded.record(tmp_path, [["a", "b"]], 3, 4)
    logs = recorded.read_recorded(tmp_path)
    controlled = [log.request for log in logs if log.request.model_spec.signature_name == "retrieve_controlled"]
    assert controlled
    assert all((sent(request)["boost"] == 0.5).all() for request in controlled)


def answer_blank(servable, request):
    """Zeros and empty text, as many as the rows of a signature say of K = V = D = 1 and an empty list."""
    rows = request.inputs[bundle.HISTORY].tensor_shape.dim[0].size
    response = predict_pb2.PredictResponse()
    for row in bundle.SIGNATURES[request.model_spec.signature_name].outputs:
        blank = dataclasses.replace(row, neutral="" if row.dtype == "string" else 0).blank({"B": rows})
        tensors.encode(blank, response.outputs[row.name])
    return response


def test_the_document_has_the_tables_of_the_rows():
    """`python -m tfdnc.contracts.bundle_tables docs/serving.md` writes them."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert bundle_tables.replace_tables(text) == text


def test_the_tables_show_a_row(boost):
    changed = bundle_tables.replace_tables(DOCUMENT.read_text(encoding="utf-8"))
    assert "| `boost` | float32 [B, K or 1] | `0.5` | Made up for this test. |" in changed
    assert "`seen`, `boost` |" in changed
    with pytest.raises(UserError, match="Expected the lines"):
        bundle_tables.replace_tables("a document without marks")


def test_what_a_model_reads_belongs_to_every_signature_that_encodes():
    for name, declared in bundle.SIGNATURES.items():
        extra = bundle.inputs_of(name, (BOOST,))[len(declared.inputs) :]
        assert extra == ((BOOST,) if name not in ("search", "describe") else ())


def test_what_has_no_neutral_value_must_be_said():
    with pytest.raises(ValueError, match="Expected a value for num_candidates, which has no neutral one"):
        bundle.row_of(bundle.NUM_CANDIDATES).blank({"B": 1})


def test_signatures_share_the_encoder_and_the_search(module):
    called = {}
    for name in ("encode", "search", "retrieve", "retrieve_controlled"):
        proto = signature_function(module, name).get_concrete_function().graph.as_graph_def()
        nodes = [*proto.node, *(node for function in proto.library.function for node in function.node_def)]
        called[name] = {node.attr["f"].func.name for node in nodes if node.op.endswith("PartitionedCall")}
    assert called["encode"]
    assert called["search"]
    assert called["retrieve"] == called["retrieve_controlled"] == called["encode"] | called["search"]
