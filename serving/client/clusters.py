"""Controls of clusters by name or share of the list, converted to the numbers per cluster of a request."""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from serving import arguments
from serving.arguments import WholeNumbers
from serving.messages import tensor_of
from tfdnc.contracts import bundle
from tfdnc.contracts.bounds import LEAST, MOST
from tfdnc.contracts.cluster_controls import Control, by_number, check_counts, counts

MINIMUM, MAXIMUM, QUOTAS = LEAST, MOST, "quotas"
INPUT_OF = {MINIMUM: bundle.CLUSTER_MIN, MAXIMUM: bundle.CLUSTER_MAX, QUOTAS: bundle.CLUSTER_QUOTAS}
"""Argument by name -> the input, and argument by number, for which it stands."""

ATTEMPTS = 3
"""Attempts of a call by names: the server may load another version between the names and the lists."""

Limits = Mapping[str | int, float | Mapping[Any, float]]
"""The same, and column of the attributes -> value -> a count, or a share."""

NamedNumbers = Control | Iterable[Control]
"""One control for all users, or [B]."""

NamedLimits = Limits | Iterable[Limits]
"""One of these for all users, or [B]."""

Named = dict[str, NamedNumbers]
"""`MINIMUM`, `MAXIMUM` or `QUOTAS` -> the argument as given."""

NamedRows = dict[str, list[Control]]
"""`MINIMUM`, `MAXIMUM` or `QUOTAS` -> [B] controls, one for each history."""


def split(limits: NamedLimits | None) -> tuple[Any, Any]:
    """Returns the bounds on clusters, and those on attributes: a dict in place of a number is of a column.

    Each is one dict or [B], None if there are none. What is neither goes with the clusters, which refuse it.
    """
    each: Any = [limits] if isinstance(limits, Mapping) else None if limits is None else arguments.listed(limits)
    if each is None or not all(isinstance(one, Mapping) for one in each):
        return (limits if each is None else each), None
    columns, numbers = (
        [{key: value for key, value in one.items() if isinstance(value, Mapping) is nested} for one in each]
        for nested in (True, False)
    )
    if not any(columns):
        return (limits if isinstance(limits, Mapping) else each), None
    of_all = isinstance(limits, Mapping)
    of_clusters = None if not any(numbers) else numbers[0] if of_all else numbers
    return of_clusters, columns[0] if of_all else columns


def given(
    asked: dict[str, Any],
    minimum: NamedLimits | None = None,
    maximum: NamedLimits | None = None,
    quotas: NamedNumbers | None = None,
) -> Named:
    """Returns the arguments about clusters by name that are not None; adds those about attributes to `asked`.

    Raises:
        ValueError: A control of clusters is given both by name and by number.
    """
    least, asked["at_least"] = split(minimum)
    most, asked["at_most"] = split(maximum)
    by_name = {MINIMUM: least, MAXIMUM: most, QUOTAS: quotas}
    named = {key: control for key, control in by_name.items() if control is not None}
    for key in named:
        if asked[INPUT_OF[key]] is not None:
            raise ValueError(f"Expected {key} by names or {INPUT_OF[key]} by numbers, got both. Drop one.")
    return named


def per_history(named: Named, rows: int) -> NamedRows:
    """Returns a control for each of `rows` histories.

    Raises:
        ValueError: Neither one dict nor an ordered collection of `rows` dicts.
    """
    return {key: _per_history(controls, rows, key) for key, controls in named.items()}


def _per_history(controls: NamedNumbers, rows: int, key: str) -> list[Control]:
    each = [controls] * rows if isinstance(controls, Mapping) else arguments.listed(controls)
    if each is None or len(each) != rows or not all(isinstance(control, Mapping) for control in each):
        raise ValueError(
            f"Expected {key} as a dict of clusters, or {rows} of these, one per history, got "
            f"{arguments.shown(controls if each is None else each)}. Numbers for all clusters go to {INPUT_OF[key]}."
        )
    return each


def numbered(named: NamedRows, names: list[str], num_candidates: WholeNumbers) -> dict[str, np.ndarray]:
    """Returns the arguments of `messages.retrieve_request` for controls by name.

    A whole number is a count, a float is a share in 0..1 of the row's `num_candidates`. A minimum is rounded up and a
    maximum down, so that the list keeps both. Quotas are weights of any scale; clusters without a name in them have 0.
    A name of two clusters is refused; their numbers are accepted.

    Args:
        named: Result of `per_history`.
        names: Names of the clusters, by number.
        num_candidates: One number, or [B].

    Returns:
        [B, K] arrays by argument.

    Raises:
        ValueError: An unknown or ambiguous cluster, a value that is neither a count nor a share, or controls that no
            list can meet.
    """
    rows = max(map(len, named.values()), default=0)
    lengths = tensor_of(bundle.row_of(bundle.NUM_CANDIDATES), num_candidates, [()] * rows).tolist()
    arrays = {}
    for key, controls in named.items():
        one = _weights if key == QUOTAS else counts
        asked = [one(key, control, names, length) for control, length in zip(controls, lengths, strict=True)]
        arrays[key] = np.array(asked, bundle.row_of(INPUT_OF[key]).numpy_dtype).reshape(rows, len(names))
    for row, length in enumerate(lengths):
        minimum, maximum = (arrays[key][row] if key in arrays else None for key in (MINIMUM, MAXIMUM))
        check_counts(minimum, maximum, length, names, f" for history {row}")
    return {INPUT_OF[key]: array for key, array in arrays.items()}


def _weights(key: str, control: Control, names: Sequence[str], length: int) -> np.ndarray:
    """Returns `[K]` weights; the length of the list has no part in them."""
    weights = np.zeros(len(names), bundle.row_of(INPUT_OF[key]).numpy_dtype)  # in which the smallest weights are 0
    for cluster, value in by_number(control, names, key).items():
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) < math.inf:
            raise ValueError(f"Expected {key} of {names[cluster]!r} to be a weight from 0 up, got {value!r}.")
        weights[cluster] = value
    if control and not weights.any():
        raise ValueError(f"Expected {key} of which one is above 0, got {dict(control)!r}. Leave them out.")
    return weights
