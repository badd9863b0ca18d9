"""Checks of a request: inputs of events are beside the items of the history."""

import pytest

from tfdnc.backend import tf
from tfdnc.contracts.features import EXPOSURES, TIME, Kind, event_feature
from tfdnc.export.checks import check_features

FEATURES = (TIME, event_feature("dwell", Kind.NUMBER), EXPOSURES)


def check(columns, times, dwell, exposures):
    history = tf.fill([2, columns], "a")
    given = {
        "history_times": tf.zeros([2, times], tf.int64),
        "request_time": tf.zeros([2], tf.int64),
        "history_dwell": tf.zeros([2, dwell]),
        "history_exposures": tf.fill([2, exposures, 5], ""),
    }
    check_features(history, FEATURES, given)


@pytest.mark.parametrize(("columns", "times", "dwell", "exposures"), [(3, 3, 3, 3), (3, 1, 0, 2), (0, 1, 1, 1)])
def test_inputs_of_events_may_have_fewer_columns_than_the_history(columns, times, dwell, exposures):
    check(columns, times, dwell, exposures)


@pytest.mark.parametrize(
    ("columns", "name"), [((3, 4, 3, 3), "times"), ((3, 3, 4, 3), "dwell"), ((0, 1, 1, 2), "exposures")]
)
def test_more_columns_than_the_history_are_refused(columns, name):
    """They were cut off in silence, over REST and in a plain gRPC request; the client refused them."""
    message = f"Expected at most as many columns in history_{name} as in history"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        check(*columns)
