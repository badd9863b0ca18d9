"""The shuffle through files: the same bytes, little memory in the runner, and no files left."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import execution

from beam_jobs.packing import pack, unpack
from beam_jobs.pipeline import options_of
from beam_jobs.shuffle import SetAside, WriteAside, scratch_folder
from tfdnc.contracts.errors import UserError

FILES, ENGINE = ["--shuffle=files"], ["--shuffle=engine"]


@pytest.fixture
def log(write_csv):
    rng = np.random.default_rng(5)
    columns = (rng.integers(0, 50, 20_000), rng.integers(0, 40, 20_000), rng.integers(0, 1 << 40, 20_000))
    return write_csv(zip(*(column.tolist() for column in columns), strict=True))


def test_files_and_engine_give_the_same_bytes(log, prepare_log, bytes_of):
    # test_runners.py tests files with several threads and processes, where they are the default.
    expected, prepared = prepare_log(log, [*ENGINE, "--chunk_bytes=100000"], name="engine")
    figures, output = prepare_log(log, [*FILES, "--chunk_bytes=100000"], name="files")
    assert (figures, bytes_of(output)) == (expected, bytes_of(prepared))


def test_the_runner_holds_no_events(log, prepare_log, monkeypatch):
    held = []
    for buffer in (execution.ListBuffer, execution.GroupingBuffer):

        def append(self, data, kept=buffer.append):
            held.append(len(data))
            kept(self, data)

        monkeypatch.setattr(buffer, "append", append)
    prepare_log(log, [*ENGINE, "--chunk_bytes=100000"], name="engine")
    heavy, held[:] = max(held), []
    prepare_log(log, [*FILES, "--chunk_bytes=100000"], name="files")
    assert heavy > 100_000
    assert max(held) < 10_000


def test_files_are_the_default_for_the_runner_that_holds_all_elements_in_memory(tmp_path):
    with scratch_folder(tmp_path, options_of([])) as scratch:
        assert Path(scratch).is_dir()
    for elsewhere in ("--runner=PortableRunner", "--runner=FlinkRunner"):
        with scratch_folder(tmp_path, options_of([elsewhere])) as scratch:
            assert scratch is None
    with scratch_folder("store://bucket/prepared", options_of([])) as scratch:
        assert scratch is None


def test_files_need_a_disk(tmp_path):
    with (
        pytest.raises(UserError, match="an output on a disk of all workers, got store://bucket"),
        scratch_folder("store://bucket/prepared", options_of(FILES)),
    ):
        pass


def test_nothing_is_left_of_the_files(log, prepare_log, tmp_path):
    left = tmp_path / "prepared" / ".shuffle" / "of-a-killed-job"
    left.parent.mkdir(parents=True)
    left.touch()
    _, output = prepare_log(log, FILES)
    assert sorted(path.name for path in output.iterdir()) == ["dead_letter", "sequences", "vocabulary.parquet"]


def test_nothing_is_left_of_the_files_of_a_failed_job(log, prepare_log, tmp_path):
    with pytest.raises(UserError, match="none is left"):
        prepare_log(log, FILES, min_user_events=10_000)
    assert not (tmp_path / "prepared" / ".shuffle").exists()


def test_a_retried_bundle_has_a_file_of_its_own(tmp_path):
    batches = [pa.record_batch({"n": np.arange(start, start + 100)}) for start in (0, 100)]
    packed = [pack(batch) for batch in batches]
    writer = WriteAside(str(tmp_path))

    writer.start_bundle()
    [failed] = writer.process((7, ((0, 1), packed[0])))
    writer.start_bundle()  # the runner tries again, and the first pointer is lost
    elements = [element for block in packed for element in writer.process((7, ((0, 1), block)))]
    writer.finish_bundle()

    assert [(name, order) for name, (order, _) in elements] == [(7, (0, 1))] * 2
    assert [unpack(pointer) for _, (_, pointer) in elements] == batches
    assert failed not in elements
    assert len(list(tmp_path.iterdir())) == 2


def test_types_of_elements_and_thus_coders_stay(tmp_path):
    with beam.Pipeline(options=options_of([])) as graph:
        tables = graph | beam.Create([(1, b"x")]).with_output_types(tuple[int, bytes])
        assert (tables | SetAside(tmp_path)).element_type == tables.element_type
