"""The formats of logs: which files a config means, and where in their rows the columns stand."""

import csv
import zlib
from collections.abc import Callable
from pathlib import Path

from beam_jobs.log_files import Log, LogFile, open_bytes
from beam_jobs.log_rows import UTF8_MARK, RowFormat, Wanted
from tfdnc.config import DataConfig, KuaiRandRows
from tfdnc.errors import UserError

RATINGS, MOVIES = "ratings.dat", "movies.dat"
KUAIRAND_LOGS, KUAIRAND_VIDEOS = "log_standard_*.csv", "video_features_basic*.csv"
_MOVIELENS_ROW = RowFormat(separator=b"::", quotes=False, num_columns=4, user=0, item=1, time=3)
_FLAG = (r"^[01]?$", "neither blank, 0 nor 1")
_NUMBER = (r"^(0|[1-9][0-9]*)?$", "neither blank nor a plain integer")


def find_log(config: DataConfig) -> Log:
    """Returns the log of the config.

    Raises:
        UserError: there is no such file, or its header lacks a column.
    """
    if config.path is None:
        raise UserError("Expected data.path to name the log, found no path in the config.")
    files = _FORMATS[config.format](config.path, config)
    return Log(config.path, tuple(files))


def _find_movielens(folder: Path, config: DataConfig) -> list[LogFile]:
    del config
    path = folder / RATINGS
    if not path.is_file():
        raise UserError(f"Expected {RATINGS} (user::item::rating::time) in folder {folder}, found none there.")
    with open(path, "rb") as stream:
        marked = stream.read(len(UTF8_MARK)) == UTF8_MARK
    return [LogFile(path, _MOVIELENS_ROW, len(UTF8_MARK) if marked else 0)]


def _find_csv(path: Path, config: DataConfig) -> list[LogFile]:
    if not path.is_file():
        raise UserError(f"Expected a CSV log at {path}, found no file there; set data.path.")
    header, data_start = read_header(path)
    columns = {
        key: column_of(header, name, path, f"set data.columns.{key}")
        for key, name in config.columns.model_dump().items()
    }
    return [LogFile(path, RowFormat(b",", True, len(header), **columns), data_start)]


def _find_kuairand(folder: Path, config: DataConfig) -> list[LogFile]:
    """Returns the standard logs of any release (Pure, 1K, 27K) in order of their names.

    `log_random_*.csv` is left out: its videos were drawn by lot, so they are not what a user was led to by taste.
    """
    paths = sorted(folder.glob(KUAIRAND_LOGS))
    if not paths:
        raise UserError(f"Expected {KUAIRAND_LOGS} in folder {folder}, found none there; set data.path.")
    return [_kuairand_file(path, config.kuairand) for path in paths]


def _kuairand_file(path: Path, rows: KuaiRandRows) -> LogFile:
    header, data_start = read_header(path)

    def column(name: str) -> int:
        return column_of(header, name, path, "KuaiRand's logs begin with the names of their 19 columns")

    wanted = [Wanted("feedback", column(rows.feedback), "1", _FLAG[0], f"{rows.feedback} is {_FLAG[1]}")]
    if rows.tab is not None:
        wanted.append(Wanted("tab", column("tab"), str(rows.tab), _NUMBER[0], f"tab is {_NUMBER[1]}"))
    user, item, time = column("user_id"), column("video_id"), column("time_ms")
    # All of its fields are numbers: no need to search gigabytes for quotes before the first row is read.
    return LogFile(path, RowFormat(b",", False, len(header), user, item, time, tuple(wanted)), data_start)


_FORMATS: dict[str, Callable[[Path, DataConfig], list[LogFile]]] = {
    "movielens": _find_movielens,
    "csv": _find_csv,
    "kuairand": _find_kuairand,
}


def read_header(path: Path) -> tuple[list[str], int]:
    """Returns the column names of a CSV file (perhaps gzipped) and the bytes that the header takes."""
    try:
        with open_bytes(path) as stream:
            line = stream.readline()
        text = line.removeprefix(UTF8_MARK).decode().strip("\r\n")
        header = next(csv.reader([text]), None)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"Expected CSV text in {path}, could not read its first line: {error}.") from error
    if not header:
        raise UserError(f"Expected a CSV header in the first line of {path}, found an empty line.")
    return header, len(line)


def column_of(header: list[str], name: str, path: Path, advice: str) -> int:
    """Returns the position of a column; `advice` is what to do if there is none of that name."""
    if name not in header:
        raise UserError(f"Expected column {name!r} in {path}, found {', '.join(header)}; {advice}.")
    return header.index(name)
