"""The model manager of a server, made of its options: session, batching, warm-up and retries of every load."""

import functools
from pathlib import Path

from serving import batching
from serving.batching_parameters import BatchingParameters
from serving.loaded_version import Load, LoadedVersion
from serving.manager import ModelManager
from serving.metrics import Metrics
from serving.monitoring import monitored, unmonitored
from serving.options import ServerOptions
from serving.servable import Servable
from serving.session_config import session_config
from serving.warmup import warm_up
from tfdnc.contracts.errors import UserError

_TFLITE_MODEL = "model.tflite"

_BATCH_THREADS = "model_server_batch_threads"
"""TF Serving's `thread_pool_name` without a parameters file; a file that leaves it out gets another default."""


def manager(options: ServerOptions, metrics: Metrics | None) -> ModelManager:
    """Returns a manager without models.

    Args:
        options: Options of the server.
        metrics: Measures loads and batches; None for no measurement.

    Raises:
        UserError: A file of the options cannot be read.
    """
    repeats = max(options.num_request_iterations_for_warmup, 1)
    load = _load(options, metrics)
    return ModelManager(
        load=load if metrics is None else monitored(metrics.timed(load), metrics.lists),
        warm_up=lambda version: warm_up(unmonitored(version), repeats) if options.enable_model_warmup else None,
        max_num_load_retries=options.max_num_load_retries,
        load_retry_interval=options.load_retry_interval_micros / 1e6,
        num_load_threads=max(options.num_load_threads, 1),
        num_unload_threads=max(options.num_unload_threads, 1),
    )


def _load(options: ServerOptions, metrics: Metrics | None) -> Load:
    tags = tuple(options.saved_model_tags.split(","))
    load: Load = functools.partial(Servable.load, config=session_config(options), tags=tags)
    if options.prefer_tflite_model:
        load = _without_tflite(load)
    if not options.enable_batching:
        return load
    file = options.batching_parameters_file
    parameters = BatchingParameters.read(file) if file else BatchingParameters(thread_pool_name=_BATCH_THREADS)
    return batching.loader(load, parameters, metrics, options.enable_per_model_batching_parameters)


def _without_tflite(load: Load) -> Load:
    """Returns `load`, with an error for versions that TF Serving would answer with a TensorFlow Lite model."""

    def check_and_load(name: str, version: int, path: Path) -> LoadedVersion:
        if (path / _TFLITE_MODEL).is_file():
            raise UserError(
                f"Expected no {_TFLITE_MODEL} in {path} beside --prefer_tflite_model, found one. This server has no "
                "TensorFlow Lite: drop the flag to serve the SavedModel, or the file."
            )
        return load(name, version, path)

    return check_and_load
