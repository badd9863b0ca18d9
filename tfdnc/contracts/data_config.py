"""The data section of the config: location of the log, rules for its rows, and the held-out part."""

import os
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from tfdnc.contracts.bundle import SeenRule
from tfdnc.contracts.input_config import (
    USER_FEATURES,
    ContextKind,
    EventKind,
    Exposures,
    InputName,
    TargetValues,
    TimeZone,
    refuse_exposures,
    refuse_names,
    refuse_targets,
    weights_of_values,
)
from tfdnc.contracts.section import NO_OPTIONS, Options, Positive, Section, Share
from tfdnc.contracts.times import Instant, first_time_from

UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "iso": 1_000_000}
"""By `data.time_unit`; ISO 8601 text is read as microseconds."""

NANOSECONDS = "ns"
"""Unit of some logs that `data.time_unit` does not know."""


def _as_text(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


Location = Annotated[str, BeforeValidator(_as_text)]
"""A path or a URL of Beam's FileSystems; text, because a `Path` reduces the `//` of `gs://bucket` to one slash."""


def _tab(value: object) -> object:
    return "\t" if value == r"\t" else value  # YAML reads `\t` as a tab between double quotes only


def _one_byte(separator: str) -> str:
    if len(separator.encode()) != 1 or separator in '"\r\n\0':
        raise ValueError(f"expected one ASCII character that is no quote and no line end, got {separator!r}")
    return separator


FieldSeparator = Annotated[str, BeforeValidator(_tab), AfterValidator(_one_byte)]
"""Separator of the fields of a line of CSV, such as ";" or a tab."""

Quotes = Literal["doubled", "escaped", "none"]
"""Spelling of a quote inside a quoted field: twice, or after a backslash; `none`: no field is quoted."""


class ColumnMapping(Section):
    """Names of the columns of a log in CSV or Parquet, or of the fields of its rows in JSON Lines."""

    user: str = "user_id"
    item: str = "item_id"
    time: str | None = "timestamp"  # null: the log has no times, and its rows are in order
    weight: str | None = None  # how much an event counts in the loss; null: all the same

    @model_validator(mode="after")
    def _every_name_is_of_one_column(self) -> "ColumnMapping":
        keys: dict[str, str] = {}
        for key, name in self.model_dump(exclude_none=True).items():
            if keys.setdefault(name, key) != key:
                raise ValueError(f"expected another column for {key} than for {keys[name]}, both are {name!r}")
        return self


VECTOR: Literal["vector"] = "vector"
FeatureKind = Literal["value", "values", "number", "vector"]
"""Kind of a column of the item file: one value, several (see `separator`), a number, read by its quantile, or a vector.

A vector is a list of numbers in Parquet, or a row of an array, see `ItemFile.vectors`.
"""


class VectorFile(Section):
    """An array of vectors, and the ids of their items."""

    path: Location  # .npy of numpy, [M, D] numbers; read from a memory map
    ids: Location  # text: M lines, the id of the item of each row


class DescribingFile(Section):
    """A file with a row per item or user."""

    path: Location
    format: Literal["csv", "jsonl", "parquet"] | None = None  # null: by the name; .jsonl, .ndjson, .parquet, else csv
    field_separator: FieldSeparator | None = None  # of csv, as in the log
    quotes: Quotes = "doubled"  # of csv, as in the log

    def format_of(self, name: str) -> str:
        """Returns the format of the file of this name."""
        by_name = {"json": "jsonl", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet"}
        return self.format or by_name.get(_suffix(name), "csv")

    def field_separator_of(self, name: str) -> str:
        """Returns the separator of the fields of the CSV file of this name."""
        return self.field_separator or _separator_by_name(name)


class ItemFile(DescribingFile):
    """A file that describes items: for names of clusters, for clusters by category, and for the item tower."""

    item: str = "item_id"
    title: str | None = None
    categories: str | None = None
    image: str | None = None  # address of a picture, or a path below the folder of this file; `tfdnc explore` shows it
    features: dict[str, FeatureKind] = Field(default={})  # columns for the item tower, see `model.item_features`
    vectors: dict[str, VectorFile] = Field(default={})  # features of kind vector that are no columns of the file
    separator: Annotated[str, Field(min_length=1)] = "|"  # between the categories, or other values, of one item

    @model_validator(mode="after")
    def _vectors_are_features(self) -> "ItemFile":
        for name in self.vectors:
            if self.features.get(name) != VECTOR:
                raise ValueError(f"expected {name} of vectors in features, as `{name}: vector`")
        for name in self.features:
            if "/" in name and self.features[name] == VECTOR:
                raise ValueError(f"expected a name without / for a vector, which is that of a file, got {name}")
        return self

    @property
    def vector_names(self) -> list[str]:
        """Names of the features of kind vector, in order."""
        return [name for name, kind in self.features.items() if kind == VECTOR]


BESIDE_THE_LOG = ""
"""Path of a file that the format of the log finds in the log's folder."""


class UserFile(DescribingFile):
    """A file that describes users, see `model.inputs`; MovieLens and KuaiRand bring theirs, with its columns."""

    path: Location = BESIDE_THE_LOG
    user: str = "user_id"
    features: Annotated[dict[InputName, EventKind], Field(min_length=1)]


def _suffix(name: str) -> str:
    """The ending of a file's name, without the one of a compression."""
    return re.sub(r"\.(gz|bz2|xz)$", "", name.lower()).rpartition(".")[2]


def _separator_by_name(name: str) -> str:
    return "\t" if _suffix(name) in ("tsv", "tab") else ","


class KuaiRandRows(Section):
    """Rules for the rows of a KuaiRand log that are events (`data.format: kuairand`)."""

    feedback: Literal[
        "is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward", "is_profile_enter", "is_hate"
    ] = "is_click"  # the column that must be 1; blank is unknown, and not counted
    tab: Annotated[int, Field(ge=0)] | None = None  # tab of the app where the item was shown; null: all of them


_NO_CSV = ("jsonl", "parquet", "movielens", "kuairand")
"""Formats that do not read the keys about CSV; a plug-in's format may."""


class DataConfig(Section):
    """Location of the log and rules for its rows; `format` names an entry of the log-format registry."""

    format: str = "csv"
    # csv, jsonl, parquet: files, by path, glob, URL, or a list of these; movielens: folder with ratings.dat (and
    # movies.dat); kuairand: folder with log_standard_*.csv (and video_features_basic*.csv)
    path: str | tuple[str, ...] | None = None
    columns: ColumnMapping = ColumnMapping()
    events: dict[InputName, EventKind] = Field(default={})  # columns with inputs of an event, see `model.inputs`
    # Inputs that are known when a request is made, and of every past event: columns, hour_of_day and day_of_week
    context: dict[InputName, ContextKind] = Field(default={})
    time_zone: TimeZone = "UTC"  # of hour_of_day and day_of_week, such as Europe/Berlin
    # {input of events: values, or weights by value}: only these events are targets, the others are history
    targets: Annotated[dict[InputName, TargetValues], BeforeValidator(weights_of_values)] = Field(default={})
    # {column: values}: rows of these kinds were shown and passed over; they are no events, see `model.inputs`
    exposures: Exposures = Field(default={})
    exposures_per_event: Positive = 10  # the latest ones after an event count
    header: Annotated[tuple[str, ...], Field(min_length=1)] | None = (
        None  # of csv: the columns of files without a header
    )
    separator: FieldSeparator | None = None  # of the fields of csv; null: a tab in files named .tsv, else a comma
    quotes: Quotes = "doubled"  # of csv; escaped: by a backslash, as Spark writes; none: plain characters
    time_unit: Literal["s", "ms", "us", "iso"] = "s"  # of csv, jsonl, parquet; iso: ISO 8601 text, Parquet's timestamps
    kuairand: KuaiRandRows = KuaiRandRows()
    users: UserFile | None = None  # of movielens and kuairand also `{}`: the file and the columns that they bring
    items: ItemFile | None = None
    catalogue: Literal["log", "items"] = "log"  # items: also items of the item file without an event
    duplicates: Literal["keep", "drop"] = "keep"  # drop: of events of one user, item and time the first stays
    max_events_per_user: Positive | None = None  # the latest ones; a bound for users that are machines
    session_gap: Annotated[float, Field(gt=0, le=1e9)] | None = (
        None  # seconds; a longer pause begins a new sequence, "user:n"
    )
    repeats: Literal["keep", "collapse"] = "keep"  # collapse: of events of one item in a row the first stays
    seen: SeenRule = "exclude"  # allow: lists may hold items of the user's history
    min_item_events: Positive = 5  # items are filtered first, then users (sessions, if there is a gap) ...
    min_user_events: Positive = 5  # of all events, held-out ones included; with leave_last_two at least 3
    filter_rounds: Positive = 1  # ... so many times; enough of them make both hold at once (k-core)
    # leave_last_two: the last event of a user is for testing, the one before for validation; time: see below; none:
    # every event is for training, and nothing is held out to measure on
    split: Literal["leave_last_two", "time", "none"] = "leave_last_two"
    validation_from: Instant | None = None  # time: ISO text or a number in the log's unit; earlier events are training
    test_from: Instant | None = None  # time: events from this time on are test
    until: Instant | None = None  # events from here on are not read, as if the log ended before them
    train_from: Instant | None = None  # the loss counts events from here on; earlier ones stay in the histories
    max_malformed_share: Share = 0.01  # more malformed rows than this fail the job
    num_shards: Positive = 16
    # days: what each file of the log gave is kept in --runs for so long after its last use, and not read again; null:
    # nothing is kept
    keep_read_days: Positive | None = None
    options: Options = NO_OPTIONS  # of a plug-in's log format

    @field_validator("path", mode="before")
    @classmethod
    def _path_names_files(cls, path: object) -> object:
        if path is None:
            return None
        several = isinstance(path, list | tuple)
        locations = [_as_text(location) for location in (path if isinstance(path, list | tuple) else [path])]
        if not locations or not all(isinstance(location, str) and location for location in locations):
            raise ValueError("expected a path or a list of paths")
        return tuple(locations) if several else locations[0]

    @property
    def locations(self) -> tuple[str, ...]:
        """The entries of `path`, as a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path or ()

    def field_separator_of(self, name: str) -> str:
        """Returns the separator of the fields of the CSV file of this name."""
        return self.separator or _separator_by_name(name)

    @property
    def ticks_per_second(self) -> int:
        """Units of the log's times in a second; MovieLens and KuaiRand bring their own unit."""
        return UNITS_PER_SECOND[self.unit]

    @property
    def unit(self) -> str:
        """The log's unit of time."""
        return {"movielens": "s", "kuairand": "ms"}.get(self.format, self.time_unit)

    @property
    def boundaries(self) -> tuple[int, int]:
        """First times of validation and of test in the log's unit.

        Raises:
            ValueError: the split is not by time.
        """
        if self.validation_from is None or self.test_from is None:
            raise ValueError(f"Expected validation_from and test_from, which split: time has, got split: {self.split}.")
        ticks = self.ticks_per_second
        return first_time_from(self.validation_from, ticks), first_time_from(self.test_from, ticks)

    @property
    def first_trained(self) -> int | None:
        """The first time whose events are training targets, in the log's unit; None: all are."""
        return None if self.train_from is None else first_time_from(self.train_from, self.ticks_per_second)

    @property
    def end(self) -> int | None:
        """The first time whose events are left out, in the log's unit; None: there is none."""
        return None if self.until is None else first_time_from(self.until, self.ticks_per_second)

    @property
    def allows_seen(self) -> bool:
        """True if lists may hold items of the user's history."""
        return self.seen == "allow"

    @property
    def has_named_columns(self) -> bool:
        """True for a log whose columns have the names of `columns`; MovieLens and KuaiRand bring their own."""
        return self.format not in ("movielens", "kuairand")

    @property
    def has_times(self) -> bool:
        """True for a log with times; without, all events are at time 0, in the order of the log."""
        return not self.has_named_columns or self.columns.time is not None

    @model_validator(mode="after")
    def _times_are_not_missed(self) -> "DataConfig":
        reads_times = {
            "split: time": self.split == "time",
            "session_gap": self.session_gap is not None,
            "duplicates: drop": self.duplicates == "drop",
            "train_from": self.train_from is not None,
            "until": self.until is not None,
            "hour_of_day": "hour_of_day" in self.context.values(),
            "day_of_week": "day_of_week" in self.context.values(),
        }
        for key in (key for key, reads in reads_times.items() if reads and not self.has_times):
            raise ValueError(f"expected columns.time to name a column with {key}, got null: the log has no times")
        return self

    @model_validator(mode="before")
    @classmethod
    def _format_brings_features_of_users(cls, values: object) -> object:
        if not isinstance(values, dict) or not isinstance(users := values.get("users"), dict) or "features" in users:
            return values
        brought = USER_FEATURES.get(values.get("format", ""))
        return values if brought is None or "path" in users else values | {"users": users | {"features": brought}}

    @property
    def user_features(self) -> dict[str, EventKind]:
        """Kinds of the features of users by name, none without `users`."""
        return self.users.features if self.users is not None else {}

    @model_validator(mode="after")
    def _inputs_have_names_and_columns_of_their_own(self) -> "DataConfig":
        taken = {self.columns.user, self.columns.item, self.columns.time} if self.has_named_columns else set()
        refuse_names({"events": self.events, "context": self.context}, self.user_features, taken)
        if self.users is not None and self.users.path == BESIDE_THE_LOG and self.format not in USER_FEATURES:
            raise ValueError(f"expected users.path to name the file of users with format {self.format}")
        refuse_targets(self.targets, self.events)
        refuse_exposures(self.exposures, self.targets, {**self.events, **self.context}, taken)
        return self

    @model_validator(mode="after")
    def _keys_are_of_the_format(self) -> "DataConfig":
        for key in ("header", "separator", "quotes"):
            if self.format in _NO_CSV and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"expected {key} with format csv only, found it with format {self.format}")
        return self

    @model_validator(mode="after")
    def _exposures_of_kuairand_have_other_feedback(self) -> "DataConfig":
        feedback = self.kuairand.feedback
        for name, values in self.exposures.items() if self.format == "kuairand" else ():
            if name != feedback or "1" in values:
                raise ValueError(
                    f"expected exposures of kuairand by its feedback, such as `{feedback}: [0]`, got {name}: "
                    f"[{', '.join(values)}]; all other rows are left out"
                )
        return self

    @model_validator(mode="after")
    def _split_is_possible(self) -> "DataConfig":
        if self.split == "leave_last_two" and self.min_user_events < 3:
            raise ValueError("expected min_user_events of at least 3: one to learn from and the two that are held out")
        if self.max_events_per_user is not None and self.max_events_per_user < self.min_user_events:
            raise ValueError("expected max_events_per_user of at least min_user_events, or nobody is left")
        missing = [at is None for at in (self.validation_from, self.test_from)]
        if any(missing) if self.split == "time" else not all(missing):
            raise ValueError("expected validation_from and test_from with split: time, and with no other")
        if self.split == "time" and self.boundaries[0] >= self.boundaries[1]:
            raise ValueError("expected validation_from before test_from")
        return self
