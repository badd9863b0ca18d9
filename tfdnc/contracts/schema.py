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
`items[:p]` as the history of the target at position p.
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

WEIGHTED_SEQUENCE_SCHEMA = SEQUENCE_SCHEMA.append(pa.field("weights", pa.list_(pa.float32())))
"""The same of a log with `data.columns.weight`: what every event counts in the training loss, finite and >= 0."""

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
"""Folders of TFRecord files of `tf.train.Example`; every feature but `WEIGHT` is an int64 list, never negative.

A user without a training event has no training record, one without a validation or test target no record there.
"""

TRAIN_FEATURES = {
    "user": "[1] index of the user, 0..users-1, in order of the sequence files, those without a record included",
    "item": "[T] the user's training items, oldest first",
    "cluster": "[T] the cluster of each item",
    "negatives": "[T * R * n] row j: R sets of n negatives for target item[j]; 0 where its cluster has none left",
    "elapsed": "[T] time since the user's event before, in the log's own unit; 0 for the first",
}

WEIGHT = "weight"
"""Float feature [T] of the training records of a log with weights, and of no others: what each event counts."""

HELD_OUT_FEATURES = {
    "user": "[1] index of the user",
    "item": "[T] every item before the target, oldest first: the history, and the items that count as seen",
    "target": "[1] the held-out item",
    "target_cluster": "[1] its cluster",
    "elapsed": "[T] as in training",
    "target_elapsed": "[1] time from the last event of the history to the target, when the request is made",
}


def shard_name(shard: int, num_shards: int, suffix: str) -> str:
    """Returns the file name of one shard, such as `part-00003-of-00016.tfrecord`."""
    return f"part-{shard:05d}-of-{num_shards:05d}.{suffix}"


# train -> evaluate, export, report; evaluate -> report ---------------------------------------------------------------

WEIGHTS = "weights"
"""Checkpoint of the best epoch's model variables."""

HISTORY_FILE = "history.json"
"""List of one dict per epoch: losses, and validation figures where the epoch was validated."""

REPORT = "report.json"
"""What `tfdnc.evaluation.report.evaluate` returns."""

RUN_CONFIG = "config.yaml"
"""In the run's folder: the resolved config, defaults included."""

# train -> whoever watches it ---------------------------------------------------------------------------------------

EPOCH_LOG = "epochs.jsonl"
"""In the unfinished folder: one JSON object per finished epoch, with its losses and `cpu_seconds`."""

# export -> serving ------------------------------------------------------------------------------------------------

BUNDLE_FORMAT = 1
"""Version of the bundle layout below; a server refuses a bundle whose format it does not know."""

MANIFEST_ASSET = "assets.extra/manifest.json"
"""Inside a bundle version: config, data hash, metrics, library versions, `bundle_format`, index kind per cluster."""

WARMUP_ASSET = "assets.extra/tf_serving_warmup_requests"
"""Inside a bundle version, a TFRecord file of `PredictionLog`, where TF Serving looks for the requests to replay."""

ITEM_IDS_ASSET = "assets/item_ids.txt"
"""Inside a bundle version, its item ids, one on each line."""

MODEL_NAME = "tfdnc"
"""Name under which a bundle is served unless told otherwise."""

