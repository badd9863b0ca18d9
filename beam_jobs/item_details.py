"""Titles and categories of items: from the config's item file, or from the one that comes with the log."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from beam_jobs.inputs import InputFile, find_beside, find_files, open_bytes
from beam_jobs.log_formats import KUAIRAND_VIDEOS, MOVIES, column_of, folder_of, read_header
from tfdnc.data_config import DataConfig, ItemFile
from tfdnc.errors import UserError


@dataclass(frozen=True)
class DetailsFile:
    """A file that describes items.

    Attributes:
        file: where it is.
        columns: positions of item id, title and categories in a CSV row (None: not there); None for movies.dat.
        separator: between the categories of one item.
    """

    file: InputFile
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
    files = find_files([config.items.path], "data.items.path")
    if len(files) > 1:
        raise UserError(f"Expected one file at {config.items.path}, found {len(files)}; set data.items.path to one.")
    return _csv_of_items(files[0], config.items)


def _beside_the_log(config: DataConfig) -> DetailsFile | None:
    if config.format == "movielens":
        movies = find_beside(folder_of(config), MOVIES)
        return DetailsFile(movies[0], None, "|") if movies else None
    if config.format != "kuairand":
        return None
    videos = find_beside(folder_of(config), KUAIRAND_VIDEOS)
    if len(videos) > 1:
        names = ", ".join(file.name for file in videos)
        raise UserError(
            f"Expected one {KUAIRAND_VIDEOS} in {folder_of(config)}, found {names}; set data.items to choose."
        )
    tags = ItemFile(path=KUAIRAND_VIDEOS, item="video_id", categories="tag", separator=",")
    return _csv_of_items(videos[0], tags) if videos else None


def _csv_of_items(file: InputFile, items: ItemFile) -> DetailsFile:
    header, _ = read_header(file)
    positions = tuple(
        None if name is None else column_of(header, name, file, f"set data.items.{key}")
        for key, name in (("item", items.item), ("title", items.title), ("categories", items.categories))
    )
    return DetailsFile(file, positions, items.separator)


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
            f"Expected items of the log, such as {item_ids[0]!r}, in {details.file.path}, found none of them; set "
            "data.items.item to the column of their ids, or data.items.path to the file of this log."
        )
    return titles, categories


def _read_rows(details: DetailsFile) -> Iterator[tuple[str, str | None, str | None]]:
    try:
        yield from _read_movies(details.file) if details.columns is None else _read_csv(details)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"Expected item rows in {details.file.path}, could not read them: {error}.") from error


def _read_movies(file: InputFile) -> Iterator[tuple[str, str, str]]:
    with open_bytes(file) as stream:
        for number, line in enumerate(stream, start=1):
            fields = line.decode("latin-1").rstrip("\r\n").split("::")
            if len(fields) < 3:
                raise UserError(f"Expected item::title::genres in {file.path}, line {number}, found {line.strip()!r}.")
            yield fields[0], "::".join(fields[1:-1]), fields[-1]


def _read_csv(details: DetailsFile) -> Iterator[tuple[str, str | None, str | None]]:
    with open_bytes(details.file) as stream:
        rows = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
        header = next(rows)
        for row in rows:
            if row and len(row) != len(header):
                place = f"{details.file.path}, line {rows.line_num}"
                raise UserError(f"Expected {len(header)} columns in {place}, found {len(row)}: {row}.")
            if row:
                yield tuple(None if column is None else row[column] for column in details.columns)
