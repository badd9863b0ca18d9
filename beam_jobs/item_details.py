"""Titles, categories and features of items, from the config's item file or from the item file of a data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.item_accounts import ADDED, DESCRIBED, ITEMS, OTHERS, REPEATED, ROWS, VALUES, ItemAccounts
from beam_jobs.item_features import Ranges, make_features, split_values
from beam_jobs.item_rows import CsvItems, ItemRows, JsonItems, MoviesDat, ParquetItems, Value
from beam_jobs.item_vectors import VectorSource, find_vectors
from beam_jobs.logs.inputs import InputFile, find_beside, find_files, open_bytes
from beam_jobs.logs.log_formats import KUAIRAND_VIDEOS, MOVIES, column_of, folder_of, read_header
from tfdnc.contracts.data_config import VECTOR, DataConfig, DescribingFile, FeatureKind, ItemFile, VectorFile
from tfdnc.contracts.errors import UserError

_MOVIE_FEATURES: dict[str, FeatureKind] = {"genre": "values", "year": "number"}
_VIDEO_FEATURES: dict[str, FeatureKind] = {  # columns that the file lacks are left out
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
        file: name and path.
        rows: reads its rows: item id, title if there is one, categories if there are any, features.
        named: "title" and "categories", as far as its rows have them.
        features: the columns that are features, in order, but for vectors.
        separator: separator of the categories of one item.
        vectors: the features of kind vector.
    """

    file: InputFile
    rows: ItemRows
    named: tuple[str, ...]
    features: dict[str, FeatureKind]
    separator: str
    vectors: tuple[VectorSource, ...] = ()

    @property
    def files(self) -> list[InputFile]:
        """All files that are read."""
        return list(dict.fromkeys([self.file, *(file for vector in self.vectors for file in vector.files)]))


class Details(NamedTuple):
    """Descriptions of N items."""

    item_ids: list[str]
    titles: list[str | None]  # None: unknown
    categories: list[list[str] | None]  # None: item or column not in the file
    features: list[list[str] | None]  # "column=value"; None: item not in the file, or no column is a feature


def find_details(config: DataConfig) -> DetailsFile | None:
    """Returns the config's item file, else the one in the folder of the log, else None.

    MovieLens' file is movies.dat. KuaiRand's is video_features_basic*.csv, whose `tag` lists the categories of a video;
    it has no titles.

    Raises:
        UserError: the config names a file that does not exist or lacks a named column, or it needs an item file and
            there is none.
    """
    if config.items is None:
        found = _beside_the_log(config)
        if found is None and config.catalogue == "items":
            raise UserError("Expected an item file with data.catalogue items, found none; name one in data.items.")
        return found
    return describe_file(_one_file(config.items), config.items)


def find_columns(items: ItemFile, columns: dict[str, FeatureKind], key: str) -> DetailsFile:
    """Returns the config's item file with other columns than `items` names, and without titles and categories.

    Args:
        items: the section of the config.
        columns: kinds of the columns by name.
        key: key of the config that names them, for errors.

    Raises:
        UserError: the file does not exist or lacks a column.
    """
    others = {"title": None, "categories": None, "features": columns, "vectors": {}}
    return describe_file(_one_file(items), items.model_copy(update=others), key)


def _one_file(items: ItemFile) -> InputFile:
    files = find_files([items.path], "data.items.path")
    if len(files) > 1:
        raise UserError(f"Expected one file at {items.path}, found {len(files)}; set data.items.path to one.")
    return files[0]


def find_new_details(
    config: DataConfig, path: str, vectors: Mapping[str, tuple[str, str]] = MappingProxyType({})
) -> DetailsFile:
    """Returns a newer item file, in the format of the config's item file or of the one of its data set.

    Args:
        config: of the log.
        path: of the file.
        vectors: feature of kind vector -> array and file of its ids, in place of those of the config.

    Raises:
        UserError: the file does not exist or lacks a column, neither the config nor its data set has an item file, or
            there is no such feature.
    """
    files = find_files([path], "the item file")
    if len(files) > 1:
        raise UserError(f"Expected one item file at {path}, found {len(files)}.")
    names = [] if config.items is None else config.items.vector_names
    if unknown := [name for name in vectors if name not in names]:
        raise UserError(
            f"Expected features of kind vector, got {', '.join(unknown)}; the model has {', '.join(names) or 'none'}."
        )
    if config.items is not None:
        newer = {name: VectorFile(path=array, ids=ids) for name, (array, ids) in vectors.items()}
        items = config.items.model_copy(update={"vectors": {**config.items.vectors, **newer}})
        return describe_file(files[0], items)
    if config.format not in _OF_DATA_SETS:
        raise UserError(
            "Expected a config that says how its item file is read, but this one has no data.items: name the columns "
            "there, and run the experiment again."
        )
    return _OF_DATA_SETS[config.format](files[0])


