"""Checkpoint of a training: the tower's variables and a table of its items.

With the table another run can read the weights by item id; its items may have other indices and other clusters.
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfdnc.backend import tf
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature, is_of_log, model_features
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.model_config import ModelConfig
from tfdnc.contracts.schema import (
    CHECKPOINT_CLUSTERS,
    CHECKPOINT_CONTENT,
    CHECKPOINT_FEATURES,
    CHECKPOINT_ITEM_SCHEMA,
    CHECKPOINT_ITEMS,
    CHECKPOINT_ROWS,
    CHECKPOINT_TRAINED,
    CHECKPOINT_VALUES,
    WEIGHTS,
)
from tfdnc.contracts.tensorflow_paths import tensorflow_path
from tfdnc.model.item_tower import FeaturedItems, FeatureMatrix, features_of
from tfdnc.model.retriever import Retriever
from tfdnc.model.tower import Tower
from tfdnc.training.optimizers import Moments, RowwiseAdam
from tfdnc.training.served_intent import LEARNED, read_served_intent

_PREFIX, _SUFFIX = "tower/", "/.ATTRIBUTES/VARIABLE_VALUE"  # of a variable's key in the file
_OPTIMIZER = "optimizer/_variables/"  # the iteration, then two moments of every trained variable, or one per table
_STEP = "optimizer/_iterations"
EMBEDDINGS, FEATURE_ROWS, USERS = "items/embeddings", "items/feature_rows", "encoder/users"
"""Names of the variables that have a row per item, per feature of items, and per user of the log."""

# Errors of TensorFlow for a file that is missing, damaged or of another kind.
_DAMAGE = (tf.errors.OpError, IndexError, ValueError, AssertionError)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Weights of a finished train station, in NumPy; row i of arrays with N rows is item `item_ids[i]`.

    Attributes:
        item_ids: `[N]` ids of the log.
        clusters: `[N]` int32 cluster of each item.
        cluster_names: `[K]`.
        counts: `[N]` int64 training events; the embedding of an item with 0 was not trained where there are features.
        embeddings: `[N, D]` float32, without the share of the features.
        features: features of each item; None for a model without.
        feature_rows: `[F, D]` float32, one row per name of `features`; None for a model without.
        variables: all other variables by name, such as `encoder/task_embeddings`.
        content_share: `[N, D]` float32, the share of content vectors in the item vectors; None for a model without.
        values: values of each input of kind `value`, by its name.
    """

    item_ids: list[str]
    clusters: np.ndarray
    cluster_names: list[str]
    counts: np.ndarray
    embeddings: np.ndarray
    features: FeatureMatrix | None
    feature_rows: np.ndarray | None
    variables: dict[str, np.ndarray]
    content_share: np.ndarray | None = None
    values: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def rows(self, item_ids: Sequence[str]) -> np.ndarray:
        """Returns the rows of these items, -1 for unknown ones: int64 of the same length."""
        return np.array([self._row_of.get(item, -1) for item in item_ids], np.int64)

    @functools.cached_property
    def _row_of(self) -> dict[str, int]:
        return {item: row for row, item in enumerate(self.item_ids)}

    @functools.cached_property
    def feature_share(self) -> np.ndarray:
        """The share of the features in the item vectors, `[N, D]` float32; 0 for a model without."""
        if self.features is None:
            return np.zeros_like(self.embeddings)
        content = np.zeros_like(self.embeddings) if self.content_share is None else self.content_share
        if not self.features.names:
            return content
        return tf.sparse.sparse_dense_matmul(self.features.tensor(), self.feature_rows).numpy() + content

    @property
    def item_vectors(self) -> np.ndarray:
        """Item vectors `[N, D]` as they are served: embeddings plus features; of untrained items the features alone."""
        if self.features is None:
            return self.embeddings
        return self.embeddings * (self.counts > 0)[:, None].astype(np.float32) + self.feature_share


def write_checkpoint(folder: Path, model: Retriever, items: ItemTable) -> None:
    """Writes the weights of a compiled model, the state of its optimiser, and the table of its items.

    With several workers every worker has to call it.

    Args:
        folder: of the train station.
        model: the model.
        items: the item table that it is trained on.
    """
    features = model.tower.items.features if isinstance(model.tower.items, FeaturedItems) else None
    values = {feature.name: feature.values for feature in model.tower.inputs.features if is_of_log(feature)}
    table = pa.table(
        [items.item_ids, items.clusters, items.counts, features.lists() if features else [None] * len(items.item_ids)],
        schema=CHECKPOINT_ITEM_SCHEMA.with_metadata(
            {
                CHECKPOINT_CLUSTERS: json.dumps(items.cluster_names),
                CHECKPOINT_FEATURES: json.dumps(features.names if features else None),
                **({CHECKPOINT_VALUES: json.dumps(values)} if values else {}),
            }
            | _trained_metadata(model)
        ),
    )
    pq.write_table(table, folder / CHECKPOINT_ITEMS)
    if isinstance(model.tower.items, FeaturedItems) and model.tower.items.content:
        np.save(folder / CHECKPOINT_CONTENT, model.tower.items.content_share().numpy())
    # Both are written after the same epoch, so that another run can continue from it.
    checkpoint = tf.train.Checkpoint(tower=model.tower, optimizer=model.optimizer)
    checkpoint.write(tensorflow_path(folder / WEIGHTS))


