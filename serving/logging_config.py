"""The `logging_config` of a model: TF Serving's message, and the values that this server can follow."""

from pathlib import Path

import grpc
from tensorflow_serving.config import logging_config_pb2

from serving.status import ServingError, invalid_argument

COLLECTOR = "tfrecord"
"""The only `type` of a log collector: TFRecord files of `PredictionLog`. Stock TF Serving brings no collector."""

_FOREIGN = ("per_task_sampling_configs", "attributes")


def check_logging(model: str, config: logging_config_pb2.LoggingConfig) -> None:
    """Checks the values of a `logging_config`; the disk is not read.

    Args:
        model: Name of the model.
        config: Its `logging_config`.

    Raises:
        ServingError: NOT_FOUND, in TF Serving's words: another type of collector. INVALID_ARGUMENT: a prefix or a rate
            that cannot be followed, or settings that this server lacks.
    """
    collector, sampling = config.log_collector_config, config.sampling_config
    if collector.type != COLLECTOR:
        raise ServingError(grpc.StatusCode.NOT_FOUND, f"Cannot find LogCollector::Factory for type: {collector.type}")
    prefix = collector.filename_prefix
    if not Path(prefix).is_absolute() or prefix.endswith("/"):
        raise invalid_argument(
            f"Expected model {model} to have an absolute path that ends in a name as filename_prefix; "
            f"got filename_prefix={prefix}"
        )
    if not 0 <= sampling.sampling_rate <= 1:
        raise invalid_argument(
            f"Expected model {model} to have a sampling_rate from 0 to 1; got sampling_rate={sampling.sampling_rate:g}"
        )
    foreign = [field for field in _FOREIGN if getattr(sampling, field)]
    if config.HasField("custom_logging_config"):
        foreign.append("custom_logging_config")
    if foreign:
        raise invalid_argument(f"Model {model} has {foreign[0]} in its logging_config; this server has no such setting")


def logging_config(prefix: Path, rate: float) -> logging_config_pb2.LoggingConfig:
    """Returns the config that logs a share `rate` of the requests to files whose paths begin with `prefix`."""
    config = logging_config_pb2.LoggingConfig()
    config.log_collector_config.type, config.log_collector_config.filename_prefix = COLLECTOR, str(prefix)
    config.sampling_config.sampling_rate = rate
    return config
