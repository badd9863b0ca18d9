"""Files on a disk and in a store: complete or not there, even if the worker that writes them dies."""

import pytest
from apache_beam.io.filesystems import FileSystems

from beam_jobs.files import absolute, exists, find_files, join, open_file, remove_unfinished, whole_file
from tests.beam_jobs.scheme_fs import BucketFileSystem


@pytest.fixture(params=["disk", "store"])
def place(request, tmp_path, monkeypatch):
    if request.param == "disk":
        return str(tmp_path / "a [b] *")  # characters that Beam reads as patterns
    monkeypatch.setattr(BucketFileSystem, "root", tmp_path)
    return "bucket://there/folder"


def write(path, content):
    with whole_file(path) as stream:
        stream.write(content)


def read(path):
    with open_file(path) as stream:
        return stream.read()


def test_a_file_of_any_name_is_read_as_it_was_written(place):
    for name in ("a", "b.gz", "c.parquet"):  # nothing is compressed because of its name
        write(join(place, "deep", name), b"content")
        assert read(join(place, "deep", name)) == b"content"
    assert find_files(place, "deep/*") == [join(place, "deep", name) for name in ("a", "b.gz", "c.parquet")]
    assert find_files(place, "*") == []
    assert len(find_files(place, "**")) == 3


def test_an_interrupted_write_leaves_nothing(place):
    def interrupted():
        with whole_file(join(place, "a")) as stream:
            stream.write(b"half")
            assert not exists(join(place, "a"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert find_files(place, "**") == []


def test_a_second_attempt_at_the_same_file_leaves_one_whole_file(place):
    path = join(place, "a")
    write(path, b"content")
    write(path, b"content")
    assert find_files(place, "**") == [path]
    assert read(path) == b"content"


def test_only_files_of_killed_workers_are_removed(place):
    path = join(place, "a")
    write(path, b"content")
    write(join(place, "deep", "b.tmp-0123456789abcdef"), b"half")
    remove_unfinished(place)
    assert find_files(place, "**") == [path]


def test_a_place_without_files_has_none(place):
    assert find_files(place, "**") == []
    remove_unfinished(place)


def test_a_missing_file_is_an_os_error(place):
    with pytest.raises(OSError):  # noqa: PT011 - each store has a message of its own
        open_file(join(place, "missing"))


def test_a_path_on_a_disk_means_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("out") == str(tmp_path / "out")
    assert absolute("bucket://there/out") == "bucket://there/out"


def test_the_error_for_an_unknown_scheme_asks_for_its_dependency():
    with pytest.raises(ValueError, match="ensure the required dependency is installed"):
        FileSystems.get_filesystem("nowhere://a")