HISTORY = "history"  # string [B, L] raw item ids, oldest first, "" pads anywhere; unknown ids are ignored
HISTORY_TIMES = "history_times"  # int64 [B, L] when each event of history was, from 0 up, in the log's own unit
REQUEST_TIME = "request_time"  # int64 [B] when the request is made, likewise
# Only bundles of models that read times have these two. Columns of times that history lacks are ignored, columns that
# times lack are unknown: TF Serving's batching pads the two independently of each other.
UNKNOWN_TIME = -1  # what says so, of a time and of the time between two; no time that is known may be below 0
NUM_CANDIDATES = "num_candidates"  # int32 [B], 1..max_candidates
ALPHA = "alpha"  # float32 [B]; >= 0 asks for quota(alpha), < 0 for the merge the bundle was exported with
# To `retrieve_joint`, >= 0 asks for joint(alpha).
JOINT_ALPHA = "joint_alpha"  # float32 [B]; >= 0 asks for joint(alpha), < 0 does not. Not beside an alpha or quotas
EXCLUDE = "exclude"  # string [B, E] raw item ids that must not come back, "" pads anywhere; unknown ids are ignored
CLUSTER_QUOTAS = "cluster_quotas"  # float32 [B, K or 1] weights to share the list by, any scale
CLUSTER_MIN = "cluster_min"  # int32 [B, K or 1] least results of a cluster, if it has as many; below 0: no bound
CLUSTER_MAX = "cluster_max"  # int32 [B, K or 1] most results of a cluster; below 0: no bound
# A row of zeros says nothing. One column of zeros stands for K of them; no column does too, but cannot be batched.
CLUSTER_NAMES = "cluster_names"  # string [B, K] every row the same: what a client may call the clusters
USER_EMBEDDINGS = "user_embeddings"  # float32 [B, V, D]
INTENT = "intent"  # float32 [B, K] probabilities

ITEM_IDS = "item_ids"  # string [B, M_max], best first, "" beyond num_results
SCORES = "scores"  # float32 [B, M_max] merge keys, never increasing, SCORE_PAD beyond num_results; always finite
CLUSTER_IDS = "cluster_ids"  # int32 [B, M_max], -1 beyond num_results
NUM_RESULTS = "num_results"  # int32 [B], num_candidates unless fewer unseen items exist
QUOTAS = "quotas"  # int32 [B, K] how many of the results came from each cluster

SCORE_PAD = -1e30
"""Score beyond `num_results`: finite, because REST answers are JSON."""

MAX_ROWS = 1024
"""Most users in one request: a few bytes can ask for millions of cold starts, and memory grows with each."""

SIGNATURES = {
    "serving_default": ((HISTORY,), (ITEM_IDS, SCORES, CLUSTER_IDS, NUM_RESULTS, QUOTAS, INTENT)),
    "retrieve": (
        (HISTORY, NUM_CANDIDATES, ALPHA),
        (ITEM_IDS, SCORES, CLUSTER_IDS, NUM_RESULTS, QUOTAS, INTENT),
    ),
    "retrieve_joint": (
        (HISTORY, NUM_CANDIDATES, ALPHA),
        (ITEM_IDS, SCORES, CLUSTER_IDS, NUM_RESULTS, QUOTAS, INTENT),
    ),
    "retrieve_controlled": (
        (HISTORY, NUM_CANDIDATES, ALPHA, EXCLUDE, CLUSTER_QUOTAS, CLUSTER_MIN, CLUSTER_MAX, JOINT_ALPHA),
        (ITEM_IDS, SCORES, CLUSTER_IDS, NUM_RESULTS, QUOTAS, INTENT),
    ),
    "encode": ((HISTORY,), (USER_EMBEDDINGS, INTENT)),
    "search": (
        # history: only to leave out what was seen
        (USER_EMBEDDINGS, INTENT, HISTORY, NUM_CANDIDATES, ALPHA, JOINT_ALPHA),
        (ITEM_IDS, SCORES, CLUSTER_IDS, NUM_RESULTS, QUOTAS),
    ),
    "describe": ((HISTORY,), (CLUSTER_NAMES,)),  # history: only to say how many rows, because inputs are batch-major
}
"""Signature -> (inputs, outputs); every tensor is batch-major, because TF Serving batches only those."""


def signature_inputs(signature: str, times: bool) -> tuple[str, ...]:
    """Names of the inputs of a signature; with `times`, those of a model that reads times."""
    inputs, outputs = SIGNATURES[signature]
    encodes = INTENT in outputs
    return (*inputs, HISTORY_TIMES, REQUEST_TIME) if times and encodes else inputs
