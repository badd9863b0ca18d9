"""Forms of declared inputs by kind: types, names and conversions in every file and tensor.

Letters: B batch, L history length, E events of a file, S sequences.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfdnc.contracts import bundle, schema
from tfdnc.contracts.bundle import Row


class Of(StrEnum):
    """Owner of an input."""

    EVENT = "event"  # known once the event has happened
    USER = "user"
    REQUEST = "request"  # known when a request is made, and of every past event
    ITEM = "item"


class Kind(StrEnum):
    """Kind of the values of an input."""

    VALUE = "value"
    VALUES = "values"
    NUMBER = "number"
    VECTOR = "vector"
    TIME = "time"
    WEIGHT = "weight"
    HOUR = "hour_of_day"
    WEEKDAY = "day_of_week"
    EXPOSURES = "exposures"


class Form:
    """Form of an input, with the defaults of most kinds.

    Attributes:
        arrow: type of one value in sequence files.
        block: type of one value in blocks of events.
        dtype: of values in memory and in windows; records hold lists of floats or of int64.
        unknown: the value for "not known" in records, memory and windows.
        request_dtype: TensorFlow's name of the type in requests.
        neutral: the value for "not known" in requests and in sequence files.
        values: the values of a category that does not depend on the log, in order of their numbers 1, 2, ...
        is_category: True if windows hold numbers of values, 0 for unknown.
        from_times: True if the values are computed from the times of the log, which has no column of them.
        in_held_out: True if histories of held-out targets and of requests have the input, False for training alone.
        of_target: True if a position of a window reads the value of the next event, whatever the owner.
        relative: True if only differences count, so that any clock may make a request.
        of_items: True if an event has a list of items; windows hold `[B, L, W]` item indices, padded with 0.
    """

    arrow: pa.DataType = pa.float32()
    block: pa.DataType = pa.float32()
    dtype: np.dtype = np.dtype(np.float32)
    unknown: float = schema.UNKNOWN_NUMBER
    request_dtype: str = "float32"
    neutral: float | str = schema.UNKNOWN_NUMBER
    values: tuple[str, ...] | None = None
    is_category: bool = False
    from_times: bool = False
    in_held_out: bool = True
    of_target: bool = False
    relative: bool = False
    of_items: bool = False

    def event_column(self, name: str) -> str:
        """Column in a block of events."""
        return f"event_{name}"

    def column(self, name: str) -> str:
        """Column of an input of events in the sequence files, a list with a value per event."""
        return f"event_{name}"

    def key(self, name: str) -> str:
        """Name of an input of events in records, memory and windows."""
        return f"event_{name}"

    def recorded(self, values: pa.Array, starts: np.ndarray, known: Sequence[str]) -> np.ndarray:
        """Returns the values for records `[E]`.

        Args:
            values: `[E]` of a sequence file.
            starts: `[S]` first events of the sequences.
            known: the values that have a number, of a category of the log.
        """
        del starts, known
        return values.to_numpy()

    def sent(self, values: np.ndarray, known: Sequence[str]) -> list:
        """Returns the values `[T]` of a window as a request has them.

        Args:
            values: of the window.
            known: the values that have a number, of a category of the log; of items, the ids of all items.
        """
        del known
        return values.tolist()

    def history_rows(self, name: str) -> tuple[Row, ...]:
        """Inputs of the signatures that encode a history, for an input of events."""
        meaning = (
            f"`{name}` of each event of the history; {self.unknown_text}: unknown, as are columns that are missing."
        )
        argument = f"features[{name!r}]"
        return (Row(f"history_{name}", self.request_dtype, bundle.PER_EVENT, self.neutral, meaning, argument),)

    @property
    def unknown_text(self) -> str:
        """The neutral value for documents."""
        return f"`{self.neutral:g}`" if isinstance(self.neutral, int | float) else "empty text"


class TimeForm(Form):
    """Time of an event; records and windows hold the time elapsed from one event to the next."""

    arrow = block = pa.int64()  # the log's own unit
    dtype = np.dtype(np.int64)
    unknown = schema.UNKNOWN_TIME
    request_dtype = "int64"
    neutral = schema.UNKNOWN_TIME
    of_target = True
    relative = True

    def event_column(self, name: str) -> str:
        """See `Form`; a log has one time."""
        return name

    def column(self, name: str) -> str:
        """See `Form`."""
        return f"{name}s"

    def key(self, name: str) -> str:
        """See `Form`."""
        del name
        return "elapsed"

    def recorded(self, values: pa.Array, starts: np.ndarray, known: Sequence[str]) -> np.ndarray:
        """Returns the time since the event before `[E]`, 0 for the first event of a sequence, at most 2^63 - 1."""
        del known
        # Unsigned: the difference of two times may exceed an int64, and is never negative inside a sequence.
        unsigned = values.to_numpy().view(np.uint64)
        elapsed = np.minimum(np.diff(unsigned, prepend=unsigned[:1]), np.uint64(2**63 - 1)).view(np.int64)
        elapsed[starts[starts < len(values)]] = 0
        return elapsed

    def history_rows(self, name: str) -> tuple[Row, ...]:
        """Returns the times of the items, and the time of the request, all of one clock."""
        del name
        return bundle.TIMES


class WeightForm(Form):
    """Weight of an event in the training loss; no request has it."""

    unknown = 0.0
    in_held_out = False
    of_target = True

    def event_column(self, name: str) -> str:
        """See `Form`; a log has one weight."""
        return name

    def column(self, name: str) -> str:
        """See `Form`."""
        return f"{name}s"

    def key(self, name: str) -> str:
        """See `Form`."""
        return name

    def history_rows(self, name: str) -> tuple[Row, ...]:
        """Returns no rows."""
        del name
        return ()


class ValueForm(Form):
    """Category, text in logs and requests; windows hold the number of a value among those of the training events."""

    arrow = pa.string()
    block = pa.dictionary(pa.int32(), pa.string())
    dtype = np.dtype(np.int32)
    unknown = 0
    request_dtype = "string"
    neutral = ""
    is_category = True

    def recorded(self, values: pa.Array, starts: np.ndarray, known: Sequence[str]) -> np.ndarray:
        """Returns the numbers of the values `[E]` int32; 0 for unknown ones, and those not among the known."""
        del starts
        found = pc.index_in(values, value_set=pa.array(known, pa.string()))
        return found.fill_null(-1).to_numpy().astype(np.int32) + 1

    def sent(self, values: np.ndarray, known: Sequence[str]) -> list:
        """See `Form`."""
        return np.array(["", *known], object)[values].tolist()


class ClockForm(Form):
    """Category that is computed from the times of a log: a number from 0 up in requests, one more in windows.

    Args:
        count: number of values.
        ticks: seconds of one value.
        first: value at the beginning of 1970.
    """

    arrow = block = pa.int32()
    dtype = np.dtype(np.int32)
    unknown = 0
    request_dtype = "int32"
    neutral = -1
    is_category = True
    from_times = True

    def __init__(self, count: int, ticks: int, first: int) -> None:
        self.values: tuple[str, ...] = tuple(map(str, range(count)))
        self._ticks, self._first = ticks, first

    def recorded(self, values: pa.Array, starts: np.ndarray, known: Sequence[str]) -> np.ndarray:
        """See `Form`."""
        del starts, known
        return values.to_numpy() + np.int32(1)

    def sent(self, values: np.ndarray, known: Sequence[str]) -> list:
        """See `Form`."""
        del known
        return (values - 1).tolist()

    def of_seconds(self, local: np.ndarray) -> np.ndarray:
        """Returns the values int32 of local times `[E]` int64, in seconds since 1970."""
        return ((local // self._ticks + self._first) % len(self.values)).astype(np.int32)


class ExposuresForm(Form):
    """Items that were shown after an event, before the next one, and passed over; a log has one such input."""

    arrow = pa.list_(pa.int32())
    dtype = np.dtype(np.int32)
    unknown = 0
    request_dtype = "string"
    neutral = ""
    of_items = True

    def column(self, name: str) -> str:
        """See `Form`."""
        return name

    def key(self, name: str) -> str:
        """See `Form`."""
        return name

    def sent(self, values: np.ndarray, known: Sequence[str]) -> list:
        """Returns the ids of the items of every event, given their indices `[T, W]`."""
        return [[known[item - 1] for item in row if item] for row in values.tolist()]

    def history_rows(self, name: str) -> tuple[Row, ...]:
        """See `Form`."""
        del name
        return (bundle.EXPOSURES,)


FORMS: Mapping[Kind, Form] = {
    Kind.TIME: TimeForm(),
    Kind.WEIGHT: WeightForm(),
    Kind.NUMBER: Form(),
    Kind.VALUE: ValueForm(),
    Kind.HOUR: ClockForm(24, 3600, 0),
    Kind.WEEKDAY: ClockForm(7, 86400, 3),  # Monday is 0, and 1970 began on a Thursday
    Kind.EXPOSURES: ExposuresForm(),
}
"""Form by kind, of the kinds that an input of events, of requests and of users can have."""


_NEUTRAL = {form.request_dtype: form.neutral for form in FORMS.values() if not form.relative}
"""Neutral value by type of a request's input: a bundle's metadata tell its type, and not its kind."""

_PER_USER = ("request_", "user_")
"""Beginnings of the names of inputs with a value per user."""


def declared_row(name: str, dtype: str) -> Row | None:
    """Returns the input of a signature with this name and TensorFlow's type; None if no config declares it."""
    if name == bundle.HISTORY_EXPOSURES:
        return bundle.EXPOSURES
    per_event = name.startswith("history_")
    if name in {row.name for row in bundle.TIMES} or not (per_event or name.startswith(_PER_USER)):
        return None
    key = name.removeprefix("history_")
    shape = bundle.PER_EVENT if per_event else bundle.PER_USER
    return Row(name, dtype, shape, _NEUTRAL[dtype], "", f"features[{key!r}]") if dtype in _NEUTRAL else None
