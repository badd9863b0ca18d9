"""What a request to a bundle must be: every violation is an INVALID_ARGUMENT with one sentence.

Each function returns assertions; put them under `tf.control_dependencies` of what must not run on a bad request.
"""

from tfdnc.backend import tf
from tfdnc.contracts import bundle, schema
from tfdnc.retrieval.merge import Controls


def check_rows(history: tf.Tensor) -> list[tf.Operation]:
    """At least one row, and not too many."""
    rows = tf.shape(history)[0]
    message = f"Expected 1 to {bundle.MAX_ROWS} rows in the request."
    return [
        tf.debugging.assert_greater_equal(rows, 1, message),
        tf.debugging.assert_less_equal(rows, bundle.MAX_ROWS, message),
    ]


def check_same_rows(first: tf.Tensor, *others: tf.Tensor | None) -> list[tf.Operation]:
    """As many rows in all inputs; None stands for an input that the signature lacks."""
    sizes = tf.stack([tf.shape(tensor)[0] for tensor in others if tensor is not None])
    return [tf.debugging.assert_equal(sizes, tf.shape(first)[0], "Expected the same number of rows in every input.")]


def check_times(*times: tf.Tensor) -> list[tf.Operation]:
    """Times from 0 up, or unknown: a request from another zero point would be answered as one without times."""
    message = (
        f"Expected {bundle.HISTORY_TIMES} and {bundle.REQUEST_TIME} from 0 up, or {schema.UNKNOWN_TIME} for an unknown "
        "time. Only differences count: add a constant to all times of the row."
    )
    unknown = tf.constant(schema.UNKNOWN_TIME, tf.int64)
    return [tf.debugging.assert_greater_equal(tensor, unknown, message) for tensor in times]


def check_query(user_embeddings: tf.Tensor, intent: tf.Tensor) -> list[tf.Operation]:
    """Vectors that can be searched with, and an intent of probabilities."""
    return [
        tf.debugging.assert_all_finite(user_embeddings, "Expected finite user_embeddings."),
        tf.debugging.assert_all_finite(intent, "Expected finite intent."),
        tf.debugging.assert_non_negative(intent, "Expected intent to be probabilities, none below 0."),
    ]


def check_wishes(wishes: Controls, width: int) -> list[tf.Operation]:
    """A length the answer has room for, and whatever else is asked possible."""
    length = f"Expected {bundle.NUM_CANDIDATES} in 1..{width} in every row."
    checks = [
        tf.debugging.assert_greater_equal(wishes.num_candidates, 1, length),
        tf.debugging.assert_less_equal(wishes.num_candidates, width, length),
    ]
    joint_name = bundle.ALPHA if wishes.alpha is None else bundle.JOINT_ALPHA  # the only one is called `alpha`
    for name, alpha in ((bundle.ALPHA, wishes.alpha), (joint_name, wishes.joint_alpha)):
        if alpha is not None:
            message = f"Expected {name} to be a number, negative for the merge the bundle was exported with."
            checks.append(tf.debugging.assert_equal(tf.math.is_nan(alpha), False, message))
    if wishes.weights is not None:
        checks += _check_weights(wishes.weights)
    if wishes.maximum is not None:
        checks += _check_bounds(wishes)
    if wishes.joint_alpha is not None:
        checks += _check_one_merge(wishes)
    return checks


def check_clusters(num_clusters: int, **inputs: tf.Tensor) -> list[tf.Operation]:
    """A column per cluster, or nothing said: no column, or one of zeros, which TF Serving's batching can pad."""
    return [
        tf.debugging.assert_equal(
            tf.reduce_any(tf.shape(tensor)[1] == [0, num_clusters])
            | ((tf.shape(tensor)[1] == 1) & tf.reduce_all(tensor == 0)),
            True,
            f"Expected {name} to have {num_clusters} columns, one per cluster, or to be one column of zeros.",
        )
        for name, tensor in inputs.items()
    ]


def _check_weights(weights):
    given = tf.reduce_any(weights > 0, axis=1)
    good = tf.reduce_all(tf.math.is_finite(weights), axis=1) & (tf.reduce_all(weights >= 0, axis=1) | ~given)
    message = f"Expected {bundle.CLUSTER_QUOTAS} to be finite and from 0 up, or none above 0 in a row without quotas."
    return [tf.debugging.assert_equal(good, True, message)]


def _check_one_merge(wishes):
    """A row that asks for the joint merge asks for no other."""
    others = [] if wishes.alpha is None else [(wishes.alpha >= 0, f"an {bundle.ALPHA} of 0 or more")]
    if wishes.weights is not None:
        others.append((tf.reduce_any(wishes.weights > 0, axis=1), bundle.CLUSTER_QUOTAS))
    return [
        tf.debugging.assert_equal(
            (wishes.joint_alpha >= 0) & asked,
            False,
            f"Expected {bundle.JOINT_ALPHA} or {other} in a row, got both: a list has one merge. Make "
            f"{bundle.JOINT_ALPHA} negative where the other counts.",
        )
        for asked, other in others
    ]


def _check_bounds(wishes):
    minimum = tf.maximum(wishes.minimum, 0)
    possible = (wishes.maximum < 0) | (minimum <= wishes.maximum)
    # int64: K bounds of int32 may overflow when they are added.
    promised = tf.reduce_sum(tf.cast(minimum, tf.int64), axis=1)
    return [
        tf.debugging.assert_equal(
            possible,
            True,
            f"Expected no {bundle.CLUSTER_MIN} above its {bundle.CLUSTER_MAX}, which is unbounded below 0.",
        ),
        tf.debugging.assert_less_equal(
            promised,
            tf.cast(wishes.num_candidates, tf.int64),
            f"Expected the {bundle.CLUSTER_MIN} of a row to add up to at most its {bundle.NUM_CANDIDATES}.",
        ),
    ]
