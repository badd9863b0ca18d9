"""Titles and categories of items: from the config's item file, or from the one that comes with the log."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from beam_jobs.log_formats import KUAIRAND_VIDEOS, MOVIES, column_of, read_header
from tfdnc.config import DataConfig, ItemFile
from tfdnc.errors import UserError


@dataclass(frozen=True)
class DetailsFile:
    """A file that describes items.

    Attributes:
        path: of the file.
        columns: positions of item id, title and categories in a CSV row (None: not there); None for movies.dat.
        separator: between the categories of one item.
    """

    path: Path
    columns: tuple[int, int | None, int | None] | None
    separator: str


def find_details(config: DataConfig) -> DetailsFile | None:
    """Returns the config's item file, else the one in the folder of the log, else None.

    MovieLens' is movies.dat; KuaiRand's is video_features_basic*.csv, whose `tag` lists the categories of a video and
    which knows no titles.

    Raises:
        UserError: the config names a file that is not there or lacks a named column.
    """
    if config.items is None:
        return _beside_the_log(config)
    items = config.items
    if not items.path.is_file():
        raise UserError(f"Expected a CSV file of items at {items.path}, found no file there; set data.items.path.")
    return _csv_of_items(items)


def _beside_the_log(config: DataConfig) -> DetailsFile | None:
    if config.format == "movielens":
        movies = config.path / MOVIES
        return DetailsFile(movies, None, "|") if movies.is_file() else None
    if config.format != "kuairand":
        return None
    paths = sorted(config.path.glob(KUAIRAND_VIDEOS))
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise UserError(f"Expected one {KUAIRAND_VIDEOS} in {config.path}, found {names}; set data.items to choose.")
    return _csv_of_items(ItemFile(path=paths[0], item="video_id", categories="tag", separator=",")) if paths else None


def _csv_of_items(items: ItemFile) -> DetailsFile:
    header, _ = read_header(items.path)
    positions = tuple(
        None if name is None else column_of(header, name, items.path, f"set data.items.{key}")
        for key, name in (("item", items.item), ("title", items.title), ("categories", items.categories))
    )
    return DetailsFile(items.path, positions, items.separator)


def read_details(details: DetailsFile | None, item_ids: list[str]) -> tuple[list, list]:
    """Returns titles and categories.

    Args:
        details: the file, or None.
        item_ids: the N ids asked for; the file may know more, or fewer.

    Returns:
        N titles (None: unknown) and N lists of categories (None: item or column not in the file). Of several rows of
        one item the first counts.

    Raises:
        UserError: the file is damaged, or knows none of the items.
    """
    titles: list[str | None] = [None] * len(item_ids)
    categories: list[list[str] | None] = [None] * len(item_ids)
    if details is None:
        return titles, categories
    wanted = {item_id: row for row, item_id in enumerate(item_ids)}
    for item_id, title, joined in _read_rows(details):
        row = wanted.pop(item_id, None)
        if row is None:
            continue
        titles[row] = title or None
        if joined is not None:
            categories[row] = [name.strip() for name in joined.split(details.separator) if name.strip()]
    if item_ids and len(wanted) == len(item_ids):
        raise UserError(
            f"Expected items of the log, such as {item_ids[0]!r}, in {details.path}, found none of them; set "
            "data.items.item to the column of their ids, or data.items.path to the file of this log."
        )
    return titles, categories


def _read_rows(details: DetailsFile) -> Iterator[tuple[str, str | None, str | None]]:
    try:
        yield from _read_movies(details.path) if details.columns is None else _read_csv(details)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"Expected item rows in {details.path}, could not read them: {error}.") from error


def _read_movies(path: Path) -> Iterator[tuple[str, str, str]]:
    with open(path, encoding="latin-1", newline="\n") as stream:
        for number, line in enumerate(stream, start=1):
            fields = line.rstrip("\r\n").split("::")
            if len(fields) < 3:
                raise UserError(f"Expected item::title::genres in {path}, line {number}, found {line.strip()!r}.")
            yield fields[0], "::".join(fields[1:-1]), fields[-1]


def _read_csv(details: DetailsFile) -> Iterator[tuple[str, str | None, str | None]]:
    opener = gzip.open if details.path.suffix == ".gz" else open
    with io.TextIOWrapper(opener(details.path, "rb"), encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream)
        header = next(rows)
        for row in rows:
            if row and len(row) != len(header):
                raise UserError(
                    f"Expected {len(header)} columns in {details.path}, line {rows.line_num}, found {len(row)}: {row}."
                )
            if row:
                yield tuple(None if column is None else row[column] for column in details.columns)
