"""Cost of `tfdnc prepare` when a day is added to a log, with and without `data.keep_read_days`.

    python developer_benchmarks/kuairand_log.py LOG --scale 0.2
    python -m developer_benchmarks.growing_log LOG --formats csv jsonl jsonl.gz

Writes the rows of a KuaiRand log, generated or real, as one file per day. Then it prepares all days but the last with
results of reading kept, all days in the same way, and all days without; the last two must write the same bytes. The
day's run is done once more with the times of its parts. CPU seconds are those of the whole process, with its start.
"""

import argparse
import functools
import gzip
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import yaml

from beam_jobs import kept_reads, sequence_steps, user_buckets
from developer_benchmarks.data_jobs import measure, show
from tfdnc.contracts import schema
from tfdnc.contracts.config import load_config
from tfdnc.pipeline import dependencies, engine
from tfdnc.pipeline.runner import run_stations

MODULE = "developer_benchmarks.growing_log"
KEEP = ["--set", "data.keep_read_days=7"]
_DAY_MS = 86_400_000
PARTS: dict[str, list[tuple[ModuleType, str]]] = {
    "digests of all files": [(engine, "digests_of"), (dependencies, "digests_of")],
    "read the new file": [(kept_reads, "_keep")],
    "join the buckets": [(sequence_steps, "_events_of_bucket")],
    "rules, sort, split": [(sequence_steps, "build_sequences")],
    "counts": [(sequence_steps, name) for name in ("count_candidates", "count_repetitions", "held_out_items")],
    "write sequences": [(user_buckets.pq, "write_table")],
}
"""Parts of a day's work, by the functions that do them."""


def write_days(log: Path, folder: Path, log_format: str) -> list[Path]:
    """Writes the rows of the standard logs of KuaiRand as one file per day; returns the files in order."""
    folder.mkdir()
    rows = pl.concat([pl.read_csv(path, infer_schema=False) for path in sorted(log.glob("log_standard_*.csv"))])
    rows = rows.with_columns(pl.col("user_id", "video_id", "time_ms").cast(pl.Int64))
    days = rows.with_columns(day=pl.col("time_ms") // _DAY_MS).partition_by("day", as_dict=True, include_key=False)
    for (number,), day in days.items():
        path = folder / f"{number}.{log_format.removesuffix('.gz')}"
        day.write_csv(path) if log_format.startswith("csv") else day.write_ndjson(path)
        if log_format.endswith(".gz"):
            with gzip.open(f"{path}.gz", "wb", compresslevel=6) as stream:
                stream.write(path.read_bytes())
            path.unlink()
    return sorted(folder.iterdir())


def write_config(path: Path, folder: Path, log_format: str, num_shards: int) -> None:
    """Writes the config of an experiment on the files of a folder."""
    data = {
        "format": log_format.removesuffix(".gz"),
        "path": f"{folder}/*",
        "columns": {"user": "user_id", "item": "video_id", "time": "time_ms"},
        "time_unit": "ms",
        "num_shards": num_shards,
    }
    path.write_text(yaml.safe_dump({"name": "benchmark", "data": data}))


def refuse_other_bytes(one: Path, other: Path) -> None:
    """Raises a `RuntimeError` unless the files of two prepared logs are equal."""
    files = [
        {path.relative_to(run): path.read_bytes() for path in run.rglob("*.parquet")}
        for run in (one / "benchmark" / "prepare", other / "benchmark" / "prepare")
    ]
    if files[0] != files[1]:
        raise RuntimeError(f"Expected the same bytes in {one} and {other}.")


def compare(log: Path, scratch: Path, log_format: str, num_shards: int) -> None:
    """Prints the costs of a log in one format."""
    folder, config = scratch / "days", scratch / "config.yaml"
    *_, last = files = write_days(log, folder, log_format)
    write_config(config, folder, log_format, num_shards)
    command = ["-m", "tfdnc.cli.main", "prepare", config, "--runs"]
    later = last.rename(scratch / last.name)
    first, _ = measure([*command, scratch / "kept", *KEEP])
    later.rename(last)
    shutil.copytree(scratch / "kept", scratch / "again")
    day, _ = measure([*command, scratch / "kept", *KEEP])
    everything, _ = measure([*command, scratch / "all"])
    refuse_other_bytes(scratch / "kept", scratch / "all")
    _, parts = measure(["-m", MODULE, "--parts", config, "--runs", scratch / "again"])
    read = sum(path.stat().st_size for path in files)
    kept = sum(path.stat().st_size for path in (scratch / "kept" / schema.KEPT_READS).rglob("*.blocks"))
    print(f"\n{log_format}: {len(files)} files, {read / 1e6:,.0f} MB, {kept / 1e6:,.0f} MB kept of them")
    print(f"{'':24} {'CPU s':>8} {'wall s':>8} {'peak GiB':>8}")
    show("read all", everything)
    show("all but one, kept", first)
    show("one day more", day)
    print(f"{'one day more / all':24} {day.cpu / everything.cpu:8.2f} {day.wall / everything.wall:8.2f}")
    for name, seconds in json.loads(parts).items():
        print(f"  {name:22} {seconds:8.2f} {seconds / everything.cpu:8.1%} of reading all")


def time_parts(config: Path, runs: Path) -> dict[str, float]:
    """Runs the station `prepare` in this process; returns the CPU seconds of its parts, and of all the rest."""
    spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)

    def timed(module: ModuleType, name: str, part: str) -> None:
        function = getattr(module, name)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += time.thread_time() - began

        setattr(module, name, wrapper)

    for part, functions in PARTS.items():
        for module, name in functions:
            timed(module, name, part)
    read = load_config(config, KEEP[1:])
    run_stations(read, runs / read.name, "prepare")
    return {part: spent[part] for part in PARTS} | {"start, Beam, the rest": time.process_time() - sum(spent.values())}


def main() -> None:
    """Prints the costs of a log that grows by a day, for several formats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path, nargs="?", help="folder of a KuaiRand log")
    parser.add_argument("--formats", nargs="+", default=["csv", "jsonl.gz"], help="csv, jsonl, and these with .gz")
    parser.add_argument("--num-shards", type=int, default=64)
    parser.add_argument("--parts", type=Path, help=argparse.SUPPRESS)  # a config, for a process of its own
    parser.add_argument("--runs", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.parts:
        print(json.dumps(time_parts(flags.parts, flags.runs)))
        return
    print(f"load average {os.getloadavg()[0]:.1f}", flush=True)
    for log_format in flags.formats:
        with tempfile.TemporaryDirectory() as scratch:
            compare(flags.log, Path(scratch), log_format, flags.num_shards)


if __name__ == "__main__":
    main()
