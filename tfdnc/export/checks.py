"""Checks of a request to a bundle: every violation is an INVALID_ARGUMENT with one sentence.

Each function returns assertions, for `tf.control_dependencies` of operations that must not run on a bad request.
"""

from collections.abc import Mapping, Sequence

from tfdnc.backend import tf
from tfdnc.contracts import bundle, schema
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.features import Feature
from tfdnc.retrieval.merge import Controls


def check_rows(history: tf.Tensor) -> list[tf.Operation]:
    """Checks that there is at least one row, and at most `MAX_ROWS`."""
    rows = tf.shape(history)[0]
    message = f"Expected 1 to {bundle.MAX_ROWS} rows in the request."
    return [
        tf.debugging.assert_greater_equal(rows, 1, message),
        tf.debugging.assert_less_equal(rows, bundle.MAX_ROWS, message),
    ]


def check_same_rows(first: tf.Tensor, *others: tf.Tensor | None) -> list[tf.Operation]:
    """Checks that all inputs have the same number of rows; None is an input that the signature lacks."""
    sizes = tf.stack([tf.shape(tensor)[0] for tensor in others if tensor is not None])
    return [tf.debugging.assert_equal(sizes, tf.shape(first)[0], "Expected the same number of rows in every input.")]


def check_features(
    history: tf.Tensor, features: Sequence[Feature], given: Mapping[str, tf.Tensor]
) -> list[tf.Operation]:
    """Checks the inputs that the model reads, `given` by names of tensors: their values by kind, and their width.

    Inputs of events may have fewer columns than the history `[B, L]`, and one of an empty history, but never more: a
    client that pads on the other side, or sends events of another user, would get lists without an error.
    """
    checks: list[tf.Operation] = []
    columns = tf.maximum(tf.shape(history)[1], 1)
    for feature in features:
        for row in feature.request_rows:
            if row.of_events:
                message = f"Expected at most as many columns in {row.name} as in {bundle.HISTORY}: one for each item."
                checks.append(tf.debugging.assert_less_equal(tf.shape(given[row.name])[1], columns, message))
            if feature.form.relative:
                checks += check_times(given[row.name])
            elif feature.form.from_times:
                checks += check_numbers(row.name, given[row.name], len(feature.values))
    return checks


def check_numbers(name: str, values: tf.Tensor, count: int) -> list[tf.Operation]:
    """Checks that numbers of a category are below `count`, and -1 or more."""
    message = f"Expected {name} from 0 to {count - 1}, or -1 for an unknown one."
    return [
        tf.debugging.assert_greater_equal(values, -1, message),
        tf.debugging.assert_less(values, count, message),
    ]


def check_times(*times: tf.Tensor) -> list[tf.Operation]:
    """Checks that times are unknown, or 0 and more; the model would take lower values for unknown times."""
    message = (
        f"Expected {bundle.HISTORY_TIMES} and {bundle.REQUEST_TIME} from 0 up, or {schema.UNKNOWN_TIME} for an unknown "
        "time. Only differences count: add a constant to all times of the row."
    )
    unknown = tf.constant(schema.UNKNOWN_TIME, tf.int64)
    return [tf.debugging.assert_greater_equal(tensor, unknown, message) for tensor in times]


def check_choices(row: Row, values: tf.Tensor) -> list[tf.Operation]:
    """Checks that text is one of the choices of an input, or its neutral value."""
    known = [choice for choice in (row.neutral, *row.choices) if choice is not None]
    message = f"Expected {row.name} to be one of {', '.join(map(repr, known))} in every row."
    good = tf.reduce_any(values[..., None] == tf.constant(known, tf.string), axis=-1)
    return [tf.debugging.assert_equal(good, True, message)]


def check_query(user_embeddings: tf.Tensor, intent: tf.Tensor) -> list[tf.Operation]:
    """Checks that user vectors are finite, and that the intent is one of probabilities."""
    return [
        tf.debugging.assert_all_finite(user_embeddings, "Expected finite user_embeddings."),
        tf.debugging.assert_all_finite(intent, "Expected finite intent."),
        tf.debugging.assert_non_negative(intent, "Expected intent to be probabilities, none below 0."),
    ]


