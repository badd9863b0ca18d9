"""Windows and batches."""

import itertools

import numpy as np
import pytest

from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.training.batches import TrainingBatches, fit_batch_tokens, history_batches
from tfdnc.training.negative_sources import RecordedNegatives
from tfdnc.training.records import HeldOutRecords, TrainingRecords
from tfdnc.training.workers import ALONE, WorkerIndex

LENGTHS = [1, 2, 3, 5, 8, 8, 13, 40]


def make_records(lengths=LENGTHS):
    """Events are numbered through, so that every value says which event it came from."""
    splits = np.concatenate([[0], np.cumsum(lengths)])
    events = np.arange(1, splits[-1] + 1, dtype=np.int32)
    negatives, users = np.stack([events * 2, events * 3], axis=1), 100 + np.arange(len(lengths), dtype=np.int32)
    return TrainingRecords(events, events % 7, negatives, splits, users)


def make_batches(random_window=0.0, batch_tokens=40, max_length=10, seed=1, lengths=LENGTHS, worker=ALONE, **more):
    train = {"random_window": random_window, "batch_tokens": batch_tokens, "loss": "bce", "negatives": "records"}
    config = parse_config({"name": "x", "examples": {"num_negatives": 2}, "train": train})
    records = make_records(lengths)._replace(**more)
    negatives = RecordedNegatives(config, None, records)
    return TrainingBatches(records, negatives, config.train, max_length, seed, worker)


def windows(batches, epoch=0):
    """Every window of an epoch as its list of events, target of the last position included."""
    found = []
    for batch in batches.epoch(epoch):
        for history, target in zip(batch["history"], batch["target"], strict=True):
            found.append([*history[history > 0].tolist(), target[target > 0][-1]])
    return sorted(found)


def test_a_window_is_the_end_of_the_sequence_and_users_without_a_target_are_left_out():
    expected = []
    for start, length in zip(np.cumsum([0, *LENGTHS]), LENGTHS, strict=False):
        events = list(range(start + 1, start + length + 1))
        if length >= 2:
            expected.append(events[-11:])
    assert windows(make_batches()) == sorted(expected)


@pytest.mark.parametrize("random_window", [0.0, 1.0])
def test_every_window_has_a_target_that_counts_and_other_users_are_left_out(random_window):
    """Windows of ten positions: of 13 events with the last target at 12, of 40 with the first one at 20."""
    first_targets = np.array([0, 2, 3, 5, 8, 8, 12, 20])  # but for the last two, as many as events: none counts
    batches = make_batches(random_window, first_targets=first_targets)
    starts = np.cumsum([0, *LENGTHS])
    for epoch in range(20):
        short, long = windows(batches, epoch)
        assert short == list(range(starts[6] + 3, starts[6] + 14))
        assert long[-1] >= starts[7] + 20 + 1
    with pytest.raises(UserError, match=r"two training events, one of them since data\.train_from, found none"):
        make_batches(first_targets=np.array(LENGTHS))


def test_targets_clusters_and_negatives_belong_to_the_next_event():
    for batch in make_batches().epoch(0):
        filled = batch["history"] > 0
        np.testing.assert_array_equal(batch["target"][filled], batch["history"][filled] + 1)
        np.testing.assert_array_equal(batch["target_cluster"][filled], batch["target"][filled] % 7)
        np.testing.assert_array_equal(batch["negatives"][filled][:, 0], batch["target"][filled] * 2)
        for name in ("target", "target_cluster", "negatives"):
            assert not batch[name][~filled].any()


@pytest.mark.parametrize("dtype", [np.int64, np.float32])
def test_an_input_stands_beside_its_history_item_and_exists_only_where_the_records_have_it(dtype):
    scale = 10**10 if dtype == np.int64 else 1 / 8  # more than int32 holds, or no integer
    values = (make_records().items.astype(dtype) * scale).astype(dtype)
    batches = make_batches(features={"anything": values})
    for batch in batches.epoch(0):
        np.testing.assert_array_equal(batch["anything"], (batch["history"].astype(dtype) * scale).astype(dtype))
        assert batch["anything"].dtype == dtype
    for batch, element in zip(batches.epoch(0), batches.dataset(0, 1), strict=True):
        np.testing.assert_array_equal(batch["anything"], element["anything"])
    assert "anything" not in make_batches().dataset(0, 1).element_spec


def test_a_window_knows_the_number_of_its_user_among_those_of_all_shards():
    first_event = {start + 1: 100 + row for row, start in enumerate(np.cumsum([0, *LENGTHS[:-1]]))}
    for batch in make_batches(max_length=50).epoch(0):
        assert [first_event[event] for event in batch["history"][:, 0]] == batch["user"].tolist()


def test_batches_stay_within_their_tokens_and_hold_similar_lengths():
    rng = np.random.default_rng(0)
    batches = make_batches(batch_tokens=400, max_length=50, lengths=rng.integers(2, 51, 500).tolist())
    shapes = [batch["history"].shape for batch in batches.epoch(0)]
    assert len(shapes) == batches.steps_per_epoch
    assert all(rows * width <= 400 for rows, width in shapes)
    filled = sum((batch["history"] > 0).sum() for batch in batches.epoch(0))
    assert filled / sum(rows * width for rows, width in shapes) > 0.9


