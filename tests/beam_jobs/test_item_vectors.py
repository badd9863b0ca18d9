"""Vectors of items: from Parquet or an array, to one memory-mapped array in order of the items."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.item_vectors import find_vectors, write_vectors
from beam_jobs.logs.inputs import find_files
from beam_jobs.sequences import prepare
from tfdnc.contracts import schema
from tfdnc.contracts.config import parse_config
from tfdnc.contracts.data_config import DataConfig, ItemFile
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import read_vectors
from tfdnc.pipeline.dependencies import log_files
from tfdnc.pipeline.stations import PREPARE

VECTORS = {"x": [1.0, 2.0], "y": [3.0, 4.0], "w": [9.0, 9.0]}
LOG = [(user, item, time) for time, item in enumerate("xyz") for user in "ab"]


@pytest.fixture
def parquet(tmp_path):
    """Writes a Parquet file with a column of vectors, and returns its section of the config."""

    def write(vectors=VECTORS, kind=None, ids=None, **more):
        kind = kind or pa.list_(pa.float32())
        columns = {"item_id": ids or list(vectors), "look": pa.array(list(vectors.values()), kind), **more}
        pq.write_table(pa.table(columns), tmp_path / "items.parquet", row_group_size=2)
        return ItemFile(path=str(tmp_path / "items.parquet"), features={"look": "vector"})

    return write


@pytest.fixture
def array(tmp_path):
    """Writes an array, its ids and an item file without vectors, and returns their section of the config."""

    def write(vectors=VECTORS, values=None, ids=None):
        np.save(tmp_path / "look.npy", np.array(list(vectors.values())) if values is None else values)
        (tmp_path / "look.txt").write_text("\n".join(ids or vectors) + "\n")
        (tmp_path / "items.csv").write_text("item_id,brand\nx,b\n")
        files = {"path": str(tmp_path / "look.npy"), "ids": str(tmp_path / "look.txt")}
        kinds = {"look": "vector", "brand": "value"}
        return ItemFile(path=str(tmp_path / "items.csv"), features=kinds, vectors={"look": files})

    return write


def vectors_of(items, item_ids, folder):
    """Returns the rows of the written array."""
    [source] = find_vectors(find_files([items.path], "data.items.path")[0], items)
    known = write_vectors(source, item_ids, str(folder / "vectors"))
    found = np.array(read_vectors(folder)["look"])
    np.testing.assert_array_equal(known, ~np.isnan(found).any(axis=1))
    return found.tolist()


KINDS = [pa.list_(pa.float64()), pa.large_list(pa.int16()), pa.list_(pa.float16(), 2)]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rows_of_parquet_get_the_order_of_the_items(parquet, tmp_path, kind):
    numbers = np.float16 if pa.types.is_float16(kind.value_type) else int if "int" in str(kind) else float
    items = parquet({item: list(map(numbers, values)) for item, values in VECTORS.items()}, kind)
    assert vectors_of(items, ["y", "x"], tmp_path) == [[3, 4], [1, 2]]


def test_rows_of_an_array_get_the_order_of_the_items(array, tmp_path):
    assert vectors_of(array(), ["y", "x"], tmp_path) == [[3, 4], [1, 2]]


def test_an_item_without_a_vector_is_unknown_and_the_first_of_several_counts(parquet, tmp_path):
    items = parquet({1: [1, 2], 2: None, 3: [5, 6], 4: [7, 8]}, ids=["x", "y", "x", "z"])
    found = vectors_of(items, ["x", "y", "z", "v"], tmp_path)
    assert [found[0], found[2]] == [[1, 2], [7, 8]]
    assert np.isnan([found[1], found[3]]).all()


def test_integer_ids_match_those_of_a_log(parquet, tmp_path):
    assert vectors_of(parquet(ids=[10, 9, 8]), ["9", "10"], tmp_path) == [[3, 4], [1, 2]]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"x": [1, 2], "y": [1, 2, 3]}, "vectors of 2 numbers in column 'look' of .*, as the first has, found 3 for"),
        ({"x": [1, 2], "y": [1, np.inf]}, r"finite numbers in the vectors 'look' of .*, found others for item 'y'\."),
        ({"x": [1, None], "y": [1, 2]}, "finite numbers .* for item 'x'"),
        ({"x": [], "y": []}, "Expected numbers in the vectors 'look' of .*, found an empty one"),
        ({"x": None, "y": None}, "Expected vectors in column 'look' of .*, found none"),
        ({"v": [1, 2]}, "vectors 'look' of items of the log, such as 'x', in .*, found none; compare the ids"),
    ],
)
def test_wrong_vectors_are_sentences(parquet, tmp_path, vectors, message):
    with pytest.raises(UserError, match=message):
        vectors_of(parquet(vectors), ["x", "y"], tmp_path)


def test_wrong_columns_are_sentences(parquet, tmp_path):
    texts = parquet({"x": ["a"]}, pa.list_(pa.string()))
    with pytest.raises(UserError, match=r"Expected lists of numbers in column 'look' of .*, found list<"):
        vectors_of(texts, ["x"], tmp_path)
    with pytest.raises(UserError, match=r"Expected column 'sight' in .*, found item_id, look; set data"):
        vectors_of(parquet().model_copy(update={"features": {"sight": "vector"}}), ["x"], tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"values": np.zeros(3)}, r"Expected an array \[items, numbers\] in .*, found float64 \(3,\)"),
        ({"values": np.array([["a", "b"]])}, r"Expected an array \[items, numbers\] in .*, found <U1"),
        ({"values": np.array([{}])}, r"Expected an array of numpy in .*, could not read it"),
        ({"ids": ["x", "y"]}, r"Expected a line in .*txt for each of the 3 rows of .*npy, found 2 lines"),
    ],
)
def test_wrong_arrays_are_sentences(array, tmp_path, wrong, message):
    with pytest.raises(UserError, match=message):
        vectors_of(array(**wrong), ["x", "y"], tmp_path)


def test_a_vector_is_no_column_of_text(array, tmp_path):
    items = array().model_copy(update={"vectors": {}})
    with pytest.raises(UserError, match=r"Expected a Parquet file for the vector 'look' .*, found .*csv; convert it"):
        vectors_of(items, ["x"], tmp_path)


def test_an_array_needs_a_feature_of_its_name():
    files = {"look": {"path": "a.npy", "ids": "a.txt"}}
    for features in ({}, {"look": "value"}):
        items = {"path": "items.csv", "features": features, "vectors": files}
        with pytest.raises(UserError, match="expected look of vectors in features, as `look: vector`"):
            parse_config({"name": "x", "data": {"items": items}})


def test_prepare_writes_vectors_beside_the_vocabulary(write_csv, array, tmp_path):
    config = DataConfig(path=write_csv(LOG), items=array(), min_item_events=1, min_user_events=3, catalogue="items")
    figures = prepare(config, tmp_path / "prepared")
    vocabulary = pq.read_table(tmp_path / "prepared" / schema.VOCABULARY).to_pylist()
    assert [row["item_id"] for row in vocabulary] == ["x", "y", "z"]
    assert [row["features"] for row in vocabulary] == [["brand=b"], None, None]
    found = read_vectors(tmp_path / "prepared")["look"]
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, [[1, 2], [3, 4], [np.nan, np.nan]])
    assert figures["item_file"]["with"]["feature look"] == 2


def test_the_station_depends_on_what_is_in_the_files_and_not_on_their_paths(write_csv, array, tmp_path):
    data = {"path": str(write_csv(LOG)), "items": array().model_dump()}
    config = parse_config({"name": "x", "data": data})
    names = [file.name for file in log_files(config, tmp_path)]
    assert names == ["log.csv", "items.csv", "look.npy", "look.txt"]
    assert str(tmp_path) not in str(PREPARE.settings(config))


def test_vectors_are_copied_part_by_part(array, tmp_path):
    """Lists of Python, or a whole copy, would take the memory several times."""
    size, ids = (60_000, 64), [str(item) for item in range(60_000)]
    items = array(values=np.zeros(size, np.float32), ids=ids)
    tracemalloc.start()
    vectors = find_vectors(find_files([items.path], "data.items.path")[0], items)
    write_vectors(vectors[0], ids, str(tmp_path / "vectors"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size[0] * size[1] * 4 / 1.5


def test_a_missing_list_of_fixed_size_is_refused_with_advice(parquet, tmp_path):
    """Beyond the first rows, which give the size, it ended in an error of pyarrow."""
    vectors = {str(number): [1.0, 2.0] for number in range(9000)} | {"last": None}
    items = parquet(vectors, pa.list_(pa.float32(), 2))
    [file] = find_files([items.path], "")
    [source] = find_vectors(file, items)
    with pytest.raises(UserError, match=r"could not read them: .* write lists of variable size"):
        write_vectors(source, ["1"], str(tmp_path))
