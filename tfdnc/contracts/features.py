"""Declared inputs: values beside user and item, of events, requests and users, and their form in every file and tensor.

An input is declared once. From the declaration follow its column in the sequence files, its TFRecord feature, its dtype
in memory and the inputs of the signatures. So no station knows an input by its name. Differences between kinds are in
their `Form`. Two registries by kind complete it: readers of columns of a log (`beam_jobs.logs`) and layers that bring
an input into a token (`tfdnc.model.inputs`).

Letters: B batch, L history length, E events of a file, S sequences.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tfdnc.contracts import bundle, schema
from tfdnc.contracts.bundle import Row
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.input_forms import FORMS, Form, Kind, Of


@dataclass(frozen=True)
class Feature:
    """A declared input.

    An input of the context is two inputs of one column: that of each event, and that of the request.

    Attributes:
        name: as the config declares it.
        of: its owner.
        kind: of its values.
        values: of a category, the values that have a number; no part of the declaration, see `with_values`.
        section: key of the data section that declares it, where it does not follow from the owner.
    """

    name: str
    of: Of
    kind: Kind
    values: tuple[str, ...] = field(default=(), compare=False, repr=False)
    section: str = field(default="", compare=False, repr=False)

    @property
    def form(self) -> Form:
        """Form of its kind."""
        return FORMS[self.kind]

    @property
    def unknown(self) -> float:
        """The value for "not known" in windows."""
        return self.form.unknown

    @property
    def config_key(self) -> str:
        """Key of the config that declares it, for messages."""
        if self in (TIME, WEIGHT):
            return f"data.columns.{self.name}"
        if self.section:
            return f"data.{self.section}"
        sections = {Of.EVENT: "events", Of.REQUEST: "context", Of.USER: "users.features"}
        return f"data.{sections[self.of]}.{self.name}"

    @property
    def event_column(self) -> str:
        """Column in a block of events."""
        return self.form.event_column(self.name)

    @property
    def column(self) -> str:
        """Column in the sequence files."""
        return f"user_{self.name}" if self.of is Of.USER else self.form.column(self.name)

    @property
    def record_key(self) -> str:
        """Name in records."""
        return f"user_{self.name}" if self.of is Of.USER else self.form.key(self.name)

    @property
    def key(self) -> str:
        """Name in memory and in windows."""
        return f"request_{self.name}" if self.of is Of.REQUEST else self.record_key

    @property
    def of_target(self) -> bool:
        """True if a position of a window reads the value of the next event."""
        return self.of is Of.REQUEST or self.form.of_target

    @property
    def target_key(self) -> str:
        """Name of the target's own value in held-out records, where the input is `of_target`."""
        return f"target_{self.record_key}"

    @property
    def history_row(self) -> Row:
        """Input of the signatures with a value for each event."""
        return self.form.history_rows(self.name)[0]

    @property
    def request_rows(self) -> tuple[Row, ...]:
        """Inputs of the signatures that encode a history."""
        if self.of is Of.EVENT:
            return self.form.history_rows(self.name)
        form, owner = self.form, "request" if self.of is Of.REQUEST else "user"
        name = f"{owner}_{self.name}"
        meaning = f"`{self.name}` of the {owner}; {form.unknown_text}: unknown."
        return (Row(name, form.request_dtype, bundle.PER_USER, form.neutral, meaning, f"features[{name!r}]"),)

    def with_values(self, known: Mapping[str, Sequence[str]]) -> "Feature":
        """Returns the input with its values, given those of the log's categories by name."""
        if not self.form.is_category:
            return self
        return replace(self, values=self.form.values or tuple(known.get(self.name, ())))

    def asked(self, window: np.ndarray, start: int, item_ids: Sequence[str] = ()) -> dict[str, Any]:
        """Returns the values that a client sends for a user whose window reads these, by names of tensors.

        Args:
            window: `[T]` as held-out records have them.
            start: time of the first event, for inputs of which only differences count.
            item_ids: of all items, for inputs that are items; id i is item index i + 1.
        """
        if self.form.relative:
            *history, last = (start + np.append(0, np.cumsum(window))).tolist()
        else:
            history = self.form.sent(window, item_ids if self.form.of_items else self.values)
            last = history[-1]
        return self._by_name(history, last)

    def asked_at(self, values: Any, length: int) -> dict[str, Any]:
        """Returns the values that a client sends for the first events of a sequence, by names of tensors.

        Args:
            values: of a sequence file: `[T]` of all events, T >= length, or of an input of users one value. Items are
                ids already, see `with_ids`.
            length: number of events of the history; a request is made at the next event, or at the last one.
        """
        if self.of is Of.USER:
            return self._by_name([], values)
        return self._by_name(list(values[:length]), values[min(length, len(values) - 1)])

    def _by_name(self, history: list, last: Any) -> dict[str, Any]:
        return {row.name: history if row.of_events else last for row in self.request_rows}

    def with_ids(self, values: Any, id_of: Sequence[str] | np.ndarray) -> Any:
        """Returns values of a sequence file with ids in place of the items that `id_of` names, by their indices."""
        return [[id_of[item] for item in of_event] for of_event in values] if self.form.of_items else values


