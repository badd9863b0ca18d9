"""Models of a server: TF Serving's ModelServerConfig, its checks, and the version policies."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from tensorflow_serving.config import file_system_storage_path_source_pb2, model_server_config_pb2

from serving.logging_config import check_logging, logging_config
from serving.status import invalid_argument

_LOG = logging.getLogger(__name__)

PLATFORM = "tensorflow"
"""The only `model_platform` that TF Serving, and this server, can load."""

Policy: TypeAlias = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
Models = dict[str, model_server_config_pb2.ModelConfig]


def single_model(
    name: str, base_path: Path, request_log: Path | None = None, request_log_rate: float = 1.0
) -> model_server_config_pb2.ModelServerConfig:
    """Returns the config of a server with one model, whose latest version it serves.

    Args:
        name: Name of the model.
        base_path: Folder of versions, or a version.
        request_log: Folder of its request log, None for no log.
        request_log_rate: Share of its requests to log.
    """
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(name=name, base_path=str(base_path.absolute()), model_platform=PLATFORM)
    if request_log is not None:
        model.logging_config.CopyFrom(logging_config(request_log.absolute() / name, request_log_rate))
    return config


def models_of(config: model_server_config_pb2.ModelServerConfig) -> Models:
    """Returns the models of a config by name.

    Raises:
        ServingError: INVALID_ARGUMENT: a custom config, or a model that TF Serving or this server would not serve.
            Or see `check_logging`.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid_argument("ModelServer does not yet support custom model config.")
    models: Models = {}
    for model in config.model_config_list.config:
        if model.name in models:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        if not Path(model.base_path).is_absolute():
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
        if platform_of(model) != PLATFORM:
            raise invalid_argument(f"Model {model.name} requests unsupported platform {platform_of(model)}")
        if model.HasField("logging_config"):
            check_logging(model.name, model.logging_config)
        models[model.name] = model
    return models


def platform_of(model: model_server_config_pb2.ModelConfig) -> str:
    """Returns the platform of a model, named in the current or in the deprecated field.

    Raises:
        ServingError: INVALID_ARGUMENT: both fields, neither, or a type without a platform.
    """
    fields = "ModelServerConfig::model_type (deprecated)", "ModelServerConfig::model_platform"
    if model.model_type == model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        if not model.model_platform:
            raise invalid_argument(f"Illegal setting neither {fields[0]} nor {fields[1]}, model name is {model.name}")
        return model.model_platform
    if model.model_platform:
        raise invalid_argument(f"Illegal setting both {fields[0]} and {fields[1]}, model name is {model.name}")
    if model.model_type != model_server_config_pb2.TENSORFLOW:
        raise invalid_argument(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
    return PLATFORM


def choose_versions(model: model_server_config_pb2.ModelConfig, on_disk: Mapping[int, Path]) -> dict[int, Path]:
    """Returns the versions on disk that the policy of a model chooses, by default the latest one."""
    policy: Policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return dict(on_disk)
    if choice == "specific":
        for number in policy.specific.versions:
            if number not in on_disk:
                _LOG.warning(
                    "Version %d of servable %s, which was requested to be served as a 'specific' version in the "
                    "servable's version policy, was not found in the file system",
                    number,
                    model.name,
                )
        return {number: on_disk[number] for number in policy.specific.versions if number in on_disk}
    latest = sorted(on_disk, reverse=True)[: max(policy.latest.num_versions, 1)]
    return {number: on_disk[number] for number in latest}