def _beside_the_log(config: DataConfig) -> DetailsFile | None:
    if config.format == "movielens":
        movies = find_beside(folder_of(config), MOVIES)
        return _movies(movies[0]) if movies else None
    if config.format != "kuairand":
        return None
    videos = find_beside(folder_of(config), KUAIRAND_VIDEOS)
    if len(videos) > 1:
        names = ", ".join(file.name for file in videos)
        raise UserError(
            f"Expected one {KUAIRAND_VIDEOS} in {folder_of(config)}, found {names}; set data.items to choose."
        )
    return _videos(videos[0]) if videos else None


def _movies(file: InputFile) -> DetailsFile:
    return DetailsFile(file, MoviesDat(file), ("title", "categories"), _MOVIE_FEATURES, "|")


def _videos(file: InputFile) -> DetailsFile:
    header, _ = read_header(file)
    features = {name: kind for name, kind in _VIDEO_FEATURES.items() if name in header}
    tags = ItemFile(path=KUAIRAND_VIDEOS, item="video_id", categories="tag", features=features, separator=",")
    return describe_file(file, tags)


_OF_DATA_SETS: dict[str, Callable[[InputFile], DetailsFile]] = {"movielens": _movies, "kuairand": _videos}


def describe_file(file: InputFile, items: ItemFile, key: str = "data.items.features") -> DetailsFile:
    """Returns an item file with the columns that `items` names; `key` of the config names those of its features.

    Raises:
        UserError: the file cannot be read, or lacks a column.
    """
    keys = {"item": items.item, "title": items.title, "categories": items.categories}
    named = {key: name for key, name in keys.items() if name is not None}
    columns = [(name, f"set data.items.{key}") for key, name in named.items()]
    features: dict[str, FeatureKind] = {name: kind for name, kind in items.features.items() if kind != VECTOR}
    columns += [(name, f"set {key}") for name in features]
    rows = find_rows(file, columns, items)
    return DetailsFile(file, rows, tuple(named)[1:], features, items.separator, find_vectors(file, items))


def _find_csv(file: InputFile, columns: list[tuple[str, str]], items: DescribingFile) -> CsvItems:
    separator = items.field_separator_of(file.name).encode()
    header, data_start = read_header(file, separator, items.quotes)
    positions = tuple(column_of(header, name, file, advice) for name, advice in columns)
    return CsvItems(file, positions, len(header), separator, items.quotes, data_start)


def _find_json_lines(file: InputFile, columns: list[tuple[str, str]], items: DescribingFile) -> JsonItems:
    del items
    return JsonItems(file, tuple(name for name, _ in columns))


def _find_parquet(file: InputFile, columns: list[tuple[str, str]], items: DescribingFile) -> ParquetItems:
    del items
    try:
        with open_bytes(file) as stream:
            found = pq.ParquetFile(stream).schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"Expected a Parquet file at {file.path}, could not read its schema: {error}.") from error
    for name, advice in columns:
        column_of(found.names, name, file, advice)
    return ParquetItems(file, tuple(name for name, _ in columns))


_FORMATS: dict[str, Callable[[InputFile, list[tuple[str, str]], DescribingFile], ItemRows]] = {
    "csv": _find_csv,
    "jsonl": _find_json_lines,
    "parquet": _find_parquet,
}


def find_rows(file: InputFile, columns: list[tuple[str, str]], described: DescribingFile) -> ItemRows:
    """Returns the reader of a file's rows.

    Args:
        file: name and path.
        columns: (name, advice for a file without it) of the columns that are read, that of the ids first.
        described: the settings of the file.

    Raises:
        UserError: the file lacks a column, or cannot be read with these settings.
    """
    return _FORMATS[described.format_of(file.name)](file, columns, described)


