"""The files that pass between stations: names, columns, feature names, dtypes and shapes, written once.

Letters: B batch, L history length, K clusters, V user vectors, D embedding size, N items, M candidates, P positions
with a target, T training events of one user. Item index 0 is padding; items are 1..N. Histories are oldest first.
"""

import pyarrow as pa

PAD = 0
"""Item index that stands for "no item" in histories, negatives and results."""

# prepare -> cluster, examples -------------------------------------------------------------------------------------

SEQUENCES = "sequences"
"""Folder of Parquet files, one per user bucket; a row is one user, sorted by user id inside a file.

What a model may see of a user is in the three last columns and nowhere else: `items[:train_events]` to learn from, and
`items[:p]` as the history of the target at position p. Weights and declared inputs of events follow in columns of their
own, see `tfdnc.contracts.features`.
"""

SEQUENCE_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        (
            "items",
            pa.list_(pa.int32()),
        ),  # `sequence_index` of every event, oldest first; ties keep file order
        ("times", pa.list_(pa.int64())),  # the log's own time unit
        ("train_events", pa.int32()),  # leading events that are the training part
        ("validation", pa.int32()),  # position in `items` of the validation target, >= train_events; -1: none
        ("test", pa.int32()),  # of the test target, > validation; -1: none. A target has an event before it
    ]
)

VOCABULARY = "vocabulary.parquet"
"""What prepare knows of every item, in order of `sequence_index` 1..N; those of `data.catalogue: items` come last."""

VOCABULARY_SCHEMA = pa.schema(
    [
        ("sequence_index", pa.int32()),
        ("item_id", pa.string()),  # as in the log; the id that clients send and receive
        ("events", pa.int64()),  # kept events, held-out ones included; 0 of what only the item file knows
        ("title", pa.string()),  # null where the log came without an item file
        ("categories", pa.list_(pa.string())),  # null likewise
        ("features", pa.list_(pa.string())),  # null likewise; "column=value", see `beam_jobs.item_features`
    ]
)

DEAD_LETTER = "dead_letter"
"""Folder of JSON Lines files: {"file", "offset", "text", "reason"}, one per malformed row.

Offsets are bytes of the (decompressed) text; in Parquet they are numbers of rows, and the text is the row as JSON.
Files of one name in several folders are told apart by the folders below the one that they share.
"""

# cluster -> examples, train, evaluate, export ---------------------------------------------------------------------

ITEMS = "items.parquet"
"""Item table in order of `item_index` 1..N; items are renumbered so that a cluster is one contiguous index range.

Contiguous ranges turn "the items of cluster k" into a slice: in-cluster softmax needs no gather, and a negative is
one uniform draw between two offsets.
"""

ITEM_SCHEMA = pa.schema(
    [
        ("item_index", pa.int32()),
        ("sequence_index", pa.int32()),  # the item's index in the sequences
        ("item_id", pa.string()),
        ("cluster", pa.int32()),  # 0..K-1, never decreasing down the table
        ("cold", pa.bool_()),  # without training events, or new since `cluster.previous`: placed, not clustered
        ("count", pa.int64()),  # events in the training part, whatever their weights
        ("title", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("features", pa.list_(pa.string())),
    ]
)

CLUSTERS = "clusters.json"
"""List of {"cluster", "name", "items", "item_share", "event_share", "cold_items", "top_items"}, one per cluster."""

# examples -> train, evaluate --------------------------------------------------------------------------------------

TRAIN, VALIDATION, TEST = "train", "validation", "test"
"""Folders of TFRecord files of `tf.train.Example`; the features below are int64 lists, never negative.

What the log knows of its events beside the items is in features named by `features.Feature.key`: `elapsed` (int64,
time since the user's event before, in the log's own unit; 0 for the first), `weight` (float, training only), and
`event_NAME` of what `data.events` declares. Training records have `[T]` of each, held-out ones the same of the history,
and `target_elapsed` `[1]`, the time from its last event to the target, when the request is made.

A user without a training event has no training record, one without a validation or test target no record there.
"""

TRAIN_FEATURES = {
    "user": "[1] index of the user, 0..users-1, in order of the sequence files, those without a record included",
    "item": "[T] the user's training items, oldest first",
    "cluster": "[T] the cluster of each item",
    "negatives": "[T * R * n] row j: R sets of n negatives for target item[j]; 0 where its cluster has none left",
}

FIRST_TARGET = "first_target"
"""With `data.train_from` a training record also has this `[1]`: how many of the T items are earlier, and no targets."""

HELD_OUT_FEATURES = {
    "user": "[1] index of the user",
    "item": "[T] every item before the target, oldest first: the history, and the items that count as seen",
    "target": "[1] the held-out item",
    "target_cluster": "[1] its cluster",
}


def shard_name(shard: int, num_shards: int, suffix: str) -> str:
    """Returns the file name of one shard, such as `part-00003-of-00016.tfrecord`."""
    return f"part-{shard:05d}-of-{num_shards:05d}.{suffix}"


# train -> evaluate, export, report; evaluate -> report ---------------------------------------------------------------

WEIGHTS = "weights"
"""TensorFlow checkpoint of the best epoch: `tower`, with the share of the features apart, and `optimizer`."""

CHECKPOINT_ITEMS = "weights.items.parquet"
"""Items of the weights, beside them, in order of `item_index`; `training.checkpoint.read_checkpoint` reads both."""

CHECKPOINT_ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("cluster", pa.int32()),
        ("count", pa.int64()),  # training events; of an item with 0 features are all that was learned
        ("features", pa.list_(pa.string())),  # "column=value", those that the model has a row for; null without
    ]
)

CHECKPOINT_CLUSTERS, CHECKPOINT_FEATURES = b"tfdnc.clusters", b"tfdnc.features"
"""In the metadata of that file, as JSON: names of the clusters; names of the features in order of rows, or null."""

CHECKPOINT_TRAINED = b"tfdnc.trained"
"""Likewise: names of the variables that the optimiser trains, in its order; its moments have that order too."""

HISTORY_FILE = "history.json"
"""List of one dict per epoch: losses, and validation figures where the epoch was validated."""

REPORT = "report.json"
"""What `tfdnc.evaluation.report.evaluate` returns."""

RUN_CONFIG = "config.yaml"
"""In the run's folder: the resolved config, defaults included."""

# train -> whoever watches it ---------------------------------------------------------------------------------------

EPOCH_LOG = "epochs.jsonl"
"""In the unfinished folder: one JSON object per finished epoch, with its losses and `cpu_seconds`."""

# an event -> the next one, a request -------------------------------------------------------------------------------

UNKNOWN_TIME = -1
"""Says that a time, or the time between two events, is unknown; no time that is known may be below 0."""

UNKNOWN_NUMBER = -1e30
"""Says that a number is unknown, as does whatever is not above it; finite, because REST requests are JSON."""
