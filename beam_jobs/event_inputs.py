"""Columns of the inputs of events in sequence files: those of the log, and those that follow from other columns."""

import datetime
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from beam_jobs.event_rules import Events
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.features import WEIGHT, Feature
from tfdnc.contracts.input_forms import ClockForm

_BLOCK = 900
"""Seconds in which the offset of a time zone does not change; every change is at a quarter of an hour."""

_YEARS = datetime.datetime(1, 1, 3, tzinfo=datetime.UTC), datetime.datetime(9999, 12, 29, tzinfo=datetime.UTC)
"""Times between which a time zone is known; before and after them its offset is that of the nearest one."""


def input_columns(events: Events, features: Sequence[Feature], config: DataConfig) -> dict[str, pa.Array]:
    """Returns the values `[E]` of every input of events by its column in sequence files.

    Args:
        events: of one bucket, in the order of the sequences.
        features: the inputs.
        config: holds the kinds of the targets, the time zone and the unit of times.
    """
    found = {one.column: _of_log(events, one) for one in events.features}
    weights = target_weights(events, config)
    if weights is not None:
        found[WEIGHT.column] = pa.array(weights * events.features.get(WEIGHT, np.float32(1)))
    for feature in features:
        if isinstance(form := feature.form, ClockForm):
            seconds = local_seconds(events.time // config.ticks_per_second, config.time_zone)
            found[feature.column] = pa.array(form.of_seconds(seconds))
    return found


def _of_log(events: Events, feature: Feature) -> pa.Array:
    values = pa.array(events.features[feature])
    return events.texts[feature].take(values) if feature.form.is_category else values


def target_weights(events: Events, config: DataConfig) -> np.ndarray | None:
    """Returns the weight of every event by `data.targets` `[E]` float32, 0 for one that is no target; None without."""
    for name, weights in config.targets.items():
        [feature] = (one for one in events.features if one.name == name)
        of_text = [weights.get(text, 0.0) for text in events.texts[feature].to_pylist()]
        return np.array(of_text, np.float32)[events.features[feature]]
    return None


def local_seconds(seconds: np.ndarray, zone: str) -> np.ndarray:
    """Returns the times of a clock in a time zone, given seconds since 1970 UTC `[E]` int64."""
    if zone == "UTC":
        return seconds
    first, last = (int(limit.timestamp()) for limit in _YEARS)
    blocks, which = np.unique(np.clip(seconds, first, last) // _BLOCK, return_inverse=True)
    offsets = [_offset(block * _BLOCK, ZoneInfo(zone)) for block in blocks.tolist()]
    return seconds + np.array(offsets, np.int64)[which]


def _offset(seconds: int, zone: ZoneInfo) -> int:
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC).astimezone(zone)
    offset = at.utcoffset()
    assert offset is not None  # of a time with a zone
    return int(offset.total_seconds())