@pytest.mark.parametrize(
    ("users", "tokens"),
    [(100, 400), (8_000, 800), (63_990, 6_399), (100_000, 6_400)],
    ids=["least", "fewer", "just_fewer", "most"],
)
def test_a_small_log_gets_small_steps_so_that_an_epoch_has_a_hundred(users, tokens):
    assert fit_batch_tokens(np.full(users, 10)) == tokens
    batches = make_batches(batch_tokens="auto", lengths=[11] * users)
    assert batches.steps_per_epoch == np.ceil(users / (tokens // 10))


def test_a_window_longer_than_the_budget_is_a_batch_of_its_own():
    shapes = [batch["history"].shape for batch in make_batches(batch_tokens=5, max_length=10).epoch(0)]
    assert (1, 10) in shapes


def test_an_epoch_is_a_function_of_seed_and_epoch():
    def flat(batches, epoch):
        return [batch["history"].tolist() for batch in batches.epoch(epoch)]

    make = lambda seed=1: make_batches(random_window=0.5, seed=seed)  # noqa: E731
    assert flat(make(), 3) == flat(make(), 3)
    assert flat(make(), 3) != flat(make(), 4)
    assert flat(make(), 3) != flat(make(2), 3)


def test_random_windows_reach_every_event_of_a_long_user_and_stay_inside_it():
    batches = make_batches(random_window=1.0)
    long_user = set(range(41, 81))  # the last user: events 41..80
    seen = set()
    for epoch in range(60):
        [window] = [w for w in windows(batches, epoch) if len(w) == 11 and w[0] > 40]
        assert window == list(range(window[0], window[0] + 11))
        assert set(window) <= long_user
        seen |= set(window)
    assert seen == long_user


def test_the_dataset_continues_at_any_epoch():
    batches = make_batches(random_window=0.5)
    expected = [batch["history"].tolist() for epoch in (2, 3) for batch in batches.epoch(epoch)]
    dataset = batches.dataset(2, 4)
    for _ in range(2):  # and starts again
        assert [batch["history"].numpy().tolist() for batch in dataset] == expected


def test_workers_take_more_and_smaller_steps_over_the_same_windows():
    batches = make_batches(batch_tokens=400, lengths=[9] * 50 + [4] * 37)
    before, shortest = windows(batches), batches.steps_per_epoch
    batches.spread_over(shortest)
    assert windows(batches) == before
    for steps in (shortest + 1, shortest + 2, 30, 87):
        batches.spread_over(steps)
        rows = [len(batch["user"]) for batch in batches.epoch(0)]
        assert len(rows) == batches.steps_per_epoch == steps
        assert max(rows) <= 2 * min(rows) + 1 or steps < 30
        assert windows(batches) == before
    with pytest.raises(UserError, match="at least 88 users with two training events in the shards of every worker"):
        batches.spread_over(88)


def test_workers_draw_other_windows_and_the_first_those_of_a_process_alone():
    def drawn(worker):
        return windows(make_batches(random_window=1.0, lengths=[40] * 20, worker=worker))

    assert drawn(WorkerIndex(0, 2)) == drawn(ALONE)
    assert drawn(WorkerIndex(1, 2)) != drawn(ALONE)


def test_a_log_without_any_target_is_refused():
    with pytest.raises(UserError, match="at least two training events"):
        make_batches(lengths=[1, 1])


def test_history_batches_give_the_recent_items_and_all_that_was_seen():
    lengths = [0, 3, 12]
    splits = np.concatenate([[0], np.cumsum(lengths)])
    targets = np.array([90, 91, 92], np.int32)
    records = HeldOutRecords(np.arange(1, 16, dtype=np.int32), splits, targets, targets % 7)
    found = {}
    for batch in history_batches(records, max_length=5, batch_tokens=24):
        assert batch.features == {}
        for user, history, seen in zip(batch.users, batch.history, batch.seen, strict=True):
            found[int(user)] = (history[history > 0].tolist(), seen[seen > 0].tolist())
    assert found == {0: ([], []), 1: ([1, 2, 3], [1, 2, 3]), 2: (list(range(11, 16)), list(range(4, 16)))}


def test_history_batches_of_at_most_so_many_users_hold_every_user_once():
    """Scores of all items are computed for a batch, so its users are limited where there are many items."""
    lengths = [1, 1, 1, 1, 1, 1, 1, 8]
    splits = np.concatenate([[0], np.cumsum(lengths)])
    records = HeldOutRecords(np.ones(sum(lengths), np.int32), splits, *np.ones([2, len(lengths)], np.int32))
    batches = [batch.users.tolist() for batch in history_batches(records, max_length=5, batch_tokens=16, most_users=3)]
    assert [len(users) for users in batches] == [2, 3, 3]  # eight padded events of two users, then three by the limit
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))


def test_history_batches_give_the_inputs_of_the_recent_items():
    splits, zeros = np.array([0, 3, 10]), np.zeros(2, np.int32)
    times = {"elapsed": np.arange(1, 11) * 10**10}
    records = HeldOutRecords(np.arange(1, 11, dtype=np.int32), splits, zeros, zeros, times)
    for batch in history_batches(records, max_length=5):
        np.testing.assert_array_equal(batch.features["elapsed"], batch.history.astype(np.int64) * 10**10)
