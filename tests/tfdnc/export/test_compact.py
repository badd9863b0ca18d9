"""The graph of a bundle has every constant of a function once, encodes in one place, and means the same."""

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow.core.framework import function_pb2, graph_pb2
from tensorflow.core.protobuf import saved_model_pb2

from tfdnc.backend import tf
from tfdnc.export.compact import compact_function, compact_saved_model


def constant(name, value, **more):
    proto = tf.make_tensor_proto(np.array(value))
    node = tf.compat.v1.NodeDef(name=name, op="Const", **more)
    node.attr["dtype"].type = proto.dtype
    node.attr["value"].tensor.CopyFrom(proto)
    return node


def function_of(*nodes, **outputs):
    return function_pb2.FunctionDef(node_def=nodes, ret=outputs)


def names(function):
    return [node.name for node in function.node_def]


def test_a_repeated_constant_stays_once_and_its_readers_read_the_first():
    add = tf.compat.v1.NodeDef(name="add", op="AddV2", input=["b:output:0", "x", "^a", "^b"])
    function = function_of(constant("a", 1), constant("b", 1), constant("c", 2), add, y="add:z:0", one="b:output:0")
    compact_function(function)
    assert names(function) == ["a", "c", "add"]
    assert list(function.node_def[2].input) == ["a:output:0", "x", "^a"]
    assert dict(function.ret) == {"y": "add:z:0", "one": "a:output:0"}


@pytest.mark.parametrize(
    "other",
    [
        constant("b", np.float32(1)),  # another type
        constant("b", [1]),  # another shape
        constant("b", 1, device="/device:CPU:0"),
        constant("b", 1, input=["^x"]),  # made when x is done
    ],
)
def test_constants_that_differ_stay(other):
    function = function_of(constant("a", 1), other)
    compact_function(function)
    assert names(function) == ["a", "b"]


def test_zeros_of_different_sign_stay():
    function = function_of(constant("a", 0.0), constant("b", -0.0))
    compact_function(function)
    assert names(function) == ["a", "b"]


def test_shapes_of_outputs_are_removed():
    node = text_format.Parse(
        'name: "a" op: "Identity" attr { key: "_output_shapes" value { list {} } } attr { key: "T" value { type: 1 } }',
        graph_pb2.GraphDef().node.add(),
    )
    function = function_of(node)
    compact_function(function)
    assert set(function.node_def[0].attr) == {"T"}


def test_a_compact_model_answers_the_same_with_its_own_fingerprint(tmp_path):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def answer(x):
        total = tf.zeros_like(x[:, 0])
        for column in range(3):
            total += tf.cond(x[0, column] > 0, lambda at=column: 2 * x[:, at] + 1, lambda at=column: x[:, at] - 1)
        return {"total": total}

    tf.saved_model.save(module, str(tmp_path), signatures={"answer": answer})
    before, size = answer(tf.constant([[1.0, -2, 3], [4, 5, 6]])), (tmp_path / "saved_model.pb").stat().st_size
    old = tf.saved_model.experimental.read_fingerprint(str(tmp_path)).saved_model_checksum
    compact_saved_model(tmp_path)
    assert (tmp_path / "saved_model.pb").stat().st_size < size
    assert tf.saved_model.experimental.read_fingerprint(str(tmp_path)).saved_model_checksum != old
    loaded = tf.saved_model.load(str(tmp_path)).signatures["answer"]
    np.testing.assert_array_equal(loaded(tf.constant([[1.0, -2, 3], [4, 5, 6]]))["total"], before["total"])
    graph = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    for function in graph.library.function:
        constants = [node.attr["value"].SerializeToString() for node in function.node_def if node.op == "Const"]
        assert len(constants) == len(set(constants))
