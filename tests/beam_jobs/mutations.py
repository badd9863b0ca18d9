"""Logs in every format with one change in every other row, and the expected accounts of their rows."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from row_oracle import KUAIRAND, MOVIELENS, Layout, account, account_json_lines, account_table

CSV = Layout()
_HOSTILE_FIELDS = [
    b"",
    b" ",
    b"0",
    b"-0",
    b"1e308",
    b"nan",
    b"9" * 18,
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"-9223372036854775809",
    b"9" * 400,
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",  # half of a surrogate pair
    "٣".encode(),
    b"\xef\xbb\xbf",
    b"\x1f",
    b"\r",
    b"\r\r",
    b'"',
    b'""',
    b'"a"b',
    b"=1+1",
    b"y" * 5_000,
]


def mutate(rng, line, separator):
    """Returns the row with one change."""
    fields = line.split(separator)
    place, column = rng.integers(len(line) + 1), rng.integers(len(fields))
    match rng.integers(9):
        case 0:  # another byte
            return line[:place] + bytes([rng.integers(256)]) + line[place + 1 :]
        case 1:  # cut short
            return line[:place]
        case 2:  # a byte more
            return line[:place] + bytes([rng.integers(256)]) + line[place:]
        case 3:  # a column more
            return separator.join([*fields[:column], fields[column], *fields[column:]])
        case 4:  # a column less
            return separator.join(fields[:column] + fields[column + 1 :])
        case 5:  # a quote anywhere, and perhaps another one
            return line[:place] + b'"' + line[place:] + b'"' * rng.integers(2)
        case 6:  # two rows in one
            return line + line
        case 7 if rng.random() < 0.02:  # longer than Python's csv module reads
            return line[:place] + b"z" * 140_000 + line[place:]
        case _:
            fields[column] = _HOSTILE_FIELDS[rng.integers(len(_HOSTILE_FIELDS))]
            return separator.join(fields)


def mutated_log(layout, num_rows, seed):
    """Returns a log of text with as many mutated rows as well-formed ones."""
    rng = np.random.default_rng(seed)
    lines = [",".join(layout.columns).encode()] if layout.header else []
    for row in range(2 * num_rows):
        user, item = (str(rng.zipf(1.3) % 50) for _ in range(2))
        values = dict.fromkeys(layout.columns, "1") | dict(zip(layout.roles, (user, item, str(row // 7)), strict=True))
        line = layout.separator.join(values.values()).encode()
        lines.append(line if row % 2 else mutate(rng, line, layout.separator.encode()))
    return b"\n".join(lines)


def mutated_json_lines(num_rows, seed):
    """Returns a log in JSON Lines with as many mutated rows as well-formed ones; ids and times are text or numbers."""
    rng = np.random.default_rng(seed)
    lines = []
    for row in range(2 * num_rows):
        values = [int(rng.zipf(1.3) % 50), int(rng.zipf(1.3) % 50), row // 7]
        values = [str(value) if rng.random() < 0.1 else value for value in values]
        line = json.dumps({"more": [{"deep": None}], **dict(zip(CSV.roles, values, strict=True))}).encode()
        lines.append(line if row % 2 else mutate(rng, line, b","))
    return b"\n".join(lines)


def mutated_rows(num_rows, seed):
    """Returns rows {column: bytes or None}, as many mutated as well-formed ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in range(2 * num_rows):
        values = [b"%d" % (rng.zipf(1.3) % 50), b"%d" % (rng.zipf(1.3) % 50), b"%d" % (row // 7)]
        if row % 2 == 0:
            spoiled = rng.integers(3)
            hostile = [None, *_HOSTILE_FIELDS, mutate(rng, values[spoiled], b",")]
            values[spoiled] = hostile[rng.integers(len(hostile))]
        rows.append(dict(zip(CSV.columns, values, strict=True)))
    return rows


_TEXTS = {
    "csv": (CSV, "log.csv", {}),
    "csv.gz": (CSV, "log.csv.gz", {}),
    "movielens": (MOVIELENS, "ratings.dat", {"format": "movielens"}),
    "kuairand": (KUAIRAND, "log_standard_x.csv", {"format": "kuairand", "kuairand": {"tab": 1}}),
}


def write_mutated(kind, folder, num_rows):
    """Writes a log of that kind; returns its config, the file's name, and the expected accounts of its rows."""
    if kind == "jsonl":
        data = mutated_json_lines(num_rows, seed=num_rows)
        (folder / "log.jsonl").write_bytes(data)
        return {"path": folder / "log.jsonl", "format": "jsonl"}, "log.jsonl", account_json_lines("log.jsonl", data)
    if kind == "parquet":
        rows = mutated_rows(num_rows, seed=num_rows)
        table = pa.Table.from_pylist(rows, pa.schema([(column, pa.binary()) for column in CSV.columns]))
        pq.write_table(table, folder / "log.parquet", row_group_size=num_rows // 7)
        return {"path": folder / "log.parquet", "format": "parquet"}, "log.parquet", account_table("log.parquet", rows)
    layout, name, config = _TEXTS[kind]
    data = mutated_log(layout, num_rows, seed=num_rows)
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return {"path": folder if config else folder / name, **config}, name, account({name: data}, layout)


KINDS = [*_TEXTS, "jsonl", "parquet"]
