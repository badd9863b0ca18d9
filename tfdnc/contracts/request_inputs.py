"""Inputs of requests: those that the model of a bundle reads, and their values for a user of a log."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tfdnc.contracts.config import parse_config
from tfdnc.contracts.features import Feature, model_features


def manifest_features(config: Mapping[str, Any]) -> tuple[Feature, ...]:
    """Returns the inputs of a bundle's model, from the config in its manifest, which may be of another release."""
    data, model = config["data"].get("events", {}), config["model"].get("inputs", [])  # earlier releases had none
    values = {"data": {"events": data}, "model": {"inputs": model, "times": config["model"]["times"]}}
    return model_features(parse_config({"name": config["name"], **values}, "the bundle's manifest"))


def asked_inputs(feature: Feature, values: Sequence[Any], length: int) -> dict[str, Any]:
    """Returns the values of a request by names of tensors, for the first `length` events of a sequence.

    Args:
        feature: an input of events.
        values: [T] of all events of the sequence, as the sequence files have them, T > length or the same.
        length: number of events of the history; a request is made at the time of the next event, or of the last.
    """
    form = feature.form
    window = form.recorded(pa.array(values, form.arrow).to_numpy(), np.zeros(1, np.int64))
    if form.of_target:
        window = np.append(window[1:], window.dtype.type(0))
    sent = form.asked(window[:length], start=values[0])
    return {row.name: value for row, value in zip(feature.request_rows, sent, strict=True)}
