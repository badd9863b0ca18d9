"""Controls of clusters by name or share of the list, converted to the numbers per cluster of a request."""

import difflib
import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from serving import arguments
from serving.arguments import WholeNumbers
from serving.messages import tensor_of
from tfdnc.contracts import bundle
from tfdnc.contracts.bounds import LEAST, MOST, count_of

MINIMUM, MAXIMUM, QUOTAS = LEAST, MOST, "quotas"
INPUT_OF = {MINIMUM: bundle.CLUSTER_MIN, MAXIMUM: bundle.CLUSTER_MAX, QUOTAS: bundle.CLUSTER_QUOTAS}
"""Argument by name -> the input, and argument by number, for which it stands."""

_NEUTRAL = {MINIMUM: 0, MAXIMUM: -1, QUOTAS: 0}  # values of clusters that are not named

ATTEMPTS = 3
"""Attempts of a call by names: the server may load another version between the names and the lists."""

Control = Mapping[str | int, float]
"""Name or number of a cluster -> a count of results, or a share of the list."""

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
    lengths = tensor_of(bundle.row_of(bundle.NUM_CANDIDATES), num_candidates, [()] * rows)
    arrays = {}
    for key, controls in named.items():
        arrays[key] = np.full([rows, len(names)], _NEUTRAL[key], bundle.row_of(INPUT_OF[key]).numpy_dtype)
        for array, control, length in zip(arrays[key], controls, lengths.tolist(), strict=True):
            for cluster, value in _by_number(control, names, key).items():
                array[cluster] = _number(key, names[cluster], value, length)
            if key == QUOTAS and control and not array.any():
                raise ValueError(f"Expected {QUOTAS} of which one is above 0, got {dict(control)!r}. Leave them out.")
    _check(arrays, lengths, names)
    return {INPUT_OF[key]: array for key, array in arrays.items()}


def _by_number(control: Control, names: list[str], key: str) -> dict[int, float]:
    """Returns the values by number of the cluster."""
    values: dict[int, float] = {}
    for cluster, value in control.items():
        number = _find(cluster, names)
        if number in values:
            raise ValueError(f"Expected every cluster once in {key}, got {names[number]!r} twice: {dict(control)!r}.")
        values[number] = value
    return values


def _find(cluster: str | int, names: list[str]) -> int:
    matches = [number for number, name in enumerate(names) if name == cluster]
    if len(matches) > 1:
        raise ValueError(f"Expected one cluster, got {cluster!r}, the name of clusters {matches}. Give the number.")
    if matches:
        return matches[0]
    number = int(cluster) if isinstance(cluster, str) and cluster.isdecimal() else cluster
    if isinstance(number, Integral) and not isinstance(number, bool) and 0 <= number < len(names):
        return int(number)
    known = ", ".join(f"{name!r} ({number})" for number, name in enumerate(names))
    close = difflib.get_close_matches(str(cluster), names, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Expected the name or the number of a cluster, got {cluster!r}.{meant} Known: {known}.")


def _number(key: str, name: str, value: float, length: int) -> float:
    """Returns a weight, or the count that `value` means in a list of `length`."""
    if key != QUOTAS:
        return count_of(key, name, value, length)
    if isinstance(value, Real) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    raise ValueError(f"Expected {key} of {name!r} to be a weight from 0 up, got {value!r}.")


def _check(arrays: dict[str, np.ndarray], lengths: np.ndarray, names: list[str]) -> None:
    """Raises for controls that no list can meet, and for rows of zeros, which a request cannot express."""
    rounded = "a share is rounded up as a minimum, and down as a maximum"
    minimum, maximum = arrays.get(MINIMUM), arrays.get(MAXIMUM)
    if minimum is not None:
        promised = minimum.sum(axis=1, dtype=np.int64)
        for row in np.flatnonzero(promised > lengths)[:1]:
            raise ValueError(
                f"Expected minimum to add up to at most num_candidates, {lengths[row]}, got {promised[row]} for "
                f"history {row} ({rounded})."
            )
    if maximum is not None:
        for row in np.flatnonzero((maximum == 0).all(axis=1))[:1]:
            raise ValueError(f"Expected maximum to leave a cluster open, got 0 for all for history {row} ({rounded}).")
    if minimum is not None and maximum is not None:
        for row, cluster in np.argwhere((maximum >= 0) & (minimum > maximum))[:1]:
            raise ValueError(
                f"Expected minimum of {names[cluster]!r} at most its maximum, {maximum[row, cluster]}, got "
                f"{minimum[row, cluster]} for history {row} ({rounded})."
            )
