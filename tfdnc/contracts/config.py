"""The experiment config: typed sections read from YAML; unknown keys are refused, dotted overrides are applied."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from tfdnc.contracts.attributes import AttributeKind
from tfdnc.contracts.bundle import MAX_ROWS
from tfdnc.contracts.conditions import CLUSTER, COLUMN_NAME, checked
from tfdnc.contracts.config_errors import explain
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.list_limits import ListLimits, check_limits, of_columns
from tfdnc.contracts.model_config import ModelConfig, TrainConfig
from tfdnc.contracts.overrides import apply_overrides
from tfdnc.contracts.plugins import PluginName, locate
from tfdnc.contracts.schema import ITEMS
from tfdnc.contracts.section import NO_OPTIONS, Alpha, Exponent, Finite, Options, Positive, Section, Share, Sizes
from tfdnc.contracts.station_names import StationName
from tfdnc.contracts.yaml_reader import read_yaml

Rows = Annotated[int, Field(ge=1, le=MAX_ROWS)]

AttributeName = Annotated[str, Field(pattern=COLUMN_NAME, max_length=64)]
"""Name of a column of the item file, by which conditions call it."""


class GenerateConfig(Section):
    """A generated log with planted tastes; when present, the run starts with the `generate` station."""

    users: Positive = 2000
    items: Positive = 1000
    groups: Positive = 8
    interests_per_user: Positive = 3
    mean_events: Positive = 40
    popularity_exponent: Exponent = 0.9  # Zipf exponent of item popularity inside a group
    repeats: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the events that return to an earlier item of the user


class ClusterConfig(Section):
    """Assignment of items to clusters; `method` names an entry of the clusterer registry."""

    method: str = "word2vec_kmeans"
    # K; auto: by the number of items with training events (docs/training.md). single, category and previous do not
    # read it.
    num_clusters: Positive | Literal["auto"] = "auto"
    max_share: Share = 0.5  # of the items, or of the events, in one cluster; for few clusters at least 1.5 / K
    min_category_items: Positive = 20  # category: smaller categories are merged into one "other" cluster
    dim: Positive = 64
    window: Positive = 5
    epochs: Positive | None = None  # null: 10, or as many as train 500 words per item
    max_words: Positive = 50_000_000  # where training would take more: fewer epochs, then fewer users
    negative: Positive = 5
    sample: Finite = 1e-4  # down-sample items above this share of the events, and above 1 / N
    workers: Positive = 1  # gensim is deterministic with one worker only
    rounds: Positive = 3  # spectral_kmeans: passes over the log
    previous: Path | None = None  # previous: items.parquet of another run; its items keep their clusters
    options: Options = NO_OPTIONS  # of a plug-in's clusterer

    @property
    def reads_num_clusters(self) -> bool:
        """True for a method that makes as many clusters as it is asked for; the others have a number of their own."""
        return self.method not in ("single", "category", "previous")

    @model_validator(mode="after")
    def _previous_is_named_where_it_is_read(self) -> "ClusterConfig":
        if (self.method == "previous") != (self.previous is not None):
            raise ValueError("expected `previous` to name an item table with method previous, and only there")
        return self


class ExamplesConfig(Section):
    """Negatives that a positive competes with; `sampler` names an entry of the negative-sampler registry."""

    sampler: str = "in_cluster"
    num_negatives: Positive = 1
    negative_sets: Annotated[int, Field(ge=0)] | None = None  # in the records; null: as many as the training reads
    ratio: Share = 0.3  # mixed: share of in-cluster negatives
    popularity_exponent: Exponent = 0.0  # draw an item with probability ~ count ** exponent; 0 is uniform, Eq. 3
    options: Options = NO_OPTIONS  # of a plug-in's sampler

    @property
    def recorded_negatives(self) -> int:
        """Negatives of one item in the records, of all sets together; one set where `negative_sets` is open."""
        return self.num_negatives * (1 if self.negative_sets is None else self.negative_sets)


class MergeConfig(Section):
    """Merge of K lists into one; `method` names an entry of the merge registry."""

    method: str = "joint"
    alpha: Alpha = 1.0  # exponent of p(cluster), in quotas and in the joint key
    top_clusters: Positive = 3  # top_clusters: how many clusters share the list equally
    diversity: Finite = 0.0  # score: lambda, subtracted for every earlier result of the cluster
    options: Options = NO_OPTIONS  # of a plug-in's merge


class EvaluateConfig(Section):
    """Figures of the report."""

    candidates: Sizes = (10, 20, 50, 100)
    within_cluster: Sizes = (5, 20, 50)
    alphas: tuple[Alpha, ...] = (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 2.5, 3, 4)  # of quotas
    joint_alphas: tuple[Alpha, ...] = (0, 0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.5)  # of the joint merge, where configured
    floors: Sizes = (1, 2, 3, 4)  # least results of every cluster, of lists of `floor_length` by the configured merge
    judge: ClusterConfig | None = None  # clusters in which to measure the lists of a method with one cluster
    where: tuple[str, ...] = ()  # conditions on `export.attributes`, such as price<=20, of lists that are measured too
    minimum: ListLimits = Field(default={})  # least results of clusters and of values, of these lists
    maximum: ListLimits = Field(default={})  # most results, likewise

    @property
    def floor_length(self) -> int:
        """M of the lists with floors: 50, or the longest length if 50 is not among the lengths."""
        return 50 if 50 in self.candidates else max(self.candidates)

    @property
    def has_rule(self) -> bool:
        """True if lists under a rule are measured beside the others."""
        return bool(self.where or self.minimum or self.maximum)

    @property
    def reads_attributes(self) -> bool:
        """True if that rule may read attributes of the items."""
        return bool(self.where or of_columns(self.minimum) or of_columns(self.maximum))

    @model_validator(mode="after")
    def _rule_can_be_read(self) -> "EvaluateConfig":
        checked(self.where)
        check_limits(self.minimum, self.maximum, self.candidates)
        return self


class ExportConfig(Section):
    """The serving bundle; `index` names an entry of the index registry."""

    index: str = "auto"
    num_candidates: Positive = 100  # results of `serving_default`
    max_candidates: Positive = 500  # most results of `retrieve`
    recall: Annotated[float, Field(gt=0, lt=1)] = 0.98  # scann, auto: least recall of each cluster's best items
    warmup_batch_sizes: Annotated[tuple[Rows, ...], Field(min_length=1)] = (1, 8)
    attributes: dict[AttributeName, AttributeKind] = Field(default={})  # columns of the item file, to filter by

    @model_validator(mode="after")
    def _clusters_have_a_name_of_their_own(self) -> "ExportConfig":
        if CLUSTER in self.attributes:
            raise ValueError(f"expected another name than {CLUSTER} in attributes, by which conditions name clusters")
        return self

    @model_validator(mode="after")
    def _default_fits(self) -> "ExportConfig":
        if self.num_candidates > self.max_candidates:
            raise ValueError(
                f"expected num_candidates of at most max_candidates, not {self.num_candidates} > {self.max_candidates}"
            )
        return self


class ExperimentConfig(Section):
    """One experiment: all settings on which its result depends."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)]  # also the name of the run's folder
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1  # TensorFlow keys dropout with int32
    # Modules with further encoders, losses, ..., beside this file or on the Python path (docs/python.md).
    plugins: tuple[PluginName, ...] = ()
    generate: GenerateConfig | None = None
    data: DataConfig = DataConfig()
    cluster: ClusterConfig = ClusterConfig()
    examples: ExamplesConfig = ExamplesConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    merge: MergeConfig = MergeConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()

    @model_validator(mode="before")
    @classmethod
    def _initial_run_decides_the_clusters(cls, values: object) -> object:
        return _with_initial_clusters(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _times_are_there(self) -> "ExperimentConfig":
        reads_times = {"times": self.model.times, "popular_days": self.model.popular_days is not None}
        for key in (key for key, reads in reads_times.items() if reads and not self.data.has_times):
            raise ValueError(
                f"expected data.columns.time to name a column with model.{key}, got null: there are no times"
            )
        return self

    @model_validator(mode="after")
    def _inputs_are_declared(self) -> "ExperimentConfig":
        declared = [*self.data.events, *self.data.context, *self.data.user_features]
        declared += ["exposures"] if self.data.exposures else []
        if self.train.reads_exposures and not self.data.exposures:
            raise ValueError(f"expected data.exposures with train.loss {self.train.loss}, which reads them, got none")
        for name in self.model.inputs:
            if name == "exposures" and name not in declared:
                raise ValueError(
                    "expected data.exposures with exposures in model.inputs, got none: name the column and the values "
                    "of rows that were shown and passed over, such as `exposures: {action: [impression]}`"
                )
            if name not in declared:
                raise ValueError(
                    "expected model.inputs to name keys of data.events, data.context or data.users.features, got "
                    f"{name}; these declare {', '.join(declared) or 'nothing'}. Add {name} to one of them, such as "
                    f"`{name}: number`, or take it out of model.inputs"
                )
        if self.model.user_token and not {*self.model.inputs} & {*self.data.user_features}:
            raise ValueError("expected model.inputs to name features of data.users with model.user_token, got none")
        return self

    @property
    def served_intent(self) -> Literal["auto", "learned", "history", "prior"]:
        """`train.served_intent`, with learned in place of an `auto` that leaves nothing to choose."""
        has_one_cluster = self.cluster.method == "single" or self.cluster.num_clusters == 1
        is_open = self.model.intent == "auto" and self.train.intent_weight > 0 and not has_one_cluster
        return self.train.served_intent if self.train.served_intent != "auto" or is_open else "learned"

    @model_validator(mode="after")
    def _served_intent_replaces_a_learned_one(self) -> "ExperimentConfig":
        named = self.train.served_intent
        if named in ("history", "prior") and (self.train.intent_weight == 0 or self.model.intent == "history"):
            key = "train.intent_weight: 0" if self.train.intent_weight == 0 else "model.intent: history"
            raise ValueError(f"expected train.served_intent {named} only in place of a learned intent, not with {key}")
        return self

    @model_validator(mode="after")
    def _negatives_that_are_read_are_recorded(self) -> "ExperimentConfig":
        if self.examples.negative_sets == 0 < self.train.negative_sets:
            source = self.train.negatives
            raise ValueError(f"expected examples.negative_sets of 1 or more, train.negatives {source} reads them")
        return self

    @model_validator(mode="after")
    def _item_features_are_named(self) -> "ExperimentConfig":
        brought = self.generate is not None or self.data.format in ("movielens", "kuairand")
        named = self.data.items.features if self.data.items is not None else brought
        if self.model.item_features and not named:
            raise ValueError("expected columns in data.items.features for model.item_features")
        return self

    @model_validator(mode="after")
    def _attributes_have_an_item_file(self) -> "ExperimentConfig":
        brought = self.generate is not None or self.data.format in ("movielens", "kuairand")
        if self.export.attributes and self.data.items is None and not brought:
            raise ValueError("expected an item file in data.items with export.attributes, which are its columns")
        if self.evaluate.reads_attributes and not self.export.attributes:
            raise ValueError(
                "expected columns in export.attributes with evaluate.where, minimum or maximum, which read them"
            )
        return self


def _with_initial_clusters(values: dict) -> dict:
    """Returns `values` of a config with the clusters of the run `train.initial`, unless they ask for others.

    Weights of a cluster fit the cluster of the same number only.
    """
    train, cluster = values.get("train"), values.get("cluster") or {}
    initial = train.get("initial") if isinstance(train, dict) else None
    if not isinstance(initial, str | Path) or not isinstance(cluster, dict):  # a wrong type is refused as such
        return values
    if cluster.get("method", "previous") != "previous" or cluster.get("previous") is not None:
        return values
    table = Path(initial) / StationName.CLUSTER.folder / ITEMS
    return values | {"cluster": cluster | {"method": "previous", "previous": str(table)}}


def load_config(path: str | Path, set: Sequence[str] = ()) -> ExperimentConfig:
    """Reads a YAML config and applies overrides.

    A config may start with `extends: FILE`, relative to itself, and then holds only the keys that differ.

    Args:
        path: of the file.
        set: overrides `section.key=value`, the value in YAML.

    Raises:
        UserError: the file is missing or not YAML, a key is given twice, here, in a file it extends or by two
            overrides, a key is unknown (the known ones are listed), a value has the wrong type.
    """
    if isinstance(set, str):
        raise UserError(f"Expected a list of overrides, such as ['train.epochs=2'], got the text {set!r}.")
    path = Path(path)
    values = apply_overrides(_read(path), set)
    return parse_config(_with_plugin_folders(values, path.parent), source=str(path))


def _with_plugin_folders(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`values` of a config in this folder, with the folders of the plug-ins beside it."""
    return values | {"plugins": locate(values["plugins"], folder)} if "plugins" in values else values


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The values of a file, over those of the file that it `extends`; `above` are the files that extend it."""
    if not path.is_file():
        raise UserError(f"Expected a YAML config at {path}, found no file there.")
    try:
        values = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"Expected YAML in UTF-8 in {path}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"Expected sections and keys in {path}, found {type(values).__name__}.")
    values = _with_plugin_folders(values, path.parent)
    base = values.pop("extends", None)
    if base is None:
        return values
    above = (*above, path.resolve())
    if not isinstance(base, str) or (path.parent / base).resolve() in above:
        raise UserError(f"{path}: expected `extends` to name another config, relative to this one, got {base!r}.")
    return _overlay(_read(path.parent / base, above), values)


def _overlay(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`values` over `base`, section by section; a list replaces a list."""
    nested = {key: _overlay(base[key], value) for key, value in values.items() if _both_sections(base.get(key), value)}
    return base | values | nested


def _both_sections(one: object, other: object) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def parse_config(values: dict[str, Any], source: str = "config") -> ExperimentConfig:
    """Returns the typed config of plain nested `values`, or raises a `UserError` naming every wrong key."""
    try:
        config = ExperimentConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: {'; '.join(explain(error.errors(), ExperimentConfig))}") from error
    if config.examples.negative_sets is not None:
        return config
    examples = config.examples.model_copy(update={"negative_sets": config.train.negative_sets})
    return config.model_copy(update={"examples": examples})


def dump_config(config: ExperimentConfig) -> str:
    """Returns the resolved config, defaults included, as YAML that `load_config` reads back.

    A value that follows from other keys stays open, unless the config sets it: an override of those keys still counts.
    """
    values = config.model_dump(mode="json")
    if config.examples.negative_sets == config.train.negative_sets:
        values["examples"]["negative_sets"] = None
    return yaml.safe_dump(values, sort_keys=False)
