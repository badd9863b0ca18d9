"""A log format of the user's own: registered by a plug-in, read by workers in other processes."""

import sys

import pyarrow.parquet as pq
import pytest

from beam_jobs.logs.log_formats import LOG_FORMATS, find_log
from beam_jobs.sequences import prepare
from tfdnc.contracts import plugins, schema
from tfdnc.contracts.config import load_config
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError

MODULE = '''
from dataclasses import dataclass

import pyarrow as pa

from beam_jobs.logs.lines import slices_of
from beam_jobs.logs.log_formats import LOG_FORMATS, NamedFiles
from beam_jobs.logs.log_rows import Columns, check, encode_ids
from beam_jobs.logs.text_files import TextFile


@dataclass(frozen=True)
class ArrowRows:
    """Lines such as `7 -> 12 @ 1700000000`."""

    wanted = ()

    def parse(self, block, offset):
        lines = block.splitlines()
        pairs, times = zip(*(line.split(b" @ ") for line in lines))
        users, items = zip(*(pair.split(b" -> ") for pair in pairs))
        ids = (encode_ids(pa.array(values, pa.binary())) for values in (users, items))
        columns = Columns(*ids, pa.array([int(time) for time in times], pa.int64()), "s")
        return check(columns, offset, lambda rows: slices_of(block, offset, rows))


@LOG_FORMATS.register("arrows")
class Arrows(NamedFiles):
    def read(self, file, config):
        return TextFile(file, ArrowRows())
'''


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Returns the config of a log of 9 users with 4 events each, in a folder that is not on the Python path."""
    (tmp_path / "arrow_log.py").write_text(MODULE)
    lines = [f"{user} -> {item} @ {100 + item}\n" for user in range(9) for item in range(4)]
    (tmp_path / "log.txt").write_text("".join(lines))
    data = f"{{format: arrows, path: {tmp_path}/log.txt, min_item_events: 1, min_user_events: 3, num_shards: 2}}"
    (tmp_path / "x.yaml").write_text(f"name: x\nplugins: [arrow_log]\ndata: {data}\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(plugins, "_imported", {})
    loaded = load_config(tmp_path / "x.yaml")
    plugins.import_plugins(loaded.plugins)
    yield loaded
    del sys.modules["arrow_log"], LOG_FORMATS["arrows"]


def test_workers_in_other_processes_read_it(config, tmp_path):
    """Workers unpickle the rows of the format, so they have to import its module first."""
    modes = ["--direct_running_mode=multi_processing", "--direct_num_workers=2", "--chunk_bytes=200"]
    figures = prepare(config.data, tmp_path / "prepared", modes)
    assert (figures["users"], figures["events"], figures["rows_read"]) == (9, 36, 36)
    assert len(pq.read_table(tmp_path / "prepared" / schema.SEQUENCES)) == 9


def test_the_error_for_an_unknown_format_lists_the_known_ones(config):
    with pytest.raises(
        UserError, match="Unknown log format 'arows'; known: arrows, csv, jsonl, kuairand, movielens, pa"
    ):
        find_log(DataConfig(format="arows", path="x"))
