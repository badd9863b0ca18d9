"""Features of items as text: the values of every column of the item file become "column=value"."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from beam_jobs.item_rows import Value
from tfdnc.contracts.data_config import FeatureKind
from tfdnc.contracts.errors import UserError

NUM_QUANTILES = 20
"""Number of ranges that a column of numbers is divided into, at most."""


Ranges = Mapping[str, Sequence[str]]
"""Ranges of numbers as text, such as "1994..1995", in ascending order, by column."""


def make_features(
    rows: Sequence[Sequence[Value] | None],
    kinds: dict[str, FeatureKind],
    separator: str,
    source: str,
    ranges: Ranges | None = None,
) -> list[list[str] | None]:
    """Turns the texts of N items into their features.

    A number becomes the smallest and the largest number of its quantile among the items, such as "year=1994..1995", so
    that items with similar numbers share a feature. A blank gives no feature.

    Args:
        rows: the texts, or lists of texts, of every item, in order of `kinds`; None for an item that is not described.
        kinds: kinds of the columns, by name.
        separator: separator of the values in a column of kind "values".
        source: the file, for the error.
        ranges: ranges of an earlier file, of which each number gets one; None makes new ones of these numbers.

    Returns:
        N lists of "column=value", each value once; None for an item that is not described, and if there are no columns.

    Raises:
        UserError: a value that is no number in a column of numbers.
    """
    if not kinds:
        return [None] * len(rows)
    features: list[list[str] | None] = [None if row is None else [] for row in rows]
    for column, (name, kind) in enumerate(kinds.items()):
        texts = ["" if row is None else row[column] for row in rows]
        if kind == "number":
            numbers = [_number(text, name, source) for text in texts]
            values = _name_quantiles(numbers) if ranges is None else _name_ranges(numbers, ranges.get(name, ()))
        else:
            values = [split_values(text, separator if kind == "values" else None) for text in texts]
        for found, own in zip(features, values, strict=True):
            if found is not None:
                found += [f"{name}={value}" for value in dict.fromkeys(own)]
    return features


def ranges_of(features: Iterable[Sequence[str]], kinds: Mapping[str, FeatureKind]) -> dict[str, list[str]]:
    """Returns the ranges in the features of an earlier file: by column of numbers, in ascending order."""
    marks = {name: f"{name}=" for name, kind in kinds.items() if kind == "number"}
    distinct = {feature for own in features for feature in own} if marks else set()
    return {
        name: sorted((one.removeprefix(mark) for one in distinct if one.startswith(mark)), key=_end)
        for name, mark in marks.items()
    }


def split_values(text: Value, separator: str | None) -> list[str]:
    """Returns the values in a text or a list, without blanks; without a separator a text is one value."""
    values = text if isinstance(text, list) else text.split(separator) if separator else [text]
    return [value.strip() for value in values if value.strip()]


def _number(text: Value, name: str, source: str) -> float:
    """Returns the number, NaN for a blank."""
    try:
        if isinstance(text, list):
            raise ValueError("a list")
        number = float(text.strip() or "nan")
    except ValueError as error:
        raise UserError(
            f"Expected numbers in column {name!r} of {source}, found {text!r}; set data.items.features.{name} to value."
        ) from error
    return number if math.isfinite(number) else math.nan


def _name_quantiles(numbers: list[float]) -> list[list[str]]:
    """Returns the quantile of each number as text: a list of one, empty for NaN."""
    values = np.array(numbers)
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return [[] for _ in numbers]
    # Ends are numbers of the file and distinct, so that equal numbers are in one quantile.
    ends = np.unique(np.append(known[np.arange(1, NUM_QUANTILES) * len(known) // NUM_QUANTILES], known[-1]))
    quantiles = np.searchsorted(ends, values)  # the first end that is not below the number; NaN comes after all ends
    starts = known[np.append(0, np.searchsorted(known, ends[:-1], side="right"))]
    names = [[f"{start:.12g}..{end:.12g}"] for start, end in zip(starts, ends, strict=True)] + [[]]
    return [names[quantile] for quantile in quantiles]


def _name_ranges(numbers: list[float], ranges: Sequence[str]) -> list[list[str]]:
    """Returns the first range that does not end below each number, or the last one: a list of one, empty for NaN."""
    if not ranges:
        return [[] for _ in numbers]
    # Numbers are rounded as the ends of ranges are.
    rounded = [float(f"{number:.12g}") for number in numbers]
    places = np.minimum(np.searchsorted([_end(text) for text in ranges], rounded), len(ranges) - 1)
    return [
        [] if math.isnan(number) else [ranges[place]] for number, place in zip(numbers, places.tolist(), strict=True)
    ]


def _end(text: str) -> float:
    """The largest number of a range."""
    return float(text.rpartition("..")[2])
