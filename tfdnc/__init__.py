"""Divide-and-conquer embedding-based retrieval for recommender systems (Zhang et al., WWW'23).

Importing this package is cheap: a name of `__all__` is imported when it is first used, and TensorFlow only by what
needs it, through `tfdnc.backend`. docs/python.md shows the names at work.
"""

import importlib
from typing import TYPE_CHECKING

from tfdnc.contracts.version import __version__

if TYPE_CHECKING:
    from serving.bundles.in_process import Bundle, load_bundle
    from serving.client.answers import RetrievalError
    from serving.messages import Encoding, Retrieval
    from tfdnc.api.report import Report
    from tfdnc.api.runs import Run, open_run, run
    from tfdnc.contracts.config import ExperimentConfig, load_config
    from tfdnc.contracts.errors import UserError
    from tfdnc.contracts.items import ItemTable

__all__ = [
    "Bundle",
    "Encoding",
    "ExperimentConfig",
    "ItemTable",
    "Report",
    "Retrieval",
    "RetrievalError",
    "Run",
    "UserError",
    "__version__",
    "load_bundle",
    "load_config",
    "open_run",
    "run",
]

_MODULE_OF = {
    "Bundle": "serving.bundles.in_process",
    "Encoding": "serving.messages",
    "ExperimentConfig": "tfdnc.contracts.config",
    "ItemTable": "tfdnc.contracts.items",
    "Report": "tfdnc.api.report",
    "Retrieval": "serving.messages",
    "RetrievalError": "serving.client.answers",
    "Run": "tfdnc.api.runs",
    "UserError": "tfdnc.contracts.errors",
    "load_bundle": "serving.bundles.in_process",
    "load_config": "tfdnc.contracts.config",
    "open_run": "tfdnc.api.runs",
    "run": "tfdnc.api.runs",
}
"""Public name -> the module that has it."""


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    """Lists the public names, imported or not, beside what every module has."""
    return sorted({*globals(), *__all__})
