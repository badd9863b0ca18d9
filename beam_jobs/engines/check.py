"""Both jobs on a generated log: on the local runner, then on an engine; the bytes must be the same."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from beam_jobs.examples import build_examples
from beam_jobs.sequences import prepare
from tfdnc.contracts import schema
from tfdnc.contracts.config import ExamplesConfig
from tfdnc.contracts.data_config import DataConfig

_CLUSTERS, _SEED = 8, 7


@dataclass(frozen=True)
class Outcome:
    """Result of a check.

    Attributes:
        figures: figures of both jobs on the engine.
        files: number of files that both runs wrote.
        different: paths of the files that differ, or that only one run wrote.
    """

    figures: tuple[dict[str, Any], dict[str, Any]]
    files: int
    different: list[str]


def write_log(path: Path, rows: int) -> None:
    """Writes a CSV log of users and items of unequal activity, one row in a thousand of them malformed."""
    rng = np.random.default_rng(_SEED)
    users = (rng.pareto(1.5, rows) * rows / 50).astype(np.int64) % max(rows // 20, 1)
    items = (rng.pareto(1.2, rows) * 40).astype(np.int64) % max(rows // 50, 1)
    times = rng.integers(0, rows, rows).astype(str).astype(object)
    times[::1000] = "never"
    columns = {"user_id": users, "item_id": items, "timestamp": pa.array(times.tolist(), pa.string())}
    pa.csv.write_csv(pa.table(columns), path, pa.csv.WriteOptions(quoting_style="none"))


def check(folder: Path, rows: int, runner_args: list[str]) -> Outcome:
    """Runs both jobs locally and on an engine.

    Args:
        folder: folder to work in, on a disk that the engine's workers see.
        rows: number of rows of the log.
        runner_args: Beam's flags for the engine.
    """
    log, items = folder / "log.csv", folder / "items.parquet"
    write_log(log, rows)
    config = DataConfig(path=str(log), min_item_events=5, min_user_events=3, num_shards=4)

    def run_both(name: str, more: list[str]) -> tuple[tuple[dict[str, Any], dict[str, Any]], dict[str, str]]:
        prepared, records = folder / name / "prepared", folder / name / "records"
        # Small chunks, so that several workers share the work and their results have to be put in order.
        first = prepare(config, prepared, [*more, f"--chunk_bytes={max(log.stat().st_size // 8, 1)}"])
        if not items.exists():
            _write_items(prepared / schema.VOCABULARY, items)
        second = build_examples(prepared / schema.SEQUENCES, items, ExamplesConfig(), _SEED, records, more)
        return (first, second), _digests(folder / name)

    expected_figures, expected = run_both("alone", [])
    figures, found = run_both("on-engine", runner_args)
    different = {path for path, _ in expected.items() ^ found.items()}
    if figures != expected_figures:
        different.add("the figures that the jobs returned")
    return Outcome(figures, len(expected), sorted(different))


def _write_items(vocabulary: Path, path: Path) -> None:
    """Writes an item table with random clusters."""
    known = pq.read_table(vocabulary)
    rng = np.random.default_rng(_SEED)
    order = rng.permutation(known.num_rows)
    columns = [
        pa.array(np.arange(1, known.num_rows + 1, dtype=np.int32)),
        *(known[name].take(pa.array(order)) for name in ("sequence_index", "item_id")),
        pa.array(np.arange(known.num_rows, dtype=np.int32) * _CLUSTERS // known.num_rows),
        pa.array(np.zeros(known.num_rows, bool)),
        *(known[name].take(pa.array(order)) for name in ("events", "title", "categories", "features")),
    ]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema.ITEM_SCHEMA), path)


def _digests(folder: Path) -> dict[str, str]:
    """Returns {relative path: SHA-256} of all files below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
