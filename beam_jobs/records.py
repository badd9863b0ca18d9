"""Records of the users of one sequence file: the features of every split as encoded lists.

Letters: S sequences, T training items of a user, R sets of n negatives per training item.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from beam_jobs.ids import random_key
from beam_jobs.item_table import ItemTable
from beam_jobs.logs.event_weights import count_weights
from beam_jobs.tfrecord import CutVarints, Floats, Lists, Varints, encoded, scalars
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import TIME, WEIGHT, Feature, Of, features_of_file
from tfdnc.contracts.item_lists import ended_lists
from tfdnc.contracts.negative_sampling import (
    EMPTY,
    EXACT,
    REDRAWN,
    NegativeSampler,
    draw_negatives,
    user_generator,
)

SPLITS = (schema.TRAIN, schema.VALIDATION, schema.TEST)

SPLIT_COLUMNS = ["train_events", "validation", "test"]
"""Columns of sequence files that mark the split."""


def users_of_splits(sequences: pa.Table) -> dict[str, np.ndarray]:
    """Returns the numbers of the sequences that have a record, by split; needs only the `SPLIT_COLUMNS`."""
    train_events, validation, test = (sequences[name].to_numpy() for name in SPLIT_COLUMNS)
    found = {schema.TRAIN: train_events > 0, schema.VALIDATION: validation >= 0, schema.TEST: test >= 0}
    return {split: np.flatnonzero(found[split]) for split in SPLITS}


def encode_users(
    sequences: pa.Table,
    first_user: int,
    table: ItemTable,
    sampler: NegativeSampler,
    num_negatives: int,
    seed: int,
    train_from: int | None = None,
    allows_seen: bool = False,
    known: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tuple[dict[str, dict[str, Lists]], dict[str, int]]:
    """Encodes the users of one file.

    Args:
        sequences: table of a `features.sequence_schema`.
        first_user: index of the first user.
        table: table of the items.
        sampler: draws the negatives.
        num_negatives: number of negatives per training item, of all sets together, R n.
        seed: seed of the negatives.
        train_from: time before which events are no training targets; None for no such time.
        allows_seen: whether a user's own items may be negatives, see `draw_negatives`.
        known: the values that have a number, by input of kind `value`.

    Returns:
        The features of every split, and the counts.

    Raises:
        UserError: an item is not in the table.
    """
    inputs = features_of_file(sequences.schema)
    if inputs is None:
        raise ValueError(f"expected the columns of a sequence file, got {', '.join(sequences.schema.names)}")
    lists = sequences["items"].combine_chunks()
    edges = lists.offsets.to_numpy().astype(np.int64)  # [S + 1]
    starts, user_ids = edges[:-1], sequences["user_id"].combine_chunks()
    items = _renumber(lists.values.to_numpy(), table)
    clusters, item_varints = table.cluster[items], Varints(items)
    of_users = [feature for feature in inputs if feature.of is Of.USER]
    inputs = tuple(feature for feature in inputs if feature.of is not Of.USER)
    values = {feature: sequences[feature.column].combine_chunks().values for feature in inputs}
    packed = {
        one: _encode_items(values[one], table)
        if one.form.of_items
        else encoded(one.form.recorded(values[one], starts, known.get(one.name, ())))
        for one in inputs
    }
    per_user = _encode_per_user(sequences, of_users, known)
    users = users_of_splits(sequences)
    learners = users[schema.TRAIN]
    train_starts, train_ends = starts[learners], (starts + sequences["train_events"].to_numpy())[learners]
    ids = user_ids.take(pa.array(learners)).to_pylist()
    negatives, counts = _draw(ids, items, train_starts, train_ends, sampler, num_negatives, seed, allows_seen)
    negative_edges = np.concatenate([[0], np.cumsum([drawn.size for drawn in negatives], dtype=np.int64)])
    features: dict[str, dict[str, Lists]] = {}
    features[schema.TRAIN] = {
        "user": scalars(first_user + learners),
        "item": item_varints.lists(train_starts, train_ends),
        "cluster": Varints(clusters).lists(train_starts, train_ends),
        "negatives": Varints(np.concatenate([np.zeros(0, np.int64), *map(np.ravel, negatives)])).lists(
            negative_edges[:-1], negative_edges[1:]
        ),
        **{feature.record_key: packed[feature].lists(train_starts, train_ends) for feature in inputs},
        **{key: of_each.lists(learners, learners + 1) for key, of_each in per_user.items()},
    }
    if train_from is not None:
        earlier = np.concatenate([[0], np.cumsum(values[TIME].to_numpy() < train_from, dtype=np.int64)])
        features[schema.TRAIN][schema.FIRST_TARGET] = scalars(earlier[train_ends] - earlier[train_starts])
    if WEIGHT in inputs:
        counts |= count_weights(values[WEIGHT].to_numpy(), train_starts + 1, train_ends)  # the first event is no target
    held_out = [feature for feature in inputs if feature.form.in_held_out]
    of_target = [feature for feature in held_out if feature.of_target]
    for split in (schema.VALIDATION, schema.TEST):
        tested = users[split]
        targets = (starts + sequences[split].to_numpy())[tested]
        features[split] = {
            "user": scalars(first_user + tested),
            "item": item_varints.lists(starts[tested], targets),
            "target": item_varints.lists(targets, targets + 1),
            "target_cluster": scalars(clusters[targets]),
            **{feature.record_key: packed[feature].lists(starts[tested], targets) for feature in held_out},
            **{key: of_each.lists(tested, tested + 1) for key, of_each in per_user.items()},
            **{feature.target_key: packed[feature].lists(targets, targets + 1) for feature in of_target},
        }
    return features, counts


def _encode_items(lists: pa.ListArray, table: ItemTable) -> CutVarints:
    """Returns the encoded items of every event `[E]`, see `item_lists`."""
    items = _renumber(lists.values.to_numpy(), table)
    return CutVarints(*ended_lists(items, np.diff(lists.offsets.to_numpy())))


def _encode_per_user(
    sequences: pa.Table, features: Sequence[Feature], known: Mapping[str, Sequence[str]]
) -> dict[str, Varints | Floats]:
    """Returns the encoded values `[S]` of the inputs of users, by their names in records."""
    nothing = np.zeros(0, np.int64)
    columns = {feature: sequences[feature.column].combine_chunks() for feature in features}
    return {
        one.record_key: encoded(one.form.recorded(values, nothing, known.get(one.name, ())))
        for one, values in columns.items()
    }


def _draw(
    user_ids: list[str],
    items: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    sampler: NegativeSampler,
    num_negatives: int,
    seed: int,
    allows_seen: bool,
) -> tuple[list[np.ndarray], dict[str, int]]:
    """Returns the negatives `[T, R n]` of every user's training part, and the counts."""
    negatives = []
    counts = {"positions": int((ends - starts).sum()), REDRAWN: 0, EXACT: 0, EMPTY: 0}
    for user_id, start, end in zip(user_ids, starts.tolist(), ends.tolist(), strict=True):
        own = items[start:end]
        generator = user_generator(seed, random_key(user_id))
        drawn, more = draw_negatives(sampler, generator, own, own, num_negatives, allows_seen)
        negatives.append(drawn)
        for name, count in more.items():
            counts[name] += count
    return negatives, counts


def _renumber(sequence_index: np.ndarray, table: ItemTable) -> np.ndarray:
    """Returns the item index of every event."""
    known = len(table.index_of_sequence)
    items = table.index_of_sequence[np.minimum(sequence_index, known - 1)]
    unknown = (sequence_index >= known) | (items == schema.PAD)
    if unknown.any():
        raise UserError(
            f"Expected every item of the sequences in the item table, sequence_index {sequence_index[unknown][0]} is "
            "not in it; cluster these sequences again."
        )
    return items
