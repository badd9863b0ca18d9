"""Source of a server's models: a config and the base paths it names, polled for new versions."""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import grpc
from tensorflow_serving.config import model_server_config_pb2

from serving import text_proto
from serving.bundles import bundle
from serving.manager import ModelManager
from serving.model_config import Models, choose_versions, models_of
from serving.request_log import RequestLogs
from serving.status import ServingError, invalid_argument
from tfdnc.contracts.errors import UserError

_LOG = logging.getLogger(__name__)


class ModelSource:
    """Tells a manager which versions to hold, from a config and the versions on disk.

    A model without a version under its base path loses all of its versions, as in TF Serving. A model whose base path
    cannot be read keeps them; unlike in TF Serving, the other models are polled nevertheless.

    Args:
        manager: Loads and unloads the versions.
        config_file: Read again by `poll_config_file`.
        allow_version_labels_for_unavailable_models: A new label may name a version that is not available.
        request_logs: Told of the logging configs of the models; None for none.
    """

    def __init__(
        self,
        manager: ModelManager,
        config_file: Path | None = None,
        allow_version_labels_for_unavailable_models: bool = False,
        request_logs: RequestLogs | None = None,
    ) -> None:
        self._manager, self._config_file, self._request_logs = manager, config_file, request_logs
        self._lenient = allow_version_labels_for_unavailable_models
        self._models: Models = {}
        self._lock = threading.Lock()  # held to change the models and to poll the disk
        self._reloading = threading.Lock()  # held until the new models are available: the next config waits

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Replaces the models by those of `config`, and waits until those it adds are available.

        Raises:
            ServingError: INVALID_ARGUMENT, FAILED_PRECONDITION or NOT_FOUND: nothing was changed. UNKNOWN: a new
                model did not become available; like TF Serving the server goes on with the new config.
        """
        with self._reloading:
            if config.WhichOneof("config") is None and self._models:  # an emptied file must not stop every model
                raise ServingError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    "Cannot transition to requested config. It is only legal to transition from one ModelConfigList "
                    "to another.",
                )
            models = models_of(config)
            labels = self._labels(models)
            new, what = models.keys() - self._models.keys(), "model" if self._models else "servable"
            for name in sorted(new):
                if not choose_versions(models[name], self._on_disk(name, models[name].base_path)):
                    raise ServingError(
                        grpc.StatusCode.NOT_FOUND,
                        f"Unable to find a numerical version path for servable {name} at: {models[name].base_path}",
                    )
            if self._request_logs is not None:  # last: it is the one check that also changes something
                logged = {
                    name: model.logging_config for name, model in models.items() if model.HasField("logging_config")
                }
                self._request_logs.update(logged)
            with self._lock:
                removed = self._models.keys() - models.keys()
                self._models = models
                self._manager.set_labels(labels)
                for name in removed:
                    self._manager.want(name, {})
            self.poll()
            self._await(new, what)

    def _labels(self, models: Models) -> dict[str, dict[str, int]]:
        """Returns the version labels of a config, checked: model -> label -> version."""
        available = self._manager.available()
        for name, model in models.items():
            existing = self._manager.labels(name)
            for label, number in model.version_labels.items():
                may_wait = self._lenient and existing.get(label, number) == number
                if number not in available.get(name, []) and not may_wait:
                    raise ServingError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {name}, which is not currently "
                        "available for inference",
                    )
        return {name: dict(model.version_labels) for name, model in models.items()}

    def _await(self, names: Iterable[str], what: str) -> None:
        failures = self._manager.wait_until_available(names)
        if failures:
            details = "".join(
                f"{{{{name: {name} version: {state.version}}} due to error: {state.code.name}: {state.message}}}, "
                for name, state in failures.items()
            )
            raise ServingError(
                grpc.StatusCode.UNKNOWN, f"{len(failures)} {what}(s) did not become available: {{{details}}}"
            )

    def poll(self) -> None:
        """Polls the base paths once, and tells the manager which versions to hold."""
        with self._lock:
            for name, model in self._models.items():
                try:
                    on_disk = self._on_disk(name, model.base_path)
                except ServingError as error:
                    _LOG.error("FileSystemStoragePathSource encountered a filesystem access error: %s", error)
                    continue
                wanted = choose_versions(model, on_disk)
                if not wanted:
                    _LOG.warning("No versions of servable %s found under base path %s", name, model.base_path)
                self._manager.want(name, wanted)

    @staticmethod
    def _on_disk(name: str, base_path: str) -> dict[int, Path]:
        try:
            return bundle.versions_in(Path(base_path))
        except (OSError, UserError) as error:
            message = f"Could not find base path {base_path} for servable {name} with error {error}"
            raise invalid_argument(message) from error

    def poll_config_file(self) -> None:
        """Reloads the config file, if there is one; an error in it is logged and changes nothing."""
        if self._config_file is None:
            return
        try:
            self.reload(text_proto.read(self._config_file, model_server_config_pb2.ModelServerConfig()))
        except (UserError, ServingError) as error:
            _LOG.error("Failed to reload %s: %s", self._config_file, error)


class Periodic:
    """Calls a function at intervals, on a thread of its own, until stopped.

    Args:
        call: The function; an error that it raises is logged, and the calls go on.
        seconds: Wait between two calls.
        name: Name of the thread.
    """

    def __init__(self, call: Callable[[], None], seconds: float, name: str) -> None:
        self._call, self._seconds = call, seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._call()
            except Exception:  # else polling would end, and the server would still look healthy
                _LOG.exception("%s failed", self._thread.name)

    def stop(self) -> None:
        """Makes no further call, and waits for the end of a running one."""
        self._stopping.set()
        self._thread.join()
