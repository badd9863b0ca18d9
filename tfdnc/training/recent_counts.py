"""Counts of items in the last days of the training part, for lists of what is popular now."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.sequences import last_training_time, timed_training_part

_SECONDS_OF_A_DAY = 86_400


def recent_counts(files: Sequence[Path], num_items: int, data: DataConfig, days: float) -> np.ndarray:
    """Counts the training events of the `days` before the end of the training part.

    With `split: time` the training part ends at `data.validation_from`, else with its last event. So the counts see
    no event that a model does not train on.

    Args:
        files: sequence files that `prepare` wrote.
        num_items: N.
        data: the split, and the unit of the times.
        days: length of the window, may be a fraction.

    Returns:
        `[N]` int64, in order of `sequence_index` 1..N.

    Raises:
        UserError: there is no event in the window.
    """
    if data.split == "time":
        end = data.boundaries[0]
    else:
        end = 1 + max((last for file in files if (last := last_training_time(file)) is not None), default=0)
    first = end - days * _SECONDS_OF_A_DAY * data.ticks_per_second
    counts = np.zeros(num_items, np.int64)
    for file in files:
        items, times = timed_training_part(file)
        counts += np.bincount(items[times >= first] - 1, minlength=num_items)
    if not counts.any():
        raise UserError(
            f"Expected training events in the last {days:g} days before the end of the training part "
            f"(model.popular_days), found none: raise it. The unit of the log's times is {data.unit}."
        )
    return counts
