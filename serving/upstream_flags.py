"""Flags of tensorflow_model_server 2.20 that this server accepts without effect, or must refuse."""

import logging
from collections.abc import Mapping

from tfdnc.contracts.errors import UserError

_LOG = logging.getLogger(__name__)

IDLE: dict[str, tuple[type, str]] = {
    "flush_filesystem_caches": (bool, "versions are read from local or mounted folders, which have no such cache"),
    "remove_unused_fields_from_bundle_metagraph": (bool, "the graph is always dropped once it is loaded"),
    "num_tflite_pools": (int, "there is no TensorFlow Lite"),
    "num_tflite_interpreters_per_pool": (int, "there is no TensorFlow Lite"),
    "xla_cpu_compilation_enabled": (bool, "what a model marks for XLA is always compiled"),
    "xla_gpu_compilation_enabled": (bool, "what a model marks for XLA is always compiled"),
    "enable_profiler": (bool, "there is no profiler service"),
    "thread_pool_factory_config_file": (str, "every model uses TensorFlow's own pools"),
    "skip_initialize_tpu": (bool, "there is no TPU to initialize"),
}
"""Type, and the reason why the flag does nothing here, for flags that change no answer."""

REFUSED: dict[str, tuple[type, str]] = {
    "platform_config_file": (str, "models get their settings from the other flags: use those"),
    "mixed_precision": (str, "graphs run in the precision they were saved in: leave the flag out"),
    "use_alts_credentials": (bool, "there is no ALTS, and an open port would be no substitute: use ssl_config_file"),
}
"""Type, and advice, for flags that must be empty or false: ignoring them would change answers."""


def settle(given: Mapping[str, object]) -> None:
    """Logs a line for each flag of `IDLE`, and refuses those of `REFUSED`.

    Args:
        given: Flags of the command line, by name; flags in neither table are not checked.

    Raises:
        UserError: A flag of `REFUSED` with a value.
    """
    for name, value in given.items():
        if name in REFUSED and value:
            raise UserError(f"Expected no {name}, got {value}: {REFUSED[name][1]}.")
        if name in IDLE:
            _LOG.warning("--%s=%s does nothing here: %s", name, str(value).lower(), IDLE[name][1])
