"""Bundles: names of their files, and their signatures, with one declaration per tensor and per signature.

Letters of shapes: B rows of a request, one per user, L columns of the histories, X items that were passed over after an
event, E items to leave out, C conditions, A items that are allowed, U bounds, K clusters, V user vectors, D embedding
size, M the most results, Q conditions that are known.
Every tensor is batch-major, because TF Serving batches only those.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import numpy as np

from tfdnc.contracts.schema import UNKNOWN_TIME

BUNDLE_FORMAT = 1
"""Version of the bundle layout below; a server refuses a bundle of an unknown format."""

MANIFEST_ASSET = "assets.extra/manifest.json"
"""Inside a bundle version: config, data hash, metrics, library versions, `bundle_format`, index kind per cluster."""

WARMUP_ASSET = "assets.extra/tf_serving_warmup_requests"
"""Inside a bundle version, a TFRecord file of `PredictionLog`, from which TF Serving replays requests."""

ITEM_IDS_ASSET = "assets/item_ids.txt"
"""Inside a bundle version, its item ids, one on each line."""

MODEL_NAME = "tfdnc"
"""Default name of a served bundle."""

MAX_ROWS = 1024
"""Most users in one request: memory grows with each, and a few bytes could request millions of cold starts."""

SCORE_PAD = -1e30
"""Score beyond `num_results`: finite, because REST answers are JSON."""

BUNDLE_MERGE = -1.0
"""Value of `alpha` and `joint_alpha` for the merge of the exported config."""

SeenRule = Literal["exclude", "allow"]
"""Rule for items of the user's history in lists."""

SEEN_RULES: tuple[SeenRule, ...] = get_args(SeenRule)

HISTORY = "history"
HISTORY_TIMES = "history_times"
REQUEST_TIME = "request_time"
HISTORY_EXPOSURES = "history_exposures"
NUM_CANDIDATES = "num_candidates"
ALPHA = "alpha"
JOINT_ALPHA = "joint_alpha"
EXCLUDE = "exclude"
SEEN = "seen"
CLUSTER_QUOTAS = "cluster_quotas"
CLUSTER_MIN = "cluster_min"
CLUSTER_MAX = "cluster_max"
USER_EMBEDDINGS = "user_embeddings"
INTENT = "intent"
ITEM_IDS = "item_ids"
SCORES = "scores"
CLUSTER_IDS = "cluster_ids"
NUM_RESULTS = "num_results"
QUOTAS = "quotas"
CLUSTER_NAMES = "cluster_names"
WHERE = "where"
ALLOW = "allow"
BOUNDS = "bounds"
KNOWN_CONDITIONS = "known_conditions"

