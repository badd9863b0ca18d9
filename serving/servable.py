"""One loaded version of a model: a TF1 session over its SavedModel, asked by the names of signatures and tensors."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving import bundle
from serving import deadline as deadlines
from serving.status import ServingError, invalid_argument
from tfdnc.errors import UserError
from tfdnc.tensorflow_paths import tensorflow_path

_LOG = logging.getLogger(__name__)

Load = Callable[[str, int, Path], "Servable"]
"""Makes the servable of (model, version, folder)."""

MAX_CALLABLES = 64
"""Sets of outputs that a version gets a pruned graph for, which costs memory and seconds. Any client may ask for any
set, so later ones are answered out of all outputs: a server must not depend on how inventive its clients are."""

_OF_THE_LOADER = {"__saved_model_init_op", "__saved_model_train_op"}
"""Entries among a SavedModel's signatures that name an op to run on loading, and that no client may run again."""


class Servable:
    """A version in memory; `run` may be called from many threads at once.

    A TF1 `Session` is what TF Serving itself runs SavedModels with. It gives every resource of the graph its own name
    (`tf.saved_model.load` mixes up ScaNN indexes that have none), frees its memory on close, and accepts feeds as the
    C++ server does, for instance a `[3]` tensor where the signature says `[?, 1]`.

    Attributes:
        name: Name of the model.
        version: Number of the version.
        path: Folder of the version.
        signatures: `SignatureDef` by name, as saved.
    """

    def __init__(self, name: str, version: int, path: Path, config: config_pb2.ConfigProto | None = None):
        """Loads the version; see `Servable.load`."""
        self.name, self.version, self.path = name, version, path
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        self._making = threading.Lock()
        self._callables: dict[tuple[str, tuple[str, ...]], Callable] = {}
        try:
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], tensorflow_path(path))
        except BaseException:
            self._session.close()
            raise
        # Copies, because the rest of the meta graph, which holds the whole graph a second time, can go.
        self.signatures: dict[str, meta_graph_pb2.SignatureDef] = {}
        for key, signature in meta_graph.signature_def.items():
            self.signatures[key] = meta_graph_pb2.SignatureDef()
            self.signatures[key].CopyFrom(signature)

    @classmethod
    def load(cls, name: str, version: int, path: Path, config: config_pb2.ConfigProto | None = None) -> "Servable":
        """Checks and loads the version at `path`; `config` is the session's.

        Raises:
            UserError: The version cannot be served here; the message says why and what to do.
        """
        bundle.check(path)
        try:
            servable = cls(name, version, path, config)
        except (tf.errors.OpError, RuntimeError, OSError) as error:  # RuntimeError: no graph with the tag "serve"
            raise UserError(
                f"Expected a SavedModel that this TensorFlow can load in {path}, loading failed: {error}. "
                "Export it again, or install the library whose ops it uses."
            ) from error
        _LOG.info("loaded version %d of model %s from %s", version, name, path)
        return servable

    def signature(self, key: str) -> meta_graph_pb2.SignatureDef:
        """Returns a signature by its name.

        Raises:
            ServingError: FAILED_PRECONDITION, as in TF Serving, if there is none of this name.
        """
        if key not in self.signatures or key in _OF_THE_LOADER:
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

        A run that has begun is finished, whatever the time: a callable takes no timeout per call, and `Session.run`,
        which does, costs twice as much.

        Args:
            key: Name of the signature, which must exist.
            feeds: Exactly the inputs of the signature, by their names in it, in the dtypes it declares.
            outputs: Names of outputs in the signature; the result holds these.
            deadline: See `serving.deadline`.
            abandoned: See `serving.deadline`.

        Raises:
            ServingError: DEADLINE_EXCEEDED or CANCELLED: nobody waits for the answer any more. INVALID_ARGUMENT: the
                graph could not answer, and TensorFlow could not say why without quoting bytes that are no text.
            tf.errors.OpError: The graph could not answer.
        """
        aliases = tuple(sorted(set(outputs)))
        values = [feeds[alias] for alias in sorted(feeds)]
        fetched, call = self._callable(key, aliases)
        deadlines.check(deadline, abandoned)
        try:
            results = dict(zip(fetched, call(*values), strict=True))
        except UnicodeDecodeError as error:  # the graph's own error, with bytes of the request in it that are no text
            raise invalid_argument(error.object.decode(errors="replace")) from error
        return results if fetched == aliases else {alias: results[alias] for alias in aliases}

    def _callable(self, key: str, aliases: tuple[str, ...]) -> tuple[tuple[str, ...], Callable]:
        """Returns a function from the inputs in order of name to outputs, and their names: at least `aliases`."""
        call = self._callables.get((key, aliases))
        if call is not None:
            return aliases, call
        with self._making:  # pruning a graph takes tenths of a second: a crowd must not do it many times over
            if (key, aliases) not in self._callables and len(self._callables) >= MAX_CALLABLES:
                aliases = tuple(sorted(self.signatures[key].outputs))
            if (key, aliases) not in self._callables:
                self._callables[key, aliases] = self._make_callable(self.signatures[key], aliases)
            return aliases, self._callables[key, aliases]

    def _make_callable(self, signature: meta_graph_pb2.SignatureDef, aliases: tuple[str, ...]):
        inputs = [signature.inputs[alias].name for alias in sorted(signature.inputs)]
        fetches = [signature.outputs[alias].name for alias in aliases]
        # The underscore marks it private, but it is half the cost of Session.run, and unlike that it leaves the
        # check of shapes to the graph, as the C++ server does. TF1's API no longer changes.
        return self._session._make_callable_from_options(config_pb2.CallableOptions(feed=inputs, fetch=fetches))

    def close(self) -> None:
        """Frees the version; no request may be running, and none may come after."""
        self._callables.clear()
        self._session.close()
        _LOG.info("unloaded version %d of model %s", self.version, self.name)
