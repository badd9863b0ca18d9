"""Files between stations: their names, columns, feature names, dtypes and shapes.

Letters: B batch, L history length, K clusters, V user vectors, D embedding size, N items, M candidates, P positions
with a target, T training events of one user. Item index 0 is padding; items are 1..N. Histories are oldest first.
"""

import pyarrow as pa

PAD = 0
"""Item index for "no item" in histories, negatives and results."""

KEPT_READS = ".kept_reads"
"""Folder in that of all runs, see `beam_jobs.kept_reads`."""

# prepare -> cluster, examples -------------------------------------------------------------------------------------

SEQUENCES = "sequences"
"""Folder of Parquet files, one per user bucket; a row is one user, sorted by user id inside a file.

The three last columns alone define what a model may read of a user. These are `items[:train_events]` for training, and
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
"""Every item of the log, in order of `sequence_index` 1..N; those that `data.catalogue: items` adds come last."""

VOCABULARY_SCHEMA = pa.schema(
    [
        ("sequence_index", pa.int32()),
        ("item_id", pa.string()),  # as in the log; the id that clients send and receive
        ("events", pa.int64()),  # kept events, held-out ones included; 0 for items of the item file alone
        ("title", pa.string()),  # null for a log without an item file
        ("categories", pa.list_(pa.string())),  # null likewise
        ("features", pa.list_(pa.string())),  # null likewise; "column=value", see `beam_jobs.item_features`
    ]
)

INPUT_VALUES = "input_values.json"
"""Values that are known of every input of kind `value`, by its name, in order of their numbers 1, 2, ...

They are those of the training part, sorted. Only logs with such inputs have the file, beside the sequences and, as a
copy, beside the folders of records.
"""

DEAD_LETTER = "dead_letter"
"""Folder of JSON Lines files: {"file", "offset", "text", "reason"}, one per malformed row.

Offsets are bytes of the (decompressed) text; in Parquet they are numbers of rows, and the text is the row as JSON.
Files of one name in several folders are named with the folders below their common one.
"""

VECTORS = "vectors"
"""Folder of the vectors of items, NAME.npy: float32 `[N, D]`; row i is `sequence_index` i + 1, NaN if it is unknown."""

# cluster -> examples, train, evaluate, export ---------------------------------------------------------------------

ITEMS = "items.parquet"
"""Item table in order of `item_index` 1..N; items are renumbered so that a cluster is one contiguous index range.

With contiguous ranges the items of cluster k are a slice. In-cluster softmax needs no gather, and a negative is one
uniform draw between two offsets.
"""

ITEM_SCHEMA = pa.schema(
    [
        ("item_index", pa.int32()),
        ("sequence_index", pa.int32()),  # the item's index in the sequences
        ("item_id", pa.string()),
        ("cluster", pa.int32()),  # 0..K-1, never decreasing down the table
        ("cold", pa.bool_()),  # without training events, or new since `cluster.previous`: assigned by features
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

Declared inputs of events are in features named by `features.Feature.key`. `elapsed` is int64, the time since the user's
event before in the log's unit, 0 for the first. `weight` is float, in training records only. `event_NAME` is an input
of `data.events` or `data.context`. Training records have `[T]` of each, held-out records as many as items in the
history. They have also `target_elapsed` `[1]`, the time from the last event to the target, which is the time of the
request, and `target_event_NAME` `[1]` of the context. `user_NAME` `[1]` is an input of users. `exposures` has the items
that were passed over after each event, and a 0 at the end of every event's.

A user without a training event has no training record, and one without a validation or test target no record there.
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
    "item": "[T] every item before the target, oldest first: the history, and the seen items",
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
        ("count", pa.int64()),  # training events; for an item with 0 only the features are trained
        ("features", pa.list_(pa.string())),  # "column=value", those with a row in the model; null without features
    ]
)

CHECKPOINT_CLUSTERS, CHECKPOINT_FEATURES = b"tfdnc.clusters", b"tfdnc.features"
"""Metadata of that file, as JSON: names of the clusters; names of the features in order of rows, or null."""

CHECKPOINT_VALUES = b"tfdnc.values"
"""Likewise, only of a model with inputs of kind `value`: their values by name, in order of rows from the second one."""

CHECKPOINT_CONTENT = "weights.content.npy"
"""Only with features of kind vector: float32 `[N, D]`, the share of these vectors in the item vectors."""

CHECKPOINT_TRAINED = b"tfdnc.trained"
"""Likewise: names of the variables that the optimiser trains, in its order; its moments have that order too."""

CHECKPOINT_ROWS = b"tfdnc.rows"
"""Likewise, of an optimiser with one number per row of some variables: `number` of these, the last; `beta_2`."""

CHECKPOINT_INTENT = "weights.intent.json"
"""The intent that serves, see `training.served_intent`; only of a training that had a choice."""

HISTORY_FILE = "history.json"
"""List of one dict per epoch: losses, and validation figures where the epoch was validated."""

REPORT = "report.json"
"""File with the result of `tfdnc.evaluation.report.evaluate`."""

RUN_CONFIG = "config.yaml"
"""In the run's folder: the resolved config, defaults included."""

# train -> progress displays -----------------------------------------------------------------------------------------

EPOCH_LOG = "epochs.jsonl"
"""In the unfinished folder: one JSON object per finished epoch, with its losses and `cpu_seconds`."""

# refresh -> refresh, query ------------------------------------------------------------------------------------------

VERSION_ITEMS = "assets.extra/items.parquet"
"""Inside a refreshed version of a bundle: its items in order of their indices, first the listed ones by cluster.

A version without this file has the items of the cluster station, all of them listed.
"""

VERSION_VECTORS = "assets.extra/item_vectors.parquet"
"""Inside a refreshed version of a model with content vectors: `item_id`, and by feature the vectors that the training
did not have, lists of float32. A version without this file has those of the training.
"""

VERSION_ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("cluster", pa.int32()),
        ("cold", pa.bool_()),  # as of `ITEM_SCHEMA`; True for items that a refresh has added
        ("count", pa.int64()),  # training events
        ("title", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("features", pa.list_(pa.string())),
        ("listed", pa.bool_()),  # False: the item has left, and is understood in histories only
    ]
)

# an event -> the next one, a request -------------------------------------------------------------------------------

UNKNOWN_TIME = -1
"""Value of an unknown time, and of an unknown elapsed time; known times are 0 or more."""

UNKNOWN_NUMBER = -1e30
"""Value of an unknown number, as are all numbers not above it; finite, because REST requests are JSON."""
