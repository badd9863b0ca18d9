"""One loaded version of a model: a TF1 session of its SavedModel, run by names of signatures and tensors."""

import dataclasses
import math
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.client import pywrap_tf_session

from serving import deadline as deadlines
from serving.bundles import bundle
from serving.status import ServingError, invalid_argument
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.tensorflow_paths import tensorflow_path

TAGS = (tf.saved_model.SERVING,)
"""Tags of the graph for serving in a SavedModel."""

MAX_PLANS = 64
"""Most sets of outputs with a pruned graph per version; each costs memory and seconds. A client may ask for any set, so
for later sets the graph of all outputs runs: clients must not be able to fill the memory of the server."""

_PRUNING_SECONDS = 2.0
"""Seconds that other requests wait for the first run of a plan; a longer run is slow for other reasons."""

_LOADER_ENTRIES = {"__saved_model_init_op", "__saved_model_train_op"}
"""Entries among a SavedModel's signatures for ops that run on loading; no client may run them again."""


class Servable:
    """A version in memory; `run` may be called from many threads at once.

    TF Serving too runs SavedModels in a TF1 `Session`. It gives every resource of the graph its own name, while
    `tf.saved_model.load` confuses ScaNN indexes without names. It frees its memory on close. It accepts feeds as the
    C++ server does, for instance a `[3]` tensor for the shape `[?, 1]` of a signature.

    Attributes:
        name: Name of the model.
        version: Number of the version.
        path: Folder of the version.
        signatures: `SignatureDef` by name, as saved.
    """

    def __init__(
        self,
        name: str,
        version: int,
        path: Path,
        config: config_pb2.ConfigProto | None = None,
        tags: Iterable[str] = TAGS,
    ) -> None:
        """Loads the version; see `Servable.load`."""
        self.name, self.version, self.path = name, version, path
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        self._making = threading.Lock()
        self._plans: dict[tuple[str, tuple[str, ...]], _Plan] = {}
        try:
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, list(tags), tensorflow_path(path))
        except BaseException:
            self._session.close()
            raise
        # Copies, so that the meta graph, a second copy of the whole graph, can be freed.
        self.signatures: dict[str, meta_graph_pb2.SignatureDef] = {}
        for key, signature in meta_graph.signature_def.items():
            self.signatures[key] = meta_graph_pb2.SignatureDef()
            self.signatures[key].CopyFrom(signature)

    @classmethod
    def load(
        cls,
        name: str,
        version: int,
        path: Path,
        config: config_pb2.ConfigProto | None = None,
        tags: Iterable[str] = TAGS,
    ) -> "Servable":
        """Checks and loads the version at `path`.

        Args:
            name: Name of the model.
            version: Number of the version.
            path: Folder of the version.
            config: Settings of the session.
            tags: Exact tags of the graph to load; a SavedModel may hold several graphs.

        Raises:
            UserError: The version cannot be served here; the message names the reason and a remedy.
        """
        bundle.check(path)
        try:
            servable = cls(name, version, path, config, tags)
        except (tf.errors.OpError, RuntimeError, OSError) as error:  # RuntimeError: no graph has the tags
            raise UserError(
                f"Expected a SavedModel that this TensorFlow can load in {path}, loading failed: {error}. "
                "Export it again, or install the library whose ops it uses."
            ) from error
        return servable

    def signature(self, key: str) -> meta_graph_pb2.SignatureDef:
        """Returns a signature by its name.

        Raises:
            ServingError: FAILED_PRECONDITION, as in TF Serving, if no signature has this name.
        """
        if key not in self.signatures or key in _LOADER_ENTRIES:
            raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
        return self.signatures[key]

    def run(
        self,
        key: str,
        feeds: Mapping[str, np.ndarray],
        outputs: Iterable[str],
        deadline: float | None = None,
        abandoned: deadlines.Abandoned | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns the wanted outputs of signature `key`.

        Args:
            key: Name of the signature, which must exist.
            feeds: Exactly the inputs of the signature by name, in the declared dtypes.
            outputs: Names of outputs in the signature; the result holds these.
            deadline: See `serving.deadline`; a started run ends after the op that runs at the deadline.
            abandoned: See `serving.deadline`.

        Raises:
            ServingError: DEADLINE_EXCEEDED or CANCELLED: the client no longer waits for the answer. INVALID_ARGUMENT:
                the graph failed with a message of TensorFlow that quotes bytes which are not UTF-8.
            tf.errors.OpError: The graph failed, or reached the deadline.
        """
        aliases = tuple(sorted(set(outputs)))
        plan, is_first = self._plan(key, aliases)
        if not is_first:
            left = deadlines.remaining(deadline)
            plan.pruned.wait(_PRUNING_SECONDS if left is None else min(_PRUNING_SECONDS, left))
        deadlines.check(deadline, abandoned)
        values = dict(zip(plan.inputs, (feeds[alias] for alias in sorted(feeds)), strict=True))
        try:
            results = dict(zip(plan.aliases, self._run(plan, values, deadline), strict=True))
        except UnicodeDecodeError as error:  # the message of the graph's error quotes bytes that are not UTF-8
            raise invalid_argument(error.object.decode(errors="replace")) from error
        finally:
            plan.pruned.set()
        return results if plan.aliases == aliases else {alias: results[alias] for alias in aliases}

    def _run(self, plan: "_Plan", values: dict[Any, np.ndarray], deadline: float | None) -> list[np.ndarray]:
        # `Session.run` first checks every name and shape, which is half of its cost. This is the call behind it. The
        # graph checks shapes, as in the C++ server. The method is private, but TF1's API no longer changes.
        run, left = self._session._call_tf_sessionrun, deadlines.remaining(deadline)
        if left is None:
            return run(None, values, plan.outputs, [], None)
        milliseconds = max(1, math.ceil(min(left * 1e3, 2**62)))
        options = pywrap_tf_session.TF_NewBufferFromString(
            config_pb2.RunOptions(timeout_in_ms=milliseconds).SerializeToString()
        )
        try:
            return run(options, values, plan.outputs, [], None)
        finally:
            pywrap_tf_session.TF_DeleteBuffer(options)

    def _plan(self, key: str, aliases: tuple[str, ...]) -> tuple["_Plan", bool]:
        """Returns a plan for at least the outputs `aliases`, and True if this call made it."""
        plan = self._plans.get((key, aliases))
        if plan is not None:
            return plan, False
        with self._making:
            if (key, aliases) not in self._plans and len(self._plans) >= MAX_PLANS:
                aliases = tuple(sorted(self.signatures[key].outputs))
            is_first = (key, aliases) not in self._plans
            if is_first:
                self._plans[key, aliases] = self._make_plan(self.signatures[key], aliases)
            return self._plans[key, aliases], is_first

    def _make_plan(self, signature: meta_graph_pb2.SignatureDef, aliases: tuple[str, ...]) -> "_Plan":
        def find(info: meta_graph_pb2.TensorInfo) -> Any:
            return self._session.graph.get_tensor_by_name(info.name)._as_tf_output()

        inputs = [find(signature.inputs[alias]) for alias in sorted(signature.inputs)]
        return _Plan(aliases, inputs, [find(signature.outputs[alias]) for alias in aliases])

    def interrupt(self) -> None:
        """Ends each current run with CANCELLED after its current op; no further run may begin."""
        self._session.close()

    def close(self) -> None:
        """Frees the version; no run may be in progress or begin later."""
        self._plans.clear()
        self._session.close()


@dataclasses.dataclass(eq=False)
class _Plan:
    """Inputs and outputs of a run, as TensorFlow's handles `TF_Output`.

    Attributes:
        aliases: Names of the outputs.
        inputs: Inputs of the signature, in order of name.
        outputs: Outputs in order of `aliases`.
        pruned: Set after the first run, which prunes the graph in tenths of a second. Concurrent requests wait for it,
            so that TensorFlow does not prune the same graph many times.
    """

    aliases: tuple[str, ...]
    inputs: list[Any]
    outputs: list[Any]
    pruned: threading.Event = dataclasses.field(default_factory=threading.Event)
