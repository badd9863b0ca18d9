"""Sums over neighbours: against a loop over all pairs of events, however the log is cut."""

import tracemalloc

import numpy as np
import pytest

from beam_jobs import neighbours
from beam_jobs.neighbours import neighbour_sums, sum_neighbours

NUM_ITEMS, WINDOW = 12, 3
HELD_OUT = [1, 2]


@pytest.fixture
def users():
    """Returns users of 0 to 40 training events with repeated items; item 12 has no event."""
    rng = np.random.default_rng(5)
    return [rng.integers(1, NUM_ITEMS, rng.integers(0, 41)).tolist() for _ in range(30)]


@pytest.fixture
def files(users, write_sequences):
    """Writes ten users to the first file, none to the second, the others to the third."""
    named = {f"u{number:02d}": [*items, *HELD_OUT] for number, items in enumerate(users)}
    first = dict(list(named.items())[:10])
    folder = write_sequences([first, {}, {name: named[name] for name in named if name not in first}])
    return sorted(folder.iterdir())


def pairs_of(users, window=WINDOW):
    """Returns the co-occurrences [N, N] of items 1..N, counted pair by pair."""
    matrix = np.zeros((NUM_ITEMS, NUM_ITEMS), np.int64)
    for items in users:
        for here, item in enumerate(items):
            for there, other in enumerate(items):
                if here != there and abs(here - there) <= window:
                    matrix[item - 1, other - 1] += 1
    return matrix


@pytest.mark.parametrize("block", [1, 7, 1 << 12])
@pytest.mark.parametrize("window", [1, WINDOW, 100])
def test_sums_of_a_file_are_those_of_all_pairs(users, block, window, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_EVENTS", block)
    vectors = np.random.default_rng(1).integers(-(1 << 30), 1 << 30, (NUM_ITEMS + 1, 5)).astype(np.int32)
    lengths = np.array([len(items) for items in users])
    rows, sums = neighbour_sums(np.concatenate(users).astype(int), lengths, vectors, window)
    assert rows.tolist() == list(range(1, NUM_ITEMS))
    assert np.array_equal(sums, (pairs_of(users, window) @ vectors[1:])[: NUM_ITEMS - 1])


@pytest.mark.parametrize("range_bytes", [1, 100, 4 << 20])
def test_the_job_multiplies_with_the_co_occurrences(files, users, range_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "RANGE_BYTES", range_bytes)
    vectors = np.random.default_rng(2).normal(size=(NUM_ITEMS, 4))
    found = sum_neighbours(files, vectors, WINDOW, tmp_path / "scratch")
    assert found == pytest.approx(pairs_of(users) @ vectors, abs=1e-5)
    assert np.array_equal(found[-1], np.zeros(4))


def test_sums_are_the_same_to_the_last_bit_on_several_workers(files, tmp_path):
    vectors = np.random.default_rng(3).normal(size=(NUM_ITEMS, 4))
    runner = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    one = sum_neighbours(files, vectors, WINDOW, tmp_path / "one")
    assert np.array_equal(one, sum_neighbours(files[::-1], vectors, WINDOW, tmp_path / "other", runner))


def test_vectors_of_zeros_have_sums_of_zeros(files, tmp_path):
    zeros = np.zeros((NUM_ITEMS, 2))
    assert np.array_equal(sum_neighbours(files, zeros, WINDOW, tmp_path / "scratch"), zeros)


def test_lost_sums_are_noticed(files, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "_write_range", lambda element, scratch: None)
    with pytest.raises(RuntimeError, match=r"Expected \d+ neighbours in all, found 0: the runner lost data"):
        sum_neighbours(files, np.ones((NUM_ITEMS, 2)), WINDOW, tmp_path / "scratch")


def test_more_neighbours_than_a_sum_can_hold_are_refused(files, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "MAX_NEIGHBOURS", 10)
    with pytest.raises(OverflowError, match="at most 10 neighbours of one item"):
        sum_neighbours(files, np.ones((NUM_ITEMS, 2)), WINDOW, tmp_path / "scratch")


def test_the_vectors_of_one_long_user_are_not_in_memory_at_once():
    items = np.random.default_rng(4).integers(1, 50, 200_000)
    vectors = np.ones((50, 64), np.int32)
    tracemalloc.start()
    neighbour_sums(items, np.array([len(items)]), vectors, WINDOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(items) * 64 * 8