def is_of_log(feature: Feature) -> bool:
    """Returns whether an input is a category whose values are those of the log."""
    return feature.form.is_category and feature.form.values is None


def event_feature(name: str, kind: Kind) -> Feature:
    """Returns the declaration of an input of events."""
    return Feature(name, Of.EVENT, kind)


TIME, WEIGHT = event_feature("time", Kind.TIME), event_feature("weight", Kind.WEIGHT)
"""The inputs with a key in `data.columns`."""

EXPOSURES = Feature("exposures", Of.EVENT, Kind.EXPOSURES, section="exposures")
"""The input that `data.exposures` declares."""


def log_features(config: DataConfig) -> tuple[Feature, ...]:
    """Returns the columns that are read of a log: those of its inputs, and that which tells exposures from events."""
    features, kinds = _features_of_events(config), exposure_kinds(config)
    return features if kinds is None or kinds in features else (*features, kinds)


def exposure_kinds(config: DataConfig) -> Feature | None:
    """Returns the column that tells exposures from events, a category; None for a log without exposures."""
    of_events = (Feature(name, Of.EVENT, Kind.VALUE, section="exposures") for name in config.exposures)
    return next(of_events, None)


def _features_of_events(config: DataConfig) -> tuple[Feature, ...]:
    """Inputs with a column in a log: time (0 without one), weight, `data.events` and `data.context`."""
    weighted = config.has_named_columns and config.columns.weight is not None
    events = (event_feature(name, Kind(kind)) for name, kind in config.events.items())
    context = (feature for feature in _context(config) if not feature.form.from_times)
    return (TIME, *([WEIGHT] if weighted else []), *events, *context)


def sequence_features(config: DataConfig) -> tuple[Feature, ...]:
    """Returns the inputs of sequence files: those of the log, those computed from its times, and those of users."""
    of_log = _features_of_events(config)
    # A request may ask for one kind of targets, so that the kind is known when a request is made.
    columns = (replace(one, of=Of.REQUEST) if one.name in config.targets else one for one in of_log[1:])
    computed = [feature for feature in _context(config) if feature.form.from_times]
    of_users = [Feature(name, Of.USER, Kind(kind)) for name, kind in config.user_features.items()]
    # The kinds of events that are no targets have weight 0.
    weight = [WEIGHT] if config.targets and WEIGHT not in of_log else []
    passed_over = [EXPOSURES] if config.exposures else []
    return (TIME, *weight, *columns, *computed, *passed_over, *of_users)


def _context(config: DataConfig) -> list[Feature]:
    return [Feature(name, Of.REQUEST, Kind(kind)) for name, kind in config.context.items()]


def request_features(config: DataConfig) -> tuple[Feature, ...]:
    """Returns the inputs of a log that a model may read, and a request may have."""
    return tuple(part for one in sequence_features(config) if one.form.in_held_out for part in _parts(one))


def model_features(config: ExperimentConfig) -> tuple[Feature, ...]:
    """Returns the inputs that the model reads: times with `model.times`, and what `model.inputs` names."""
    read = {*([TIME.name] if config.model.times else []), *config.model.inputs}
    return tuple(feature for feature in request_features(config.data) if feature.name in read)


def _parts(feature: Feature) -> tuple[Feature, ...]:
    """Inputs of windows for one column: of a context that of each event, and that of the request."""
    return (replace(feature, of=Of.EVENT), feature) if feature.of is Of.REQUEST else (feature,)


def training_features(config: ExperimentConfig) -> tuple[Feature, ...]:
    """Returns the inputs that the training reads: those of the model, the weights of a log, and those of the loss."""
    read = model_features(config)
    beside = {WEIGHT, *([EXPOSURES] if config.train.reads_exposures else [])}
    return (*read, *(one for one in sequence_features(config.data) if one in beside and one not in read))


# files ------------------------------------------------------------------------------------------------------------

_BUILT_IN = {feature.column: feature for feature in (TIME, WEIGHT, EXPOSURES)}
_KIND, _NAME, _OF = b"kind", b"name", b"of"  # keys of the metadata of a column; without an owner it is the event


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
    if declared and feature.of is not Of.EVENT:
        declared[_OF] = feature.of.value
    type_ = feature.form.arrow if feature.of is Of.USER else pa.list_(feature.form.arrow)
    return pa.field(feature.column, type_, metadata=declared)


def features_of_file(layout: pa.Schema) -> tuple[Feature, ...] | None:
    """Returns the inputs of a sequence file with these columns; None if it is no sequence file."""
    features = [TIME]
    for column in list(layout)[len(schema.SEQUENCE_SCHEMA) :]:
        if (feature := _BUILT_IN.get(column.name) or _of_column(column)) is None:
            return None
        features.append(feature)
    return tuple(features) if layout == sequence_schema(features) else None


def _of_column(column: pa.Field) -> Feature | None:
    """The input that the metadata of a column declares."""
    declared = column.metadata or {}
    kind, name, of = (declared.get(key, b"").decode() for key in (_KIND, _NAME, _OF))
    return Feature(name, Of(of or Of.EVENT), Kind(kind)) if kind in set(FORMS) and of in ("", *Of) else None
