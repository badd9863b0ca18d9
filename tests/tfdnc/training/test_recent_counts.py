"""Counts of the last days of the training part."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfdnc.contracts import schema
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.training.recent_counts import recent_counts

DAY = 86_400
BY_TIME = {"split": "time", "validation_from": 20 * DAY, "test_from": 30 * DAY}


@pytest.fixture
def files(tmp_path):
    """Two files: training events of items 1 and 2 on days 2, 9, 10 and 12; held-out events of item 3 after day 20."""
    users = [([1, 2, 3], [2, 9, 21], 2), ([1, 3], [10, 20], 1), ([2, 3], [12, 31], 1)]
    for number, part in enumerate([users[:2], users[2:]]):
        rows = [
            {"user_id": str(i), "items": items, "times": [day * DAY for day in days], "train_events": train,
             "validation": -1, "test": -1}
            for i, (items, days, train) in enumerate(part)
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(rows, schema=schema.SEQUENCE_SCHEMA), tmp_path / f"{number}.parquet")
    return sorted(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize(
    ("split", "days", "expected"),
    [
        (BY_TIME, 8, [0, 1, 0]),  # from day 12 on, up to the split on day 20
        (BY_TIME, 10, [1, 1, 0]),
        (BY_TIME, 100, [2, 2, 0]),  # no held-out event
        ({}, 2.5, [1, 1, 0]),  # another split: up to the last training event, on day 12
        ({}, 1, [0, 1, 0]),
        ({"time_unit": "ms"}, 1, [2, 2, 0]),  # all of them are within 17 minutes
    ],
)
def test_training_events_before_the_end_of_the_training_part_count(files, split, days, expected):
    np.testing.assert_array_equal(recent_counts(files, 3, DataConfig(**split), days), expected)


def test_days_without_a_training_event_are_an_error(files):
    message = r"in the last 7 days before the end .*model.popular_days.*, found none: raise it.* is s"
    with pytest.raises(UserError, match=message):
        recent_counts(files, 3, DataConfig(**BY_TIME), 7)