def read_details(
    details: DetailsFile | None, item_ids: list[str], more: bool = False, accounts: ItemAccounts | None = None
) -> Details:
    """Returns the descriptions of items in a file.

    Args:
        details: the file, or None.
        item_ids: the items to describe; the file may have more or fewer. The first of several rows of an item counts.
        more: add the other items of the file after these, in the order of the file.
        accounts: counts every row of the file.

    Raises:
        UserError: the file cannot be read, describes none of the items, or has a text in a column of numbers.
    """
    if details is None:
        size = len(item_ids)
        return Details(item_ids, [None] * size, [None] * size, [None] * size)
    accounts = ItemAccounts() if accounts is None else accounts
    found = _details_of(read_rows(details, item_ids, more, accounts), details)
    _count_values(found, details, len(item_ids), accounts)
    return found


def read_catalogue(
    details: DetailsFile, known: list[str], ranges: Ranges, accounts: ItemAccounts, all_new: bool = False
) -> Details:
    """Returns the items that a newer file describes: those of `known` first, then the others in the order of the file.

    Args:
        details: the file; the first of several rows of an item counts.
        known: ids of earlier items.
        ranges: ranges of its numbers, see `make_features`.
        accounts: counts every row of the file.
        all_new: the file may have none of the known items.

    Raises:
        UserError: as `read_details`.
    """
    rows = read_rows(details, known, True, accounts, all_new)
    return _details_of({item_id: row for item_id, row in rows.items() if row is not None}, details, ranges)


def _details_of(known: Mapping[str, list[Value] | None], details: DetailsFile, ranges: Ranges | None = None) -> Details:
    """Descriptions from the values of the rows; None for an item without a row."""
    rows = [None if row is None else dict(zip(details.named, row, strict=False)) for row in known.values()]
    categories = [None if row is None else row.get("categories") for row in rows]
    first = len(details.named)
    return Details(
        item_ids=list(known),
        titles=[None if row is None else _joined(row.get("title", "")) or None for row in rows],
        categories=[None if value is None else split_values(value, details.separator) for value in categories],
        features=make_features(
            [None if row is None else tuple(row[first:]) for row in known.values()],
            details.features,
            details.separator,
            details.file.path,
            ranges,
        ),
    )


def read_rows(
    details: DetailsFile, item_ids: list[str], more: bool, accounts: ItemAccounts, all_new: bool = False
) -> dict[str, list[Value] | None]:
    """Returns item id -> the values of its first row, without the id; None for an item without a row.

    Raises:
        UserError: the file cannot be read, or describes none of the items; with `all_new` it need not.
    """
    known: dict[str, list[Value] | None] = dict.fromkeys(item_ids)
    counts, requested = accounts.counts, known.keys() | ()
    counts[ITEMS] = len(known)
    try:
        for row in details.rows.read(requested):
            counts[ROWS] += 1
            if row.fault is not None:
                accounts.set_aside(row.offset, row.text, row.fault)
                continue
            if row.item_id in known or more:
                first = known.get(row.item_id) is None
                counts[(DESCRIBED if row.item_id in requested else ADDED) if first else REPEATED] += 1
                if first:
                    known[row.item_id] = row.values
            else:
                counts[OTHERS] += 1
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"Expected item rows in {details.file.path}, could not read them: {error}.") from error
    sound = counts[ROWS] > len(accounts.malformed) or not accounts.malformed
    if item_ids and sound and not counts[DESCRIBED] and not all_new:
        raise UserError(
            f"Expected items of the log, such as {item_ids[0]!r}, in {details.file.path}, found none of them; set "
            "data.items.item to the column of their ids, or data.items.path to the file of this log."
        )
    return known


def _joined(value: Value) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _count_values(found: Details, details: DetailsFile, num_items: int, accounts: ItemAccounts) -> None:
    """Counts the items of the log, the first `num_items`, that have a value in each column."""
    lists: dict[str, Sequence[object]] = {"title": found.titles, "categories": found.categories}
    for key in details.named:
        accounts.counts[VALUES + key] += sum(map(bool, lists[key][:num_items]))
    for name in details.features:
        mark = f"{name}="
        own_values = (own or [] for own in found.features[:num_items])
        described = sum(any(value.startswith(mark) for value in own) for own in own_values)
        accounts.counts[VALUES + f"feature {name}"] += described
