"""Counters and histograms with labels, in the text format of Prometheus."""

import abc
import bisect
import threading
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

Series = TypeVar("Series")
"""Measurements under one combination of label values."""


class _Metric(abc.ABC, Generic[Series]):
    """Named series, one per combination of label values; may be used from many threads."""

    kind = ""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._name = ":" + name.replace("/", ":")
        self._text, self._labels = text, labels
        self._lock = threading.Lock()
        self._series: dict[tuple[str, ...], Series] = {}

    def lines(self) -> Iterable[str]:
        """Yields the metric in the text format; nothing before the first measurement."""
        with self._lock:
            samples = [self._samples(values, series) for values, series in sorted(self._series.items())]
        if samples:
            yield f"# HELP {self._name} {self._text}"
            yield f"# TYPE {self._name} {self.kind}"
        for lines in samples:
            yield from lines

    def forget(self, *values: str) -> None:
        """Removes the series whose labels begin with `values`."""
        with self._lock:
            for key in [key for key in self._series if key[: len(values)] == values]:
                del self._series[key]

    @abc.abstractmethod
    def _samples(self, values: tuple[str, ...], series: Series) -> list[str]:
        """Returns the lines of one series."""

    def _sample(self, suffix: str, values: tuple[str, ...], number: float, **more: str) -> str:
        labels = dict(zip(self._labels, values, strict=True)) | more
        inside = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels.items())
        return f"{self._name}{suffix}{{{inside}}} {number:.17g}"


class Counter(_Metric[int]):
    """Sums that only grow.

    Args:
        name: With slashes, as TF Serving writes it.
        text: Help.
        *labels: Their names.
    """

    kind = "counter"

    def __init__(self, name: str, text: str, *labels: str) -> None:
        super().__init__(name, text, labels)

    def add(self, amount: int, *values: str) -> None:
        """Adds to the series with these values of the labels."""
        with self._lock:
            self._series[values] = self._series.get(values, 0) + amount

    def add_each(self, amounts: Iterable[int], series: Iterable[tuple[str, ...]]) -> None:
        """Adds to several series, each given by the values of its labels."""
        with self._lock:
            for amount, values in zip(amounts, series, strict=True):
                self._series[values] = self._series.get(values, 0) + amount

    def _samples(self, values: tuple[str, ...], series: int) -> list[str]:
        return [self._sample("", values, series)]


class Histogram(_Metric[tuple[list[int], float]]):
    """Counts of numbers by size.

    Args:
        name: With slashes, as TF Serving writes it.
        text: Help.
        labels: Their names.
        limits: Largest number of each bucket, growing; one more bucket counts larger numbers.
    """

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: tuple[str, ...], limits: Sequence[float]) -> None:
        super().__init__(name, text, labels)
        self._limits = limits

    def observe(self, number: float, *values: str) -> None:
        """Counts a number in the series with these values of the labels."""
        self.observe_all((number,), *values)

    def observe_all(self, numbers: Iterable[float], *values: str) -> None:
        """Counts several numbers in one series."""
        with self._lock:
            counts, total = self._series.get(values) or ([0] * (len(self._limits) + 1), 0.0)
            for number in numbers:
                counts[bisect.bisect_left(self._limits, number)] += 1
                total += number
            self._series[values] = (counts, total)

    def _samples(self, values: tuple[str, ...], series: tuple[list[int], float]) -> list[str]:
        counts, total = series
        lines, cumulative = [], 0
        for limit, count in zip([*(f"{limit:g}" for limit in self._limits), "+Inf"], counts, strict=True):
            cumulative += count
            lines.append(self._sample("_bucket", values, cumulative, le=limit))
        return [*lines, self._sample("_sum", values, total), self._sample("_count", values, cumulative)]


def exponential(first: float, growth: float, count: int) -> list[float]:
    """Returns the limits of TF Serving's `Buckets::Exponential`; one more bucket counts larger values."""
    return [first * growth**step for step in range(count)]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
