"""Features of items as text: every column of the item file becomes "column=value", whatever it held."""

import math

import numpy as np

from tfdnc.contracts.data_config import FeatureKind
from tfdnc.contracts.errors import UserError

NUM_QUANTILES = 20
"""Most values that a column of numbers is told apart by."""


def make_features(
    rows: list[tuple[str | list[str], ...] | None], kinds: dict[str, FeatureKind], separator: str, source: str
) -> list[list[str] | None]:
    """Turns the texts of N items into their features.

    A number is named by the least and the most of its quantile among the items, such as "year=1994..1995": a value of
    its own would know nothing of its neighbours. Blanks say nothing.

    Args:
        rows: the texts, or lists of texts, of every item, in order of `kinds`; None for an item of which nothing is
            known.
        kinds: what the columns hold, by name.
        separator: between the values of a column of several.
        source: the file, for the error.

    Returns:
        N lists of "column=value", each value once; None for an item of which nothing is known, for all without columns.

    Raises:
        UserError: something else than a number in a column of numbers.
    """
    if not kinds:
        return [None] * len(rows)
    features = [None if row is None else [] for row in rows]
    for column, (name, kind) in enumerate(kinds.items()):
        texts = ["" if row is None else row[column] for row in rows]
        if kind == "number":
            values = _name_quantiles([_number(text, name, source) for text in texts])
        else:
            values = [split_values(text, separator if kind == "values" else None) for text in texts]
        for found, own in zip(features, values, strict=True):
            if found is not None:
                found += [f"{name}={value}" for value in dict.fromkeys(own)]
    return features


def split_values(text: str | list[str], separator: str | None) -> list[str]:
    """The values that stand in a text or a list, without blanks; with None as separator a text is one value."""
    values = text if isinstance(text, list) else text.split(separator) if separator else [text]
    return [value.strip() for value in values if value.strip()]


def _number(text: str | list[str], name: str, source: str) -> float:
    """The number, NaN for a blank."""
    try:
        number = float(text.strip() or "nan")
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"Expected numbers in column {name!r} of {source}, found {text!r}; set data.items.features.{name} to value."
        ) from error
    return number if math.isfinite(number) else math.nan


def _name_quantiles(numbers: list[float]) -> list[list[str]]:
    """The quantile that each number is in, as text: a list of one, empty for NaN."""
    values = np.array(numbers)
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return [[] for _ in numbers]
    # Numbers of the log itself, and each once: equal numbers are never told apart.
    ends = np.unique(np.append(known[np.arange(1, NUM_QUANTILES) * len(known) // NUM_QUANTILES], known[-1]))
    place = np.searchsorted(ends, values)  # of the first end that is not below; that of NaN is behind them all
    starts = known[np.append(0, np.searchsorted(known, ends[:-1], side="right"))]
    names = [[f"{start:.12g}..{end:.12g}"] for start, end in zip(starts, ends, strict=True)] + [[]]
    return [names[at] for at in place]
