"""Operations in a SavedModel, and which of them a stock TensorFlow Serving has no kernel for."""

import re
from collections.abc import Iterable
from pathlib import Path

from tensorflow.core.framework import graph_pb2, node_def_pb2

from tfdnc.backend import tf

SCANN_OPS = {"Scann>TensorsToScann", "Scann>ScannSearchBatched"}


def ops_of(folder: Path) -> set[str]:
    """Returns the operations of all graphs and functions of a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graphs = [meta_graph.graph_def for meta_graph in proto.meta_graphs]
    nodes = [graph.node for graph in graphs]
    nodes += [function.node_def for graph in graphs for function in graph.library.function]
    return {node.op for some in nodes for node in some}


def foreign(ops: set[str]) -> set[str]:
    """Returns those that stock TF Serving lacks: it has TensorFlow's own kernels, no Python, XLA or TPU behind them."""
    return {op for op in ops if not hasattr(tf.raw_ops, op) or re.match("PyFunc|EagerPyFunc|Xla|TPU", op)}


def gathered_variables(graph: tf.Graph) -> set[tf.DType]:
    """Returns the types of variables that a graph gathers from; after the first gather all their reads are copies."""
    proto = graph.as_graph_def()
    nodes = [*proto.node, *(node for function in proto.library.function for node in function.node_def)]
    return {tf.as_dtype(node.attr["dtype"].type) for node in nodes if node.op in ("ResourceGather", "ResourceGatherNd")}


def readers_of(graph: graph_pb2.GraphDef, name: str) -> set[str]:
    """Returns the operations that read a placeholder of a graph, also in the functions and branches it is passed to."""
    functions = {function.signature.name: function for function in graph.library.function}

    def find(nodes: Iterable[node_def_pb2.NodeDef], argument: str) -> set[str]:
        found = set()
        for node in nodes:
            inputs = [one.removesuffix(":0") for one in node.input]
            for at in (at for at, one in enumerate(inputs) if one == argument):
                called = [
                    attribute.func.name for attribute in node.attr.values() if attribute.WhichOneof("value") == "func"
                ]
                at -= node.op in ("If", "StatelessIf")  # its first input is the condition, which no branch gets
                bodies = [functions[one] for one in called]
                found |= {node.op} if not bodies else set()
                for body in bodies:
                    found |= find(body.node_def, body.signature.input_arg[at].name)
        return found

    return find(graph.node, name)