PER_USER = ("B",)
PER_EVENT = ("B", "L")
PER_EXPOSURE = ("B", "L", "X")
PER_CLUSTER = ("B", "K or 1")
EXCLUDED = ("B", "E")
ALLOWED = ("B", "A")
CONDITIONS = ("B", "C")
BOUNDED = ("B", "U")
"""Shapes of inputs: one value per user, per event of a history, per item passed over after an event, per cluster, per
item to leave out or to allow, per condition, or per bound."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor of a signature.

    Attributes:
        name: Of the input or output.
        dtype: TensorFlow's name of it; `string` is bytes in UTF-8.
        shape: A letter per dimension.
        neutral: Of an input: the value without effect, which pads. Of an output: the value beyond `num_results`. None:
            there is none, so a request has to send a value.
        meaning: One sentence, for the documents.
        argument: The argument of a client that the input transmits, "" for one of the same name.
        least: The least value that a request may carry, None for no bound.
        choices: Of text: the values that a request may carry beside the neutral one, () for any.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]
    neutral: str | float | None
    meaning: str
    argument: str = ""
    least: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def says(self) -> str:
        """The argument of a client that the input transmits."""
        return self.argument or self.name

    @property
    def of_events(self) -> bool:
        """True for an input with a column per event of the history."""
        return self.shape[:2] == PER_EVENT

    @property
    def numpy_dtype(self) -> np.dtype:
        """The dtype of its arrays; text is an array of objects."""
        return np.dtype(object if self.dtype == "string" else self.dtype)

    def blank(self, sizes: Mapping[str, int]) -> np.ndarray:
        """Returns an array of neutral values; a letter without a size has size 1, which has no effect either."""
        if self.neutral is None:
            raise ValueError(f"Expected a value for {self.name}, which has no neutral one.")
        return np.full([sizes.get(letter, 1) for letter in self.shape], self.neutral, self.numpy_dtype)


@dataclasses.dataclass(frozen=True)
class Signature:
    """Inputs in the order in which a graph takes them, and outputs."""

    inputs: tuple[Row, ...]
    outputs: tuple[Row, ...]

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(row.name for row in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(row.name for row in self.outputs)

    @property
    def encodes(self) -> bool:
        """True if the model reads the history; then the signature has the other inputs of the model too."""
        return INTENT in self.output_names


_HISTORY = Row(
    HISTORY,
    "string",
    PER_EVENT,
    "",
    "Raw item ids, oldest first; unknown ids are ignored. `search` only leaves these items out, under any rule of "
    "`seen`; `describe` only counts the rows.",
)
_NUM_CANDIDATES = Row(NUM_CANDIDATES, "int32", PER_USER, None, "Results wanted, 1 to `export.max_candidates`.", least=1)
_ALPHA = Row(
    ALPHA,
    "float32",
    PER_USER,
    BUNDLE_MERGE,
    "Exponent of the quota merge from 0 up; negative: the merge that the bundle was exported with. `retrieve_joint` "
    "reads it as `joint_alpha`.",
)
_JOINT_ALPHA = Row(
    JOINT_ALPHA,
    "float32",
    PER_USER,
    BUNDLE_MERGE,
    "Exponent of p(cluster) in the joint merge from 0 up; negative: another merge.",
)
_EXCLUDE = Row(
    EXCLUDE, "string", EXCLUDED, "", "Raw ids of items that must not come back; they say nothing about the user."
)
_SEEN = Row(
    SEEN,
    "string",
    PER_USER,
    "",
    'Items of the history in the list: "exclude" or "allow"; "": the rule that the bundle was exported with.',
    choices=SEEN_RULES,
)
_CLUSTER_QUOTAS = Row(
    CLUSTER_QUOTAS,
    "float32",
    PER_CLUSTER,
    0,
    "Weights from 0 up, of any scale, by which clusters share the list.",
    least=0,
)
_CLUSTER_MIN = Row(
    CLUSTER_MIN, "int32", PER_CLUSTER, 0, "Least results of a cluster, if it has as many; negative: no bound."
)
_CLUSTER_MAX = Row(CLUSTER_MAX, "int32", PER_CLUSTER, 0, "Most results of a cluster; negative: no bound.")
_WHERE = Row(
    WHERE,
    "string",
    CONDITIONS,
    "",
    "Conditions that every result meets, such as `in_stock=true`, `brand!=acme` or `price<=20`. `=` of one column are "
    "alternatives, all else must hold together; one that the bundle does not know is INVALID_ARGUMENT.",
)
_ALLOW = Row(ALLOW, "string", ALLOWED, "", "Raw ids of the only items that may come back; none: all may.")
_BOUNDS = Row(
    BOUNDS,
    "string",
    BOUNDED,
    "",
    "Bounds on the results with a value of an attribute, such as `country=local>=10`, `brand=acme<=3`, or `brand=*<=3` "
    "for each brand; bounds that no list can keep are INVALID_ARGUMENT.",
)
_USER_EMBEDDINGS = Row(USER_EMBEDDINGS, "float32", ("B", "V", "D"), None, "User vectors.")
_INTENT = Row(INTENT, "float32", ("B", "K"), None, "Probability that the next item is in the cluster.")

TIMES = (
    Row(
        HISTORY_TIMES,
        "int64",
        PER_EVENT,
        UNKNOWN_TIME,
        "Time of each event of the history, from 0 up, in the unit of the log; -1: unknown, as are columns that are "
        "missing.",
        argument="times",
    ),
    Row(REQUEST_TIME, "int64", PER_USER, UNKNOWN_TIME, "Time of the request, in the same unit; -1: unknown."),
)
"""Inputs of a model that reads times. Columns of times that a history lacks are ignored: TF Serving's batching pads
the two independently of each other."""

EXPOSURES = Row(
    HISTORY_EXPOSURES,
    "string",
    PER_EXPOSURE,
    "",
    "Raw ids of the items that were shown after each event of the history, before the next one, and passed over; empty "
    "text: none. Unknown ids are ignored.",
    argument="features['exposures']",
)
"""Input of a model that reads exposures. The two widths of history and exposures are independent of each other."""

_LIST = (
    Row(ITEM_IDS, "string", ("B", "M"), "", "Raw ids of the results, best first."),
    Row(SCORES, "float32", ("B", "M"), SCORE_PAD, "Merge keys, never increasing and always finite."),
    Row(CLUSTER_IDS, "int32", ("B", "M"), -1, "The cluster that each result came from."),
    Row(NUM_RESULTS, "int32", PER_USER, None, "Results in the row: `num_candidates`, unless fewer items are left."),
    Row(QUOTAS, "int32", ("B", "K"), None, "Results that came from each cluster."),
)
_RETRIEVED = (*_LIST, _INTENT)
_ASKED = (_HISTORY, _NUM_CANDIDATES, _ALPHA)

SIGNATURES = {
    "serving_default": Signature((_HISTORY,), _RETRIEVED),
    "retrieve": Signature(_ASKED, _RETRIEVED),
    "retrieve_joint": Signature((*_ASKED[:-1], dataclasses.replace(_ALPHA, argument=JOINT_ALPHA)), _RETRIEVED),
    "retrieve_controlled": Signature(
        (*_ASKED, _EXCLUDE, _CLUSTER_QUOTAS, _CLUSTER_MIN, _CLUSTER_MAX, _JOINT_ALPHA, _SEEN), _RETRIEVED
    ),
    "encode": Signature((_HISTORY,), (_USER_EMBEDDINGS, _INTENT)),
    "search": Signature((_USER_EMBEDDINGS, _INTENT, *_ASKED, _JOINT_ALPHA), _LIST),
    "describe": Signature(
        (_HISTORY,), (Row(CLUSTER_NAMES, "string", ("B", "K"), None, "Names of the clusters, every row the same."),)
    ),
}
"""Signature by name. A client takes the first one that makes lists from histories and has its arguments."""

RULE_SIGNATURES = {
    "retrieve_filtered": Signature((*SIGNATURES["retrieve_controlled"].inputs, _WHERE, _ALLOW), _RETRIEVED),
    "retrieve_bounded": Signature((*SIGNATURES["retrieve_controlled"].inputs, _WHERE, _ALLOW, _BOUNDS), _RETRIEVED),
    "describe_rules": Signature(
        (_HISTORY,),
        (
            Row(
                KNOWN_CONDITIONS,
                "string",
                ("B", "Q"),
                None,
                "Every condition with `=` that the bundle knows, and the least and the largest number of each column "
                "of numbers as `price>=1` and `price<=99`; every row the same.",
            ),
        ),
    ),
}
"""The same of bundles with attributes (`export.attributes`), which have these signatures too."""


def signatures_of(attributes: bool) -> dict[str, Signature]:
    """Returns the signatures of a bundle with or without attributes."""
    return {**SIGNATURES, **RULE_SIGNATURES} if attributes else dict(SIGNATURES)


def signature(name: str, features: Iterable[Row] = ()) -> Signature:
    """Returns a signature of the bundle of a model that reads `features` beside the histories, such as `TIMES`."""
    declared = signatures_of(attributes=True)[name]
    return dataclasses.replace(declared, inputs=(*declared.inputs, *features)) if declared.encodes else declared


def inputs_of(name: str, features: Iterable[Row] = ()) -> tuple[Row, ...]:
    """Returns the inputs of a signature, with those of `features` where a model reads the history."""
    return signature(name, features).inputs


def suitable(asked: Iterable[str]) -> str:
    """Returns the first signature that makes lists from histories and has every argument of `asked`.

    Raises:
        ValueError: There is none.
    """
    asked = set(asked)
    for name, declared in signatures_of(attributes=True).items():
        if declared.encodes and ITEM_IDS in declared.output_names and asked <= {row.says for row in declared.inputs}:
            return name
    raise ValueError(f"Expected arguments that one signature of a bundle carries, got {', '.join(sorted(asked))}.")


def row_of(name: str) -> Row:
    """Returns the first declaration of a tensor."""
    rows = (
        row for declared in signatures_of(attributes=True).values() for row in (*declared.inputs, *declared.outputs)
    )
    return next(row for row in (*rows, *TIMES, EXPOSURES) if row.name == name)