def read_checkpoint(folder: str | PathLike[str]) -> Checkpoint:
    """Reads the checkpoint of a train station, without its config.

    Raises:
        UserError: the checkpoint is missing, damaged, or of an earlier version.
    """
    folder = Path(folder)
    try:
        table = pq.read_table(folder / CHECKPOINT_ITEMS, schema=CHECKPOINT_ITEM_SCHEMA)
        metadata = pq.read_schema(folder / CHECKPOINT_ITEMS).metadata
        cluster_names, names = (json.loads(metadata[key]) for key in (CHECKPOINT_CLUSTERS, CHECKPOINT_FEATURES))
        values = json.loads(metadata.get(CHECKPOINT_VALUES, b"{}"))
        variables = _read_variables(folder)
        embeddings, rows = variables.pop(EMBEDDINGS), variables.pop(FEATURE_ROWS, None)
        counts = (len(embeddings), None if rows is None else len(rows))
        if counts != (expected := (table.num_rows, None if names is None else len(names))):
            raise ValueError(f"weights of {counts} items and features, a table of {expected}")
        with_content = (folder / CHECKPOINT_CONTENT).exists()
        content = np.load(folder / CHECKPOINT_CONTENT, allow_pickle=False) if with_content else None
        if content is not None and content.shape != embeddings.shape:
            raise ValueError(f"embeddings {embeddings.shape}, content of {content.shape}")
    except (*_DAMAGE, OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise _unreadable(folder, error) from error
    return Checkpoint(
        item_ids=table["item_id"].to_pylist(),
        clusters=table["cluster"].to_numpy(),
        cluster_names=cluster_names,
        counts=table["count"].to_numpy(),
        embeddings=embeddings,
        features=None if names is None else FeatureMatrix.of(table["features"].to_pylist(), names),
        feature_rows=rows,
        variables=variables,
        content_share=content,
        values=values,
    )


def load_trained(config: ExperimentConfig, items: ItemTable, folder: Path) -> Tower:
    """Returns the tower with the best weights of a finished train station, its item vectors plain embeddings.

    Raises:
        UserError: as `load_tower`.
    """
    return load_tower(config, items, folder).served()


def _with_trained_intent(config: ModelConfig, folder: Path) -> ModelConfig:
    """Returns the config with the intent model that was trained, where the config lets `auto` decide.

    Another version may decide otherwise, and the weights of a finished run stay readable.
    """
    if config.intent != "auto":
        return config
    try:
        names = [name for name, _ in tf.train.list_variables(tensorflow_path(folder / WEIGHTS))]
    except _DAMAGE:
        return config  # `load_tower` reads the file next, and says what is wrong with it
    if not any(name.startswith("tower/intent/") for name in names):
        return config  # one cluster, or an intent without weights
    is_head = any(name.startswith("tower/intent/_inner/") for name in names)
    return config.model_copy(update={"intent": "head" if is_head else "partition"})


def load_tower(config: ExperimentConfig, items: ItemTable, folder: Path) -> Tower:
    """Returns the tower with the best weights of a finished train station, features of items apart.

    Its intent is the one that the training chose to serve. Matrix products run in float32 also after a training in
    bfloat16, so evaluation and serving agree on every machine.

    Raises:
        UserError: the weights or that choice are damaged, or the weights belong to another model.
    """
    settings = config.train.model_copy(update={"precision": "float32"})
    features = features_of(items) if config.model.item_features else None
    tower = Tower.make(
        *(_with_trained_intent(config.model, folder), settings, items.offsets, config.seed, items.counts),
        features=features,
        inputs=_with_values(model_features(config), folder),
    )
    read_weights(tower, folder)
    choice = read_served_intent(folder)
    return tower if choice is None or choice.served == LEARNED else tower.with_intent(choice.served)


def read_weights(tower: Tower, folder: Path) -> None:
    """Gives a tower the best weights of a train station.

    Raises:
        UserError: the weights are damaged, or belong to another model.
    """
    try:
        status = tf.train.Checkpoint(tower=tower).read(tensorflow_path(folder / WEIGHTS)).expect_partial()
        status.assert_existing_objects_matched()
    except _DAMAGE as error:
        raise UserError(f"Expected whole weights of this model at {folder / WEIGHTS}; train again: {error}") from error


def _with_values(features: Sequence[Feature], folder: Path) -> list[Feature]:
    """Returns the inputs of a trained model, categories of the log with the values that its checkpoint names."""
    known: dict[str, list[str]] = {}
    if any(map(is_of_log, features)):
        try:
            known = json.loads(pq.read_schema(folder / CHECKPOINT_ITEMS).metadata[CHECKPOINT_VALUES])
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise _unreadable(folder, error) from error
    return [feature.with_values(known) for feature in features]


def named_variables(tower: Tower) -> dict[str, tf.Variable]:
    """Returns the variables of a tower by the names that they have in its checkpoint."""
    view, found, seen, waiting = tf.train.TrackableView(tower), {}, set(), [(tower, "")]
    for node, name in waiting:  # grows: breadth first, as TensorFlow names what is reached in several ways
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, tf.Variable):
            found[name] = node
        else:
            waiting += [(child, f"{name}/{key.lstrip('_')}".lstrip("/")) for key, child in view.children(node).items()]
    return found


