"""Large matrices: the number of copies in memory, and the values of item vectors whichever way they are made."""

from pathlib import Path

import numpy as np
import pytest

from serving.memory import resident
from tfdnc.backend import keras, tf
from tfdnc.model.item_tower import ItemEmbeddings
from tfdnc.model.matrix import tensor_of


def test_a_tensor_of_an_array_has_its_values_and_memory_of_its_own():
    matrix = np.random.default_rng(0).normal(size=(70_000, 3))
    given = matrix.astype(np.float32)
    for one in (matrix, given, given[:, ::-1], given[:0]):
        np.testing.assert_array_equal(tensor_of(one), one.astype(np.float32))
    tensor, first = tensor_of(given), given[0].copy()
    given[0] = 7
    np.testing.assert_array_equal(tensor[0], first)


def test_random_item_vectors_are_those_of_the_initializer():
    keras.utils.set_random_seed(3)
    expected = keras.initializers.RandomNormal(0, 0.02)([50, 4])
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(ItemEmbeddings(50, 4).embeddings, expected)


def test_given_item_vectors_change_no_later_weight_of_a_seed():
    later = []
    for initial in (None, np.ones([50, 4], np.float32), tf.ones([50, 4])):
        keras.utils.set_random_seed(3)
        ItemEmbeddings(50, 4, initial)
        later.append(keras.initializers.RandomNormal()([5]))
    np.testing.assert_array_equal(later[0], later[1])
    np.testing.assert_array_equal(later[0], later[2])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("given", [True, False])
def test_item_vectors_are_made_without_a_second_copy(given):
    """Ten million random vectors took three times their size, and given ones two copies more than their own."""
    rows, dim = 1 << 19, 64
    initial = np.zeros([rows, dim], np.float32) + 1 if given else None  # 128 MiB
    ItemEmbeddings(9, dim, None if initial is None else initial[:9])
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = resident()
    layer = ItemEmbeddings(rows, dim, initial)
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    assert layer.embeddings.shape == [rows, dim]
    assert peak - before < 1.5 * 4 * rows * dim
