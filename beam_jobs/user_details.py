"""Features of users: read from the config's file of users, or from that of a data set, and joined to the sequences."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import TaggedOutput

from beam_jobs.files import join, whole_file
from beam_jobs.ids import buckets_of
from beam_jobs.item_details import find_rows
from beam_jobs.item_rows import ItemRow, ItemRows, UsersDat
from beam_jobs.logs.feature_values import READERS
from beam_jobs.logs.inputs import InputFile, find_beside, find_files
from beam_jobs.logs.log_formats import folder_of
from beam_jobs.logs.log_rows import dead_letter, dead_letter_line
from beam_jobs.packing import pack, unpack
from beam_jobs.user_accounts import DEAD_LETTERS, DESCRIBED, MALFORMED, REPEATED, ROWS, USERS, VALUES
from tfdnc.contracts import schema
from tfdnc.contracts.data_config import BESIDE_THE_LOG, DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature, Of, sequence_features, sequence_schema

_FILES = {"movielens": "users.dat", "kuairand": "user_features*.csv*"}
_LIST = "a list of values for one feature of a user"
_ROWS = 50_000  # per block: they are Python objects until they are columns


@dataclass(frozen=True)
class UsersFile:
    """A file that describes users.

    Attributes:
        file: name and path.
        rows: reads its rows: user id, features.
        features: the inputs, in the order of the values.
    """

    file: InputFile
    rows: ItemRows
    features: tuple[Feature, ...]

    @property
    def layout(self) -> pa.Schema:
        """Columns of its blocks: user id, and the inputs by their columns in sequence files."""
        columns = [(feature.column, feature.form.arrow) for feature in self.features]
        return pa.schema([("user_id", pa.string()), *columns])


def find_users(config: DataConfig) -> UsersFile | None:
    """Returns the config's file of users, None without one.

    Raises:
        UserError: there is no such file, or it lacks a named column.
    """
    if config.users is None:
        return None
    features = tuple(one for one in sequence_features(config) if one.of is Of.USER)
    names = [one.name for one in features]
    if config.users.path == BESIDE_THE_LOG:
        pattern, folder = _FILES[config.format], folder_of(config)
        files = find_beside(folder, pattern)
        if not files:
            raise UserError(f"Expected {pattern} in {folder}, found none there; set data.users.path.")
    else:
        files = find_files([config.users.path], "data.users.path")
    if len(files) > 1:
        raise UserError(f"Expected one file of users, found {', '.join(f.path for f in files)}; set data.users.path.")
    if config.format == "movielens" and config.users.path == BESIDE_THE_LOG:
        return UsersFile(files[0], UsersDat(files[0], UsersDat.positions(names)), features)
    columns = [(config.users.user, "set data.users.user"), *((name, "set data.users.features") for name in names)]
    return UsersFile(files[0], find_rows(files[0], columns, config.users), features)


class ReadUsers(beam.DoFn):
    """Reads the file of users, and writes its malformed rows as dead letters.

    Outputs:
        users: (bucket, (number of the block, packed `UsersFile.layout` of the bucket's users in file order)).
        figures: counts of rows.
    """

    def __init__(self, users: UsersFile, num_buckets: int, output: str) -> None:
        self._users, self._num_buckets, self._output = users, num_buckets, output

    def process(
        self, element: object
    ) -> Iterator[
        TaggedOutput[Literal["users"], tuple[int, tuple[int, bytes]]] | TaggedOutput[Literal["figures"], dict[str, int]]
    ]:
        """Yields the outputs; `element` says nothing."""
        del element
        counts: Counter[str] = Counter()
        malformed: list[tuple[int, bytes, str]] = []
        source = self._rows()
        for number, rows in enumerate(iter(lambda: list(itertools.islice(source, _ROWS)), [])):
            block, faults = _parse(rows, self._users)
            malformed += faults
            counts[ROWS] += len(rows)
            buckets = buckets_of(block["user_id"], self._num_buckets)
            for bucket in np.unique(buckets):
                yield TaggedOutput("users", (int(bucket), (number, pack(block.filter(pa.array(buckets == bucket))))))
        if malformed:
            counts.update(MALFORMED + reason for _, _, reason in malformed)
            with whole_file(join(self._output, schema.DEAD_LETTER, f"{DEAD_LETTERS}.jsonl")) as stream:
                stream.writelines(
                    dead_letter_line(self._users.file.name, dead_letter(*row)).encode() for row in malformed
                )
        yield TaggedOutput("figures", dict(counts))

    def _rows(self) -> Iterator[ItemRow]:
        try:
            yield from self._users.rows.read(())
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"Expected rows of users in {self._users.file.path}, could not read: {error}.") from error


def _parse(rows: list[ItemRow], users: UsersFile) -> tuple[pa.RecordBatch, list[tuple[int, bytes, str]]]:
    """Returns the well-formed rows as a block, and (offset, text, reason) of the others."""
    texts = [[row.values[place] if row.fault is None else "" for row in rows] for place in range(len(users.features))]
    reasons = [row.fault or (_LIST if any(isinstance(one, list) for one in row.values) else None) for row in rows]
    columns = []
    for feature, of_feature in zip(users.features, texts, strict=True):
        reader = READERS[feature.kind]
        plain = [text.strip() if isinstance(text, str) else "" for text in of_feature]
        values = reader.read(pa.array(plain, pa.string()))
        for row in np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)):
            reasons[row] = reasons[row] or reader.complaint(feature.name)
        columns.append(values.dictionary_decode() if pa.types.is_dictionary(values.type) else values)
    good = pa.array([reason is None for reason in reasons], pa.bool_())
    ids = pa.array([row.item_id for row in rows], pa.string())
    block = pa.RecordBatch.from_arrays([ids, *columns], schema=users.layout).filter(good)
    faults = [(*row[:2], reason) for row, reason in zip(rows, reasons, strict=True) if reason is not None]
    return block, faults


def join_users(
    element: tuple[int, dict[str, Iterable[Any]]], users: UsersFile, sessions: bool
) -> Iterator[TaggedOutput[Literal["sequences"], tuple[int, bytes]] | TaggedOutput[Literal["figures"], dict[str, int]]]:
    """Yields the sequences of one bucket with the inputs of their users, and the counts.

    Args:
        element: bucket, with its packed `sequences` and the blocks of its `users`.
        users: the file.
        sessions: whether sequences are sessions, "user:n".
    """
    bucket, found = element
    [packed] = found["sequences"]
    sequences = unpack(packed)
    blocks = [unpack(block) for _, block in sorted(found["users"], key=lambda block: block[0])]
    table = pa.Table.from_batches(blocks, schema=users.layout).combine_chunks()
    ids = sequences["user_id"]
    if sessions:
        ids = pc.replace_substring_regex(ids, r":[0-9]+$", "")
    first = pc.index_in(ids, value_set=table["user_id"].combine_chunks())  # the first of several rows of a user
    counts = {
        USERS: len(ids.unique()),
        DESCRIBED: len(ids.filter(first.is_valid()).unique()),
        REPEATED: table.num_rows - len(table["user_id"].unique()),
    }
    for feature in users.features:
        neutral = pa.scalar(feature.form.neutral, feature.form.arrow)
        values = pc.fill_null(table[feature.column].combine_chunks().take(first), neutral)
        sequences = sequences.append_column(sequence_schema([feature])[-1], values)
        known = pc.sum(pc.not_equal(values, neutral), min_count=0).as_py()
        counts[VALUES + feature.name] = known
    yield TaggedOutput("sequences", (bucket, pack(sequences)))
    yield TaggedOutput("figures", counts)
