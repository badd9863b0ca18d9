"""Formats of logs: the files of a log, and the positions of the columns in their rows."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from beam_jobs.logs.csv_rows import UTF8_MARK, RowFormat
from beam_jobs.logs.inputs import InputFile, find_beside, find_files, is_empty, open_bytes
from beam_jobs.logs.json_rows import JsonFormat, numbers_in
from beam_jobs.logs.log_files import Log, LogFile
from beam_jobs.logs.log_rows import Wanted
from beam_jobs.logs.log_times import ISO, NO_TIMES
from beam_jobs.logs.parquet_files import ParquetFile, find_parquet
from beam_jobs.logs.quoted_text import split_line
from beam_jobs.logs.text_files import TextFile
from tfdnc.contracts.data_config import DataConfig, Quotes
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, WEIGHT, Feature, log_features
from tfdnc.contracts.registry import Registry

RATINGS, MOVIES = "ratings.dat", "movies.dat"
KUAIRAND_LOGS, KUAIRAND_VIDEOS = "log_standard_*.csv", "video_features_basic*.csv"
_MOVIELENS_COLUMNS = ("user_id", "movie_id", "rating", "timestamp")
_FIRST_BYTES = 1 << 16  # of a file without a header, to find the types of its fields
_SEPARATORS = ("\t", ";", "|", ",", " ")  # tried on a header of one column, the most likely first
_SHOWN = 500  # characters of a first line that a message quotes
_FLAG = (r"^[01]?$", "neither blank, 0 nor 1")
_NUMBER = (r"^(0|[1-9][0-9]*)?$", "neither blank nor a plain integer")


class LogFormat(Protocol):
    """A class of the registry: it finds the files of a log and reads each of them. It is made without arguments."""

    def find(self, config: DataConfig) -> list[InputFile]:
        """Returns the files of the log, in the order of their rows.

        Raises:
            UserError: there is no such file.
        """

    def read(self, file: InputFile, config: DataConfig) -> LogFile:
        """Returns one file that is not empty as a part of the log; reads its first bytes or its schema at most.

        The result is pickled for every worker that reads a span of it. It is a `TextFile` with the rows of the format,
        a `ParquetFile`, or a `LogFile` of another class.

        Raises:
            UserError: the file lacks a column, or cannot be read with these settings.
        """


LOG_FORMATS: Registry[type[LogFormat]] = Registry("log format")
"""The formats, by the values of `data.format`."""


class NamedFiles:
    """Base of a `LogFormat` whose files are the paths, globs and URLs of `data.path`."""

    def find(self, config: DataConfig) -> list[InputFile]:
        """See `LogFormat`."""
        return find_files(config.locations, "data.path", config.format)


def find_log(config: DataConfig) -> Log:
    """Returns the log of the config.

    Raises:
        UserError: the format is unknown, there is no such file, or one lacks a column or cannot be read with these
            settings.
    """
    log_format = LOG_FORMATS.resolve(config.format)()
    if not config.locations:
        raise UserError("Expected data.path to name the log, found no path in the config.")
    source, found = ", ".join(config.locations), log_format.find(config)
    # Spark and the command `split` write parts without rows as empty files, without a header.
    files = [log_format.read(file, config) for file in found if not is_empty(file)]
    if not files:
        names = "an empty file" if len(found) == 1 else f"{len(found)} empty files"
        raise UserError(f"Expected events in {source}, found {names}.")
    return Log(source, tuple(files), _features(config), config.exposures)


def folder_of(config: DataConfig) -> str:
    """Returns the folder of the log, for formats whose logs are one folder."""
    if len(config.locations) != 1:
        raise UserError(
            f"Expected data.path to be one folder for data.format {config.format}, found {len(config.locations)} paths."
        )
    return config.locations[0]


def _find_movielens(config: DataConfig) -> list[InputFile]:
    folder = folder_of(config)
    files = find_beside(folder, RATINGS)
    if not files:
        raise UserError(f"Expected {RATINGS} (user::item::rating::time) in folder {folder}, found none there.")
    return files


def _movielens_file(file: InputFile, config: DataConfig) -> TextFile:
    features = _positions(_MOVIELENS_COLUMNS, config, file)
    rows = RowFormat(b"::", "none", len(_MOVIELENS_COLUMNS), user=0, item=1, time=3, features=features)
    return TextFile(file, rows, _mark_length(_read_head(file)))


def _csv_file(file: InputFile, config: DataConfig) -> TextFile:
    separator = config.field_separator_of(file.name).encode()
    if config.header is None:
        header, data_start = read_header(file, separator, config.quotes)
    else:
        header, data_start = list(config.header), _mark_length(_read_head(file))
    advice = partial(_advice, header)
    named = _column_names(config).items()
    columns = {key: column_of(header, name, file, advice(f"data.columns.{key}")) for key, name in named}
    rows = RowFormat(
        separator,
        config.quotes,
        len(header),
        user=columns["user"],
        item=columns["item"],
        time=columns.get("time"),
        time_unit=config.time_unit,
        features=_positions(header, config, file, advice),
    )
    return TextFile(file, rows, data_start)


def _advice(header: list[str], key: str) -> str:
    """Returns advice for a CSV file without the column that the config names under a key."""
    if len(header) == 1:
        return _other_separator(header[0], "doubled") or "separate the fields by data.separator"
    if any(name.isdecimal() for name in header):
        return "begin the file with a line of column names, which this seems to lack, or name them in data.header"
    return f"set {key}{NO_TIMES if key == 'data.columns.time' else ''}"


def _other_separator(line: str, quotes: Quotes) -> str | None:
    """Returns the advice to set the separator that divides a first line into fields, None if no separator does."""
    for separator in _SEPARATORS:
        if len(split_line(line.encode(), separator.encode(), quotes) or ()) > 1:
            return f"set data.separator: {json.dumps(separator)}"
    return None


def _json_lines_file(file: InputFile, config: DataConfig) -> TextFile:
    names = _column_names(config)
    user, item, time = names["user"], names["item"], names.get("time")
    head = _read_head(file)
    data_start = _mark_length(head)
    features = _feature_columns(config)
    values = [name for feature, name in features.items() if feature.form.is_category]
    may_be_numbers = (user, item) if time is None or config.time_unit == ISO else (user, item, time)
    numbers = numbers_in(head[data_start:], (*may_be_numbers, *values))
    return TextFile(file, JsonFormat(user, item, time, config.time_unit, numbers, features), data_start)


def _parquet_file(file: InputFile, config: DataConfig) -> ParquetFile:
    return find_parquet(file, _column_names(config), config.time_unit, _feature_columns(config))


def _find_kuairand(config: DataConfig) -> list[InputFile]:
    """Returns the standard logs of any release (Pure, 1K, 27K) in order of their names.

    `log_random_*.csv` is left out: its videos were drawn at random, so they do not show the preferences of users.
    """
    folder = folder_of(config)
    files = find_beside(folder, KUAIRAND_LOGS)
    if not files:
        raise UserError(f"Expected {KUAIRAND_LOGS} in folder {folder}, found none there; set data.path.")
    return files


def _kuairand_file(file: InputFile, config: DataConfig) -> TextFile:
    header, data_start = read_header(file)
    rows = config.kuairand

    def column(name: str) -> int:
        return column_of(header, name, file, "KuaiRand's logs begin with the names of their 19 columns")

    passed_over = config.exposures.get(rows.feedback, ())
    complaint = f"{rows.feedback} is {_FLAG[1]}"
    wanted = [Wanted("feedback", column(rows.feedback), "1", _FLAG[0], complaint, passed_over)]
    if rows.tab is not None:
        wanted.append(Wanted("tab", column("tab"), str(rows.tab), _NUMBER[0], f"tab is {_NUMBER[1]}"))
    user, item, time = column("user_id"), column("video_id"), column("time_ms")
    features = _positions(header, config, file)
    filtered_by = {one.column for one in wanted}
    declared = {*config.events, *config.context}
    for feature in (one for one, position in features.items() if position in filtered_by and one.name in declared):
        raise UserError(
            f"Expected columns in data.events that tell events apart, got {feature.name}: data.kuairand asks for one "
            "value of it. Take it out."
        )
    # All fields are numbers, so the file need not be searched for quotes before the first row is read.
    row_format = RowFormat(b",", "none", len(header), user, item, time, "ms", tuple(wanted), features)
    return TextFile(file, row_format, data_start)


@LOG_FORMATS.register("csv")
class _Csv(NamedFiles):
    read = staticmethod(_csv_file)


@LOG_FORMATS.register("jsonl")
class _JsonLines(NamedFiles):
    read = staticmethod(_json_lines_file)


@LOG_FORMATS.register("parquet")
class _Parquet(NamedFiles):
    read = staticmethod(_parquet_file)


@LOG_FORMATS.register("movielens")
class _MovieLens:
    find = staticmethod(_find_movielens)
    read = staticmethod(_movielens_file)


@LOG_FORMATS.register("kuairand")
class _KuaiRand:
    find = staticmethod(_find_kuairand)
    read = staticmethod(_kuairand_file)


def _column_names(config: DataConfig) -> dict[str, str]:
    """Returns the names of the columns in the log by "user", "item" and, if the log has times, "time"."""
    return config.columns.model_dump(include={"user", "item", "time"}, exclude_none=True)


def _features(config: DataConfig) -> tuple[Feature, ...]:
    """Returns the inputs of events beside the time."""
    return tuple(feature for feature in log_features(config) if feature != TIME)


def _feature_columns(config: DataConfig) -> dict[Feature, str]:
    """Returns the names of the columns of the inputs of events beside the time."""
    names = {feature: feature.name for feature in _features(config)}
    weight = config.columns.weight
    if WEIGHT in names and weight is not None:
        names[WEIGHT] = weight
    return names


def _positions(
    header: Sequence[str], config: DataConfig, file: InputFile, advice: Callable[[str], str] = "set {}".format
) -> dict[Feature, int]:
    """Returns the positions of these columns in a file; `advice` gives the advice for a missing one, by config key."""
    return {
        feature: column_of(list(header), name, file, advice(feature.config_key))
        for feature, name in _feature_columns(config).items()
    }


def _read_head(file: InputFile) -> bytes:
    with open_bytes(file) as stream:
        return stream.read(_FIRST_BYTES)


def _mark_length(head: bytes) -> int:
    """Returns the number of bytes before the first row of a file without a header: of a byte order mark, or 0."""
    return len(UTF8_MARK) if head.startswith(UTF8_MARK) else 0


def read_header(file: InputFile, separator: bytes = b",", quotes: Quotes = "doubled") -> tuple[list[str], int]:
    """Returns the column names of a CSV file (perhaps compressed) and the number of bytes of the header."""
    try:
        with open_bytes(file) as stream:
            line = stream.readline()
        text = line.removeprefix(UTF8_MARK).decode().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Expected CSV text in {file.path}, could not read its first line: {error}.") from error
    if not text:
        raise UserError(f"Expected a CSV header in the first line of {file.path}, found an empty line.")
    lone_returns = "\r" in text
    header = None if lone_returns else split_line(text.encode(), separator, quotes)
    if header is None:
        advice = None if lone_returns else _other_separator(text, quotes)
        advice = advice or "end lines by line feeds, and write quotes as data.quotes says"
        raise UserError(
            f"Expected CSV text in {file.path}, could not read its first line, {text[:_SHOWN]!r}; {advice}."
        )
    return [name.decode() for name in header], len(line)


def refuse_repeated(header: list[str], name: str, file: InputFile) -> None:
    """Raises a `UserError` if several columns have the name of a column that is read."""
    if header.count(name) > 1:
        raise UserError(
            f"Expected one column {name!r} in {file.path}, found {header.count(name)} of that name; rename all but one."
        )


def column_of(header: list[str], name: str, file: InputFile, advice: str) -> int:
    """Returns the position of a column; `advice` is for a file without a column of that name."""
    refuse_repeated(header, name, file)
    if name not in header:
        raise UserError(f"Expected column {name!r} in {file.path}, found {', '.join(header)[:_SHOWN]}; {advice}.")
    return header.index(name)