def row_tables(tower: Tower) -> list[tf.Variable]:
    """Returns the variables with a row per item, feature of items, or user: those of which a step reads few rows."""
    variables = named_variables(tower)
    return [variables[name] for name in (EMBEDDINGS, FEATURE_ROWS, USERS) if name in variables]


def optimizer_moments(model: Retriever) -> dict[str, list[tf.Variable]]:
    """Returns what the optimiser remembers, by the name of the variable that it is of.

    That is two moments of Adam, or one number per row of a table of `RowwiseAdam`. The order is that of its `build`:
    the step number, both moments of every other variable, then those of tables.
    """
    others, tables = _trained_names(model)
    held = iter(list(model.optimizer.variables)[1:])
    moments = [(name, [next(held), next(held)]) for name in others] + [(name, [next(held)]) for name in tables]
    return {name: own for name, own in moments if name is not None}


def _trained_names(model: Retriever) -> tuple[list[str | None], list[str | None]]:
    """Names of the variables that training changes: those with both moments of Adam, and those with a number per row.

    A name is null outside of the tower, as in a plug-in's loss.
    """
    names = {variable.ref(): name for name, variable in named_variables(model.tower).items()}
    trained, optimizer = list(model.trainable_variables), model.optimizer
    others, tables = optimizer.split(trained) if isinstance(optimizer, RowwiseAdam) else (trained, [])
    return [names.get(variable.ref()) for variable in others], [names.get(variable.ref()) for variable in tables]


def _trained_metadata(model: Retriever) -> dict[bytes, str]:
    """Returns the names by which numbers of the optimiser in a checkpoint belong to its variables."""
    others, tables = _trained_names(model)
    metadata = {CHECKPOINT_TRAINED: json.dumps([*others, *tables])}
    if tables:
        metadata[CHECKPOINT_ROWS] = json.dumps({"number": len(tables), "beta_2": model.optimizer.beta_2})
    return metadata


def read_moments(folder: Path) -> dict[str, Moments]:
    """Reads what the optimiser of a train station, Adam or `RowwiseAdam`, remembers.

    Returns:
        Moments by the name of their variable, as of `named_variables`; nothing where the checkpoint does not say
        whose they are, because an earlier version or another optimiser wrote it.

    Raises:
        UserError: the checkpoint is missing or damaged.
    """
    try:
        metadata = pq.read_schema(folder / CHECKPOINT_ITEMS).metadata
        reader = tf.train.load_checkpoint(tensorflow_path(folder / WEIGHTS))
        names = json.loads(metadata.get(CHECKPOINT_TRAINED, b"[]"))
        by_row = json.loads(metadata.get(CHECKPOINT_ROWS, b'{"number": 0, "beta_2": null}'))
        others = len(names) - by_row["number"]
        held = sum(key.startswith(_OPTIMIZER) for key in reader.get_variable_to_shape_map())
        if held != len(names) + others:
            return {}
        values = [reader.get_tensor(f"{_OPTIMIZER}{1 + number}{_SUFFIX}") for number in range(held)]
        step = float(reader.get_tensor(f"{_STEP}{_SUFFIX}"))
        moments = [Moments(*pair) for pair in zip(values[: 2 * others : 2], values[1 : 2 * others : 2], strict=True)]
        moments += [Moments.of_rows(rows, step, by_row["beta_2"]) for rows in values[2 * others :]]
        return {name: own for name, own in zip(names, moments, strict=True) if name is not None}
    except (*_DAMAGE, OSError, pa.ArrowException, KeyError) as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"Expected weights and their items, {WEIGHTS} and {CHECKPOINT_ITEMS}, in {folder}, could not read them: "
        f"{error}. Train again."
    )


def _read_variables(folder: Path) -> dict[str, np.ndarray]:
    """Values of the tower's variables by name; names omit the leading underscore of private attributes."""
    reader = tf.train.load_checkpoint(tensorflow_path(folder / WEIGHTS))
    keys = [key for key in reader.get_variable_to_shape_map() if key.startswith(_PREFIX) and key.endswith(_SUFFIX)]
    return {_name(key): reader.get_tensor(key) for key in sorted(keys)}


def _name(key: str) -> str:
    parts = key.removeprefix(_PREFIX).removesuffix(_SUFFIX).split("/")
    return "/".join(part.lstrip("_") for part in parts)
