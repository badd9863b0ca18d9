"""Every row of a log is kept, filtered by a rule, or a dead letter, as in an oracle that reads row by row."""

import csv
import gzip
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from row_oracle import KUAIRAND, MOVIELENS, Layout, account, filter_users

from beam_jobs.sequences import prepare
from tfdnc.contracts import schema
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.data_config import DataConfig
from tfdnc.pipeline.engine import run_station
from tfdnc.pipeline.stations import PREPARE

LIMITS = {"min_item_events": 4, "min_user_events": 5}
RULES = [
    LIMITS,
    LIMITS | {"repeats": "collapse"},
    LIMITS | {"max_events_per_user": 15, "filter_rounds": 3, "duplicates": "drop"},
    LIMITS | {"max_events_per_user": 15, "repeats": "collapse", "filter_rounds": 2},
]
CSV = Layout(("extra", "item_id", "timestamp", "user_id"))
PLAIN = replace(CSV, quotes=False)
IDS = ["7", "07", "-3", "u x", "é", "漢字", "\u2028", "a\x00b", "\ufeffz", "'", "[1]", "null", "NaN", "1e5"]
TIMES = ["0", "-5", "1700000000000000000", "9223372036854775807", "-9223372036854775808", "-0", "0012"]
BAD_TIMES = [
    "",
    "x",
    "1.5",
    "+1",
    " 1",
    "9223372036854775808",
    "-9223372036854775809",
    "1e3",
    "0x1",
    "\u0661",
    "00" * 15,
]


def random_log(rng, layout, num_rows):
    """Returns the bytes of a log with rows for every rule."""
    lines = [",".join(layout.columns).encode()] if layout.header else []
    for _ in range(num_rows):
        user = IDS[rng.integers(len(IDS))] if rng.random() < 0.3 else str(rng.zipf(1.4) % 60)
        item = IDS[rng.integers(len(IDS))] if rng.random() < 0.3 else str(rng.zipf(1.4) % 40)
        time = TIMES[rng.integers(len(TIMES))] if rng.random() < 0.2 else str(rng.integers(0, 9))
        roles = dict(zip(layout.roles, (user, item, time), strict=True))
        values = dict.fromkeys(layout.columns, "x") | roles
        values |= {column: rng.choice([wanted, wanted, wanted, "0", ""]) for _, column, wanted, *_ in layout.wanted}
        lines.append(_spoil(rng, _write(rng, list(values.values()), layout), values, layout))
    return b"\n".join(lines) + (b"\n" if rng.random() < 0.5 else b"")


def _write(rng, values, layout):
    if not layout.quotes or rng.random() < 0.7:
        return layout.separator.join(values).encode()
    row = io.StringIO()
    values = [value + rng.choice(["", ",", '"', "\n", "\r\n", "\n\n"]) if value == "x" else value for value in values]
    csv.writer(row, quoting=int(rng.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])), lineterminator="").writerow(values)
    return row.getvalue().encode()


def _spoil(rng, line, values, layout):
    """Returns the line, damaged in one of ten cases."""
    user, _, time = layout.roles
    spoiled = [
        b"",
        b"\r",
        line + layout.separator.encode() + b"1",
        line.rpartition(layout.separator.encode())[0],
        _write(rng, list((values | {time: BAD_TIMES[rng.integers(len(BAD_TIMES))]}).values()), layout),
        _write(rng, list((values | {user: ""}).values()), layout),
        line.replace(b"x", b"\xff\xfe"),
        b"\xc3" + line + b"\xc3",
        line + b"\r",
        *(_write(rng, list((values | {column: "2x"}).values()), layout) for _, column, *_ in layout.wanted),
    ]
    if layout.quotes:  # quotes that open or close where none may, or never do
        spoiled += [b'"' + line, line.replace(b",", b',"', 1), line + b'"', line.replace(b'""', b'\\"') + b'\\"']
    return spoiled[rng.integers(len(spoiled))] if rng.random() < 0.1 else line


FORMATS = {
    "csv": (PLAIN, ["log.csv"], {}),
    "csv.gz": (PLAIN, ["log.csv.gz"], {}),
    "quoted csv": (CSV, ["log.csv"], {}),
    "quoted csv.gz": (CSV, ["log.csv.gz"], {}),
    "movielens": (MOVIELENS, ["ratings.dat"], {"format": "movielens"}),
    "kuairand": (
        KUAIRAND,
        ["log_standard_a.csv", "log_standard_b.csv"],
        {"format": "kuairand", "kuairand": {"tab": 1}},
    ),
}


@pytest.fixture(params=FORMATS)
def make_log(request, tmp_path):
    """Returns a function that writes a random log of one format, and returns its config and the expected accounts."""
    layout, names, config = FORMATS[request.param]

    def make(seed, num_rows=600):
        folder = tmp_path / f"log-{seed}"
        folder.mkdir()
        rng = np.random.default_rng(seed)
        files = {name: random_log(rng, layout, num_rows) for name in names}
        for name, data in files.items():
            (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        path = folder if "format" in config else folder / names[0]
        settings = {"path": str(path), "num_shards": 3, "max_malformed_share": 1, **RULES[seed % 4], **config}
        return settings, account(files, layout)

    return make


def dead_letters(prepared):
    """Returns {name of the log file: its dead letters}."""
    return {
        path.name.removesuffix(".jsonl"): [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        for path in (prepared / schema.DEAD_LETTER).iterdir()
    }


def check_accounts(figures, prepared, expected, read_users, seed):
    """Checks that the job's figures and files are those of the oracle, and that the counts add up."""
    users, rare = filter_users(expected.kept, **RULES[seed % 4])
    assert read_users(prepared) == users
    assert dead_letters(prepared) == expected.letters
    assert figures["rows_malformed"] == expected.reasons
    assert figures["lines_joined"] == expected.lines_joined
    assert {rule: count for rule, count in figures["rows_filtered"].items() if count} == {
        rule: count for rule, count in (dict(expected.filtered) | rare).items() if count
    }
    gone = sum(figures["rows_malformed"].values()) + sum(figures["rows_filtered"].values())
    assert figures["rows_read"] == figures["events"] + gone == expected.num_rows
    assert (figures["users"], figures["events"]) == (len(users), sum(map(len, users.values())))


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 30))])
def test_every_row_is_in_the_account_of_the_oracle(make_log, tmp_path, read_users, seed):
    config, expected = make_log(seed)
    chunk_bytes = [77, 4000, 1 << 20][seed % 3]
    figures = prepare(DataConfig.model_validate(config), tmp_path / "out", [f"--chunk_bytes={chunk_bytes}"])
    check_accounts(figures, tmp_path / "out", expected, read_users, seed)
    # The log has rows for every account and reason.
    assert len(expected.reasons) >= 4
    assert all(figures["rows_filtered"].values())


def test_the_accounts_are_in_the_manifest_of_the_run(make_log, tmp_path, read_users):
    data, expected = make_log(0)
    run_station(PREPARE, parse_config({"name": "mine", "data": data}), tmp_path / "runs" / "mine")
    prepared = tmp_path / "runs" / "mine" / "prepare"
    check_accounts(json.loads((prepared / "manifest.json").read_text())["figures"], prepared, expected, read_users, 0)
