"""Titles, categories and features of items: from the config's item file, or from the one that comes with the log."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from beam_jobs.inputs import InputFile, find_beside, find_files, open_bytes
from beam_jobs.item_features import make_features, split_values
from beam_jobs.log_formats import KUAIRAND_VIDEOS, MOVIES, column_of, folder_of, read_header
from tfdnc.data_config import DataConfig, FeatureKind, ItemFile
from tfdnc.errors import UserError

_MOVIE_FEATURES: dict[str, FeatureKind] = {"genre": "values", "year": "number"}
_YEAR = re.compile(r"\((\d{4})\)\s*$")  # at the end of a title
_VIDEO_FEATURES: dict[str, FeatureKind] = {  # those of them that the file has
    "tag": "values",
    "author_id": "value",
    "music_id": "value",
    "video_type": "value",
    "upload_type": "value",
    "video_duration": "number",
}


@dataclass(frozen=True)
class DetailsFile:
    """A file that describes items.

    Attributes:
        file: where it is.
        columns: positions of item id, title, categories (None: not there), features in a CSV row; None in movies.dat.
        features: the columns that are features.
        separator: between the categories of one item.
    """

    file: InputFile
    columns: tuple[int | None, ...] | None
    features: dict[str, FeatureKind]
    separator: str


class Details(NamedTuple):
    """What a file says about N items."""

    item_ids: list[str]
    titles: list[str | None]  # None: unknown
    categories: list[list[str] | None]  # None: item or column not in the file
    features: list[list[str] | None]  # "column=value"; None: item not in the file, or no column is a feature


class _Row(NamedTuple):
    item_id: str
    title: str | None
    categories: str | None
    features: tuple[str, ...]


def find_details(config: DataConfig) -> DetailsFile | None:
    """Returns the config's item file, else the one in the folder of the log, else None.

    MovieLens' is movies.dat; KuaiRand's is video_features_basic*.csv, whose `tag` lists the categories of a video and
    which knows no titles.

    Raises:
        UserError: the config names a file that is not there or lacks a named column, or it wants the items of a file
            and there is none.
    """
    if config.items is None:
        found = _beside_the_log(config)
        if found is None and config.catalogue == "items":
            raise UserError("Expected an item file with data.catalogue items, found none; name one in data.items.")
        return found
    files = find_files([config.items.path], "data.items.path")
    if len(files) > 1:
        raise UserError(f"Expected one file at {config.items.path}, found {len(files)}; set data.items.path to one.")
    header, _ = read_header(files[0])
    return _csv_of_items(files[0], header, config.items)


def _beside_the_log(config: DataConfig) -> DetailsFile | None:
    if config.format == "movielens":
        movies = find_beside(folder_of(config), MOVIES)
        return DetailsFile(movies[0], None, _MOVIE_FEATURES, "|") if movies else None
    if config.format != "kuairand":
        return None
    videos = find_beside(folder_of(config), KUAIRAND_VIDEOS)
    if len(videos) > 1:
        names = ", ".join(file.name for file in videos)
        raise UserError(
            f"Expected one {KUAIRAND_VIDEOS} in {folder_of(config)}, found {names}; set data.items to choose."
        )
    if not videos:
        return None
    header, _ = read_header(videos[0])
    features = {name: kind for name, kind in _VIDEO_FEATURES.items() if name in header}
    tags = ItemFile(path=KUAIRAND_VIDEOS, item="video_id", categories="tag", features=features, separator=",")
    return _csv_of_items(videos[0], header, tags)


def _csv_of_items(file: InputFile, header: list[str], items: ItemFile) -> DetailsFile:
    named = [(items.item, "item"), (items.title, "title"), (items.categories, "categories")]
    named += [(name, "features") for name in items.features]
    positions = tuple(
        None if name is None else column_of(header, name, file, f"set data.items.{key}") for name, key in named
    )
    return DetailsFile(file, positions, items.features, items.separator)


def read_details(details: DetailsFile | None, item_ids: list[str], more: bool = False) -> Details:
    """Returns what a file says about items.

    Args:
        details: the file, or None.
        item_ids: the ids asked for; the file may know more, or fewer. Of several rows of one item the first counts.
        more: whether the other items of the file follow those asked for, in its order.

    Raises:
        UserError: the file is damaged, knows none of the items, or has other things than numbers in a column of them.
    """
    known: dict[str, _Row | None] = dict.fromkeys(item_ids)
    if details is None:
        nothing = [None] * len(known)
        return Details(list(known), nothing, nothing, nothing)
    for row in _read_rows(details):
        if (known[row.item_id] is None) if row.item_id in known else (more and row.item_id):
            known[row.item_id] = row
    if item_ids and not any(known[item_id] for item_id in item_ids):
        raise UserError(
            f"Expected items of the log, such as {item_ids[0]!r}, in {details.file.path}, found none of them; set "
            "data.items.item to the column of their ids, or data.items.path to the file of this log."
        )
    rows = list(known.values())
    categories = [None if row is None else row.categories for row in rows]
    return Details(
        item_ids=list(known),
        titles=[row.title or None if row else None for row in rows],
        categories=[None if joined is None else split_values(joined, details.separator) for joined in categories],
        features=make_features(
            [None if row is None else row.features for row in rows],
            details.features,
            details.separator,
            details.file.path,
        ),
    )


def _read_rows(details: DetailsFile) -> Iterator[_Row]:
    try:
        yield from _read_movies(details.file) if details.columns is None else _read_csv(details)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"Expected item rows in {details.file.path}, could not read them: {error}.") from error


def _read_movies(file: InputFile) -> Iterator[_Row]:
    with open_bytes(file) as stream:
        for number, line in enumerate(stream, start=1):
            fields = line.decode("latin-1").rstrip("\r\n").split("::")
            if len(fields) < 3:
                raise UserError(f"Expected item::title::genres in {file.path}, line {number}, found {line.strip()!r}.")
            title, genres = "::".join(fields[1:-1]), fields[-1]
            year = _YEAR.search(title)
            yield _Row(fields[0], title, genres, (genres, year[1] if year else ""))


def _read_csv(details: DetailsFile) -> Iterator[_Row]:
    with open_bytes(details.file) as stream:
        rows = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""))
        header = next(rows)
        for row in rows:
            if row and len(row) != len(header):
                place = f"{details.file.path}, line {rows.line_num}"
                raise UserError(f"Expected {len(header)} columns in {place}, found {len(row)}: {row}.")
            if row:
                item_id, title, categories, *features = (None if at is None else row[at] for at in details.columns)
                yield _Row(item_id, title, categories, tuple(features))