def check_controls(controls: Controls, width: int) -> list[tf.Operation]:
    """Checks that lists are at most `width` long, and that the other controls can be met."""
    length = f"Expected {bundle.NUM_CANDIDATES} in 1..{width} in every row."
    checks = [
        tf.debugging.assert_greater_equal(controls.num_candidates, 1, length),
        tf.debugging.assert_less_equal(controls.num_candidates, width, length),
    ]
    joint_name = bundle.ALPHA if controls.alpha is None else bundle.JOINT_ALPHA  # a single alpha has the name `alpha`
    for name, alpha in ((bundle.ALPHA, controls.alpha), (joint_name, controls.joint_alpha)):
        if alpha is not None:
            message = f"Expected {name} to be a number, negative for the merge the bundle was exported with."
            checks.append(tf.debugging.assert_equal(tf.math.is_nan(alpha), False, message))
    if controls.weights is not None:
        checks += _check_weights(controls.weights)
    if controls.minimum is not None and controls.maximum is not None:
        checks += _check_bounds(controls.minimum, controls.maximum, controls.num_candidates)
    if controls.joint_alpha is not None:
        checks += _check_one_merge(controls.joint_alpha, controls.alpha, controls.weights)
    return checks


def check_clusters(num_clusters: int, **inputs: tf.Tensor) -> list[tf.Operation]:
    """Checks that controls have a column per cluster, no column, or one of zeros, which TF Serving's batching pads."""
    return [
        tf.debugging.assert_equal(
            tf.reduce_any(tf.shape(tensor)[1] == [0, num_clusters])
            | ((tf.shape(tensor)[1] == 1) & tf.reduce_all(tensor == 0)),
            True,
            f"Expected {name} to have {num_clusters} columns, one per cluster, or to be one column of zeros.",
        )
        for name, tensor in inputs.items()
    ]


def _check_weights(weights: tf.Tensor) -> list[tf.Operation]:
    given = tf.reduce_any(weights > 0, axis=1)
    good = tf.reduce_all(tf.math.is_finite(weights), axis=1) & (tf.reduce_all(weights >= 0, axis=1) | ~given)
    message = f"Expected {bundle.CLUSTER_QUOTAS} to be finite and from 0 up, or none above 0 in a row without quotas."
    return [tf.debugging.assert_equal(good, True, message)]


def _check_one_merge(joint_alpha: tf.Tensor, alpha: tf.Tensor | None, weights: tf.Tensor | None) -> list[tf.Operation]:
    """Checks that a row with the joint merge has no other merge."""
    others = [] if alpha is None else [(alpha >= 0, f"an {bundle.ALPHA} of 0 or more")]
    if weights is not None:
        others.append((tf.reduce_any(weights > 0, axis=1), bundle.CLUSTER_QUOTAS))
    return [
        tf.debugging.assert_equal(
            (joint_alpha >= 0) & given,
            False,
            f"Expected {bundle.JOINT_ALPHA} or {other} in a row, got both: a list has one merge. Make "
            f"{bundle.JOINT_ALPHA} negative where the other counts.",
        )
        for given, other in others
    ]


def _check_bounds(minimum: tf.Tensor, maximum: tf.Tensor, num_candidates: tf.Tensor) -> list[tf.Operation]:
    """Checks that minima are at most the maxima, and that together they fit into the list."""
    minimum = tf.maximum(minimum, 0)
    possible = (maximum < 0) | (minimum <= maximum)
    # int64, because the sum of K bounds may overflow int32.
    minima = tf.reduce_sum(tf.cast(minimum, tf.int64), axis=1)
    return [
        tf.debugging.assert_equal(
            possible,
            True,
            f"Expected no {bundle.CLUSTER_MIN} above its {bundle.CLUSTER_MAX}, which is unbounded below 0.",
        ),
        tf.debugging.assert_less_equal(
            minima,
            tf.cast(num_candidates, tf.int64),
            f"Expected the {bundle.CLUSTER_MIN} of a row to add up to at most its {bundle.NUM_CANDIDATES}.",
        ),
    ]
