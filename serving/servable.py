"""One loaded version of a model: a TF1 session over its SavedModel, asked by the names of signatures and tensors."""

import abc
import dataclasses
import logging
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

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

_LOG = logging.getLogger(__name__)

TAGS = (tf.saved_model.SERVING,)
"""Of the graph that a SavedModel means to be served."""

MAX_PLANS = 64
"""Sets of outputs that a version gets a pruned graph for, which costs memory and seconds. Any client may ask for any
set, so later ones are answered out of all outputs: a server must not depend on how inventive its clients are."""

_PRUNING_SECONDS = 2.0
"""Seconds that others wait for the first run of a kind; a longer run is slow for other reasons."""

_OF_THE_LOADER = {"__saved_model_init_op", "__saved_model_train_op"}
"""Entries among a SavedModel's signatures that name an op to run on loading, and that no client may run again."""


class LoadedVersion(Protocol):
    """A version of a model in memory, as the manager, the calls and the warm-up use one.

    Attributes:
        name: Name of the model.
        version: Number of the version.
        path: Folder of the version.
        signatures: `SignatureDef` by name, as saved.
    """

    name: str
    version: int
    path: Path
    signatures: Mapping[str, meta_graph_pb2.SignatureDef]

    def signature(self, key: str) -> meta_graph_pb2.SignatureDef:
        """Returns a signature by its name.

        Raises:
            ServingError: FAILED_PRECONDITION, as in TF Serving, if there is none of this name.
        """
        if key not in self.signatures or key in _OF_THE_LOADER:
            raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
        return self.signatures[key]

    @abc.abstractmethod
    def run(
        self,
        key: str,
        feeds: Mapping[str, np.ndarray],
        outputs: Iterable[str],
        deadline: float | None = None,
        abandoned: deadlines.Abandoned | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns the wanted outputs of signature `key`; called from many threads at once.

        Args:
            key: Name of the signature, which must exist.
            feeds: Exactly the inputs of the signature, by their names in it, in the dtypes it declares.
            outputs: Names of outputs in the signature; the result holds these.
            deadline: See `serving.deadline`; a run that has begun ends with the op that is at work then.
            abandoned: See `serving.deadline`.

        Raises:
            ServingError: DEADLINE_EXCEEDED or CANCELLED: no request waits for the answer any more. Others say what the
                request lacks.
            tf.errors.OpError: The graph could not answer, also in time.
        """

    @abc.abstractmethod
    def interrupt(self) -> None:
        """Ends the runs that are under way, each after the op that is at work, with CANCELLED; no other may begin."""

    @abc.abstractmethod
    def close(self) -> None:
        """Frees the version; no request may come after."""


Load = Callable[[str, int, Path], LoadedVersion]
"""Loads the version of (model, number, folder)."""


class Servable(LoadedVersion):
    """A SavedModel in memory.

    A TF1 `Session` is what TF Serving itself runs SavedModels with. It gives every resource of the graph its own name
    (`tf.saved_model.load` mixes up ScaNN indexes that have none), frees its memory on close, and accepts feeds as the
    C++ server does, for instance a `[3]` tensor where the signature says `[?, 1]`.
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
        # Copies, because the rest of the meta graph, which holds the whole graph a second time, can go.
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
            config: Of the session.
            tags: Those of the graph to load, exactly; a SavedModel may hold several.

        Raises:
            UserError: The version cannot be served here; the message says why and what to do.
        """
        bundle.check(path)
        try:
            servable = cls(name, version, path, config, tags)
        except (tf.errors.OpError, RuntimeError, OSError) as error:  # RuntimeError: no graph with the tags
            raise UserError(
                f"Expected a SavedModel that this TensorFlow can load in {path}, loading failed: {error}. "
                "Export it again, or install the library whose ops it uses."
            ) from error
        _LOG.info("loaded version %d of model %s from %s", version, name, path)
        return servable

    def run(
        self,
        key: str,
        feeds: Mapping[str, np.ndarray],
        outputs: Iterable[str],
        deadline: float | None = None,
        abandoned: deadlines.Abandoned | None = None,
    ) -> dict[str, np.ndarray]:
        """Returns the wanted outputs of signature `key`; see `LoadedVersion.run`.

        Raises:
            ServingError: Also INVALID_ARGUMENT: the graph could not answer, and TensorFlow could not say why without
                quoting bytes that are no text.
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
        except UnicodeDecodeError as error:  # the graph's own error, with bytes of the request in it that are no text
            raise invalid_argument(error.object.decode(errors="replace")) from error
        finally:
            plan.pruned.set()
        return results if plan.aliases == aliases else {alias: results[alias] for alias in aliases}

    def _run(self, plan: "_Plan", values: dict[Any, np.ndarray], deadline: float | None) -> list[np.ndarray]:
        # What `Session.run` does after looking at every name and shape, which is half of its cost; shapes are then left
        # to the graph, as by the C++ server. Private, but TF1's API no longer changes.
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
        """Returns how to compute at least `aliases`, and whether this is the first run of its kind."""
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
        """See `LoadedVersion.interrupt`."""
        self._session.close()

    def close(self) -> None:
        """Frees the version; no request may be running, and none may come after."""
        self._plans.clear()
        self._session.close()
        _LOG.info("unloaded version %d of model %s", self.version, self.name)


@dataclasses.dataclass(eq=False)
class _Plan:
    """Inputs and outputs of a run, in TensorFlow's handles.

    Attributes:
        aliases: Names of the outputs.
        inputs: Of the signature, in order of name.
        outputs: In order of `aliases`.
        pruned: Set once a run is over, when TensorFlow has the pruned graph. It prunes with the first run, which takes
            tenths of a second: a crowd must not do it many times over.
    """

    aliases: tuple[str, ...]
    inputs: list[Any]
    outputs: list[Any]
    pruned: threading.Event = dataclasses.field(default_factory=threading.Event)
