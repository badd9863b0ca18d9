"""Declared inputs: values of an event in a log beside user and item, and their form in every file and tensor.

An input is declared once. From the declaration follow its column in the sequence files, its TFRecord feature, its dtype
in memory and the inputs of the signatures. So no station knows an input by its name. Differences between kinds are in
their `Form`. Two registries by kind complete it: readers of columns of a log (`beam_jobs.logs`) and layers that bring
an input into a token (`tfdnc.model.inputs`).

Letters: B batch, L history length, E events of a file, S sequences.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa

from tfdnc.contracts import bundle, schema
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.data_config import DataConfig


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


class Form:
    """Form of an input of events, with the defaults of most kinds.

    Attributes:
        arrow: type of one value, in blocks of events and in sequence files.
        dtype: of values in memory and in windows; records hold lists of floats or of int64.
        unknown: the value for "not known".
        in_held_out: True if histories of held-out targets and of requests have the input, False for training alone.
        of_target: True if a position of a window reads the value of the next event.
        relative: True if only differences count, so that any clock may make a request.
    """

    arrow: pa.DataType = pa.float32()
    dtype: np.dtype = np.dtype(np.float32)
    unknown: float = schema.UNKNOWN_NUMBER
    in_held_out: bool = True
    of_target: bool = False
    relative: bool = False

    def event_column(self, name: str) -> str:
        """Column in a block of events."""
        return self.key(name)

    def column(self, name: str) -> str:
        """Column in the sequence files, a list with a value per event."""
        return self.key(name)

    def key(self, name: str) -> str:
        """Name in records, in memory and in windows; "target_" precedes it for the target's value in records."""
        return f"event_{name}"

    def recorded(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Returns the values for records `[E]`, given the values of the events `[E]` and the sequence starts `[S]`."""
        del starts
        return values

    def request_rows(self, name: str) -> tuple[Row, ...]:
        """Inputs of the signatures that encode a history."""
        meaning = (
            f"`{name}` of each event of the history; `{self.unknown:g}`: unknown, as are columns that are missing."
        )
        argument = f"features[{name!r}]"
        return (Row(f"history_{name}", self.dtype.name, bundle.PER_EVENT, self.unknown, meaning, argument),)

    def asked(self, values: np.ndarray, start: int) -> tuple[list | int, ...]:
        """Returns the values of the `request_rows` that a client sends for a user whose window reads `values` `[T]`.

        Args:
            values: as held-out records have them.
            start: time of the first event, for inputs of which only differences count.
        """
        del start
        return (values.tolist(),)


class TimeForm(Form):
    """Time of an event; records and windows hold the time elapsed from one event to the next."""

    arrow = pa.int64()  # the log's own unit
    dtype = np.dtype(np.int64)
    unknown = schema.UNKNOWN_TIME
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

    def recorded(self, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Returns the time since the event before `[E]`, 0 for the first event of a sequence, at most 2^63 - 1."""
        # Unsigned: the difference of two times may exceed an int64, and is never negative inside a sequence.
        unsigned = values.view(np.uint64)
        elapsed = np.minimum(np.diff(unsigned, prepend=unsigned[:1]), np.uint64(2**63 - 1)).view(np.int64)
        elapsed[starts[starts < len(values)]] = 0
        return elapsed

    def request_rows(self, name: str) -> tuple[Row, ...]:
        """Returns the times of the items, and the time of the request, all of one clock."""
        del name
        return bundle.TIMES

    def asked(self, values: np.ndarray, start: int) -> tuple[list | int, ...]:
        """Returns the times of the items, and that of the request."""
        *times, request_time = (start + np.append(0, np.cumsum(values))).tolist()
        return times, request_time


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

    def request_rows(self, name: str) -> tuple[Row, ...]:
        """Returns no rows."""
        del name
        return ()


FORMS: dict[Kind, Form] = {Kind.TIME: TimeForm(), Kind.WEIGHT: WeightForm(), Kind.NUMBER: Form()}
"""Form by kind, of the kinds that an input of events can have."""


@dataclass(frozen=True)
class Feature:
    """A declared input.

    Attributes:
        name: as the config declares it.
        of: its owner.
        kind: of its values.
        unknown: the value for "not known", and for padding.
    """

    name: str
    of: Of
    kind: Kind
    unknown: float

    @property
    def form(self) -> Form:
        """Form of its kind."""
        return FORMS[self.kind]

    @property
    def config_key(self) -> str:
        """Key of the config that declares it, for messages."""
        return f"data.columns.{self.name}" if self in (TIME, WEIGHT) else f"data.events.{self.name}"

    @property
    def event_column(self) -> str:
        """Column in a block of events."""
        return self.form.event_column(self.name)

    @property
    def column(self) -> str:
        """Column in the sequence files."""
        return self.form.column(self.name)

    @property
    def key(self) -> str:
        """Name in records, in memory and in windows."""
        return self.form.key(self.name)

    @property
    def target_key(self) -> str:
        """Name of the target's own value in held-out records, where the form is `of_target`."""
        return f"target_{self.key}"

    @property
    def request_rows(self) -> tuple[Row, ...]:
        """Inputs of the signatures that encode a history."""
        return self.form.request_rows(self.name)


def event_feature(name: str, kind: Kind) -> Feature:
    """Returns the declaration of an input of events."""
    return Feature(name, Of.EVENT, kind, FORMS[kind].unknown)


TIME, WEIGHT = event_feature("time", Kind.TIME), event_feature("weight", Kind.WEIGHT)
"""The inputs with a key in `data.columns`."""


def log_features(config: DataConfig) -> tuple[Feature, ...]:
    """Returns the inputs of every event of a log: its time (0 without one), its weight, and `data.events`."""
    weighted = config.has_named_columns and config.columns.weight is not None
    declared = (event_feature(name, Kind(kind)) for name, kind in config.events.items())
    return (TIME, *([WEIGHT] if weighted else []), *declared)


def model_features(config: ExperimentConfig) -> tuple[Feature, ...]:
    """Returns the inputs that the model reads: times with `model.times`, and what `model.inputs` names."""
    read = {*([TIME.name] if config.model.times else []), *config.model.inputs}
    return tuple(feature for feature in log_features(config.data) if feature.name in read and feature != WEIGHT)


def training_features(config: ExperimentConfig) -> tuple[Feature, ...]:
    """Returns the inputs that the training reads: those of the model, and the weights of a log that has them."""
    return (*model_features(config), *(feature for feature in log_features(config.data) if feature == WEIGHT))


# files ------------------------------------------------------------------------------------------------------------

_BUILT_IN = {feature.column: feature for feature in (TIME, WEIGHT)}
_KIND, _NAME = b"kind", b"name"  # keys of the metadata of a column


def sequence_schema(features: Iterable[Feature]) -> pa.Schema:
    """Returns the columns of the sequence files of a log with these inputs; every log has `TIME`."""
    layout = schema.SEQUENCE_SCHEMA
    for feature in features:
        if feature != TIME:
            layout = layout.append(_field(feature))
    return layout


def _field(feature: Feature) -> pa.Field:
    """The column of an input, with its declaration as metadata."""
    declared = None if feature.column in _BUILT_IN else {_KIND: feature.kind.value, _NAME: feature.name}
    return pa.field(feature.column, pa.list_(feature.form.arrow), metadata=declared)


def features_of_file(layout: pa.Schema) -> tuple[Feature, ...] | None:
    """Returns the inputs of a sequence file with these columns; None if it is no sequence file."""
    features = [TIME]
    for field in list(layout)[len(schema.SEQUENCE_SCHEMA) :]:
        if (feature := _BUILT_IN.get(field.name) or _declared(field)) is None:
            return None
        features.append(feature)
    return tuple(features) if layout == sequence_schema(features) else None


def _declared(field: pa.Field) -> Feature | None:
    """The input that the metadata of a column declares."""
    declared = field.metadata or {}
    kind, name = declared.get(_KIND, b"").decode(), declared.get(_NAME, b"").decode()
    return event_feature(name, Kind(kind)) if kind in set(FORMS) else None
