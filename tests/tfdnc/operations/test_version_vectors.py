"""Content vectors of a refreshed version: of the newer file, else of the version before, else of the training."""

from dataclasses import replace

import numpy as np
import pytest

from beam_jobs.item_vectors import VectorSource
from beam_jobs.logs.inputs import find_files
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable
from tfdnc.operations.version_vectors import read_version_vectors, write_version_vectors

TRAINED = ItemTable(
    item_ids=["a", "b", "c"],
    counts=np.array([3, 2, 1]),
    clusters=np.zeros(3, np.int32),
    offsets=(0, 3),
    sequence_indices=np.array([2, 1, 3]),  # b is the first of the prepared items
    titles=["a", "b", "c"],
    cluster_names=["A"],
    vectors={"look": np.array([[2, 2], [1, 1], [np.nan, np.nan]], np.float32)},
)


@pytest.fixture
def source(tmp_path):
    """Returns a source of vectors by item id."""

    def write(name="look", **vectors):
        np.save(tmp_path / f"{name}.npy", np.array(list(vectors.values()), np.float32))
        (tmp_path / f"{name}.txt").write_text("\n".join(vectors))
        [array], [ids] = (find_files([str(tmp_path / f"{name}.{kind}")], "") for kind in ("npy", "txt"))
        return VectorSource(name, array, "", ids, len(next(iter(vectors.values()))))

    return write


def test_a_vector_is_that_of_the_file_else_the_one_before(source, tmp_path):
    content = read_version_vectors([source(a=[1, 1], b=[5, 5], new=[7, 7])], [*"abc", "new"], TRAINED, tmp_path)
    np.testing.assert_array_equal(content.vectors["look"], [[1, 1], [5, 5], [np.nan] * 2, [7, 7]])
    assert content.known.tolist() == [True, True, False, True]
    assert content.changed.tolist() == content.untrained.tolist() == [False, True, False, True]


def test_the_next_refresh_starts_from_the_vectors_of_the_version(source, tmp_path):
    first = read_version_vectors(
        [source(b=[5, 5], new=[7, 7], left=[8, 8])], [*"abc", "new", "left"], TRAINED, tmp_path
    )
    (tmp_path / schema.VERSION_VECTORS).parent.mkdir()
    write_version_vectors(first, [*"abc", "new"], tmp_path / schema.VERSION_VECTORS)
    second = read_version_vectors([source(a=[1, 1], b=[1, 1], c=[9, 9])], [*"abc", "new"], TRAINED, tmp_path)
    np.testing.assert_array_equal(second.vectors["look"], [[1, 1], [1, 1], [9, 9], [7, 7]])
    assert second.changed.tolist() == [False, True, True, False]
    assert second.untrained.tolist() == [False, True, True, True]


def test_an_item_may_have_a_vector_of_one_feature_alone(source, tmp_path):
    """The lists were of fixed size: pyarrow cannot read those where one is missing, so all later refreshes failed."""
    trained, ids = replace(TRAINED, vectors={**TRAINED.vectors, "voice": np.zeros([3, 1], np.float32)}), [*"abcxyz"]
    sources = [source(x=[7, 7], y=[8, 8]), source("voice", y=[3], z=[4])]
    file = tmp_path / schema.VERSION_VECTORS
    file.parent.mkdir()
    write_version_vectors(read_version_vectors(sources, ids, trained, tmp_path), ids, file)
    second = read_version_vectors([source(a=[2, 2]), source("voice", a=[0])], ids, trained, tmp_path)
    np.testing.assert_array_equal(second.vectors["look"][3:], [[7, 7], [8, 8], [np.nan] * 2])
    np.testing.assert_array_equal(second.vectors["voice"][3:], [[np.nan], [3], [4]])


def test_new_items_are_in_the_cluster_with_the_nearest_centroid(source, tmp_path):
    content = read_version_vectors([source(a=[1, -1], b=[-1, 1], x=[3, -2], y=[-5, 4])], [*"abcxyz"], TRAINED, tmp_path)
    assert content.nearest(np.array([4, 6, 6]), ["a", "b", "c"], ["y", "x", "z"]).tolist() == [6, 4, -1]


def test_vectors_of_another_length_are_refused(source, tmp_path):
    with pytest.raises(UserError, match=r"'look' of 2 numbers in .*look.npy, as the training had, found 3"):
        read_version_vectors([source(a=[1, 2, 3])], ["a"], TRAINED, tmp_path)
