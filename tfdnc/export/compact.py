"""A smaller graph in a saved bundle: every constant of a function once, and no shapes that TensorFlow infers again.

TensorFlow copies all functions of a graph several times whenever a signature is asked for the first time. So each node
of any function costs time and memory in every process that loads the bundle. `tf.saved_model.save` writes the shapes
of all outputs beside the nodes, and operations such as slices bring the same few constants hundreds of times.
"""

from pathlib import Path

from tensorflow.core.framework import function_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

_SHAPES = "_output_shapes"
"""Attribute with the shapes of a node's outputs. Sessions and loaders infer them from the operations."""


def compact_saved_model(folder: Path) -> None:
    """Rewrites the graph of the SavedModel in `folder`, and its fingerprint, which is one of the graph's bytes."""
    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta_graph in saved.meta_graphs:
        for function in meta_graph.graph_def.library.function:
            compact_function(function)
    file.write_bytes(saved.SerializeToString(deterministic=True))
    # Private, but there is no other way: the public interface only reads fingerprints.
    fingerprinting_utils.write_fingerprint(str(folder))


def compact_function(function: function_pb2.FunctionDef) -> None:
    """Removes the shapes of a function's nodes, and its repeated constants."""
    for node in function.node_def:
        node.attr.pop(_SHAPES, None)
    kept: list[node_def_pb2.NodeDef] = []
    first_of: dict[tuple[bytes, str], str] = {}
    replaced: dict[str, str] = {}
    for node in function.node_def:
        first = first_of.setdefault(_constant(node), node.name) if _is_constant(node) else node.name
        if first == node.name:
            kept.append(node)
        else:
            replaced[node.name] = first
    for node in kept:
        inputs = [_renamed(name, replaced) for name in node.input]
        node.input[:] = [name for name in inputs if not name.startswith("^")]
        node.input.extend(dict.fromkeys(name for name in inputs if name.startswith("^")))  # each once
    for outputs in (function.ret, function.control_ret):
        for key in outputs:
            outputs[key] = _renamed(outputs[key], replaced)
    rest = function_pb2.FunctionDef(node_def=kept)  # a copy, because clearing the function clears its nodes
    del function.node_def[:]
    function.node_def.extend(rest.node_def)


def _is_constant(node: node_def_pb2.NodeDef) -> bool:
    """True for a constant that depends on no other node, and has no attribute beside its value, such as a location."""
    return node.op == "Const" and not node.input and set(node.attr) == {"dtype", "value"}


def _constant(node: node_def_pb2.NodeDef) -> tuple[bytes, str]:
    """Returns what equal constants have in common: the bytes of the value, with its type and shape, and the device."""
    return node.attr["value"].tensor.SerializeToString(deterministic=True), node.device


def _renamed(reference: str, replaced: dict[str, str]) -> str:
    """Returns a reference to a node (`name`, `^name`, `name:output:0`) with the node that replaces it."""
    control = "^" if reference.startswith("^") else ""
    name, colon, output = reference.removeprefix("^").partition(":")
    return control + replaced.get(name, name) + colon + output
