"""Inputs of requests: those that the model of a bundle reads, from the config in its manifest."""

from collections.abc import Mapping
from typing import Any

from tfdnc.contracts.config import parse_config
from tfdnc.contracts.features import Feature, model_features

_DECLARING = ("events", "context", "users", "targets", "exposures")
"""Keys of the data section that declare inputs; earlier releases lack some."""


def manifest_features(config: Mapping[str, Any]) -> tuple[Feature, ...]:
    """Returns the inputs of a bundle's model, from the config in its manifest, which may be of another release."""
    data = {key: config["data"][key] for key in _DECLARING if config["data"].get(key)}
    if "users" in data:
        data["users"] = {"path": "users", "features": data["users"]["features"]}
    values = {
        "data": data,
        "model": {"inputs": config["model"].get("inputs", []), "times": config["model"]["times"]},
    }
    return model_features(parse_config({"name": config["name"], **values}, "the bundle's manifest"))
