"""Warm start: a training whose weights, and moments of the optimiser, start where the training of another run ended.

Items are found by their id, features of items by their name, values of inputs by their text, and all other variables
by name. Rows of clusters keep their place, so both runs must number their clusters alike. Everything up to `start_from`
is arrays alone.
"""

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.features import Feature, is_of_log
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.schema import ITEMS, RUN_CONFIG
from tfdnc.contracts.station_names import StationName
from tfdnc.contracts.yaml_reader import read_yaml
from tfdnc.model.encoders import USER_ENCODERS
from tfdnc.model.item_tower import FeaturedItems, FeatureMatrix
from tfdnc.model.retriever import Retriever
from tfdnc.training.checkpoint import (
    EMBEDDINGS,
    FEATURE_ROWS,
    USERS,
    Checkpoint,
    named_variables,
    optimizer_moments,
    read_checkpoint,
    read_moments,
)

_LEAST_SHARE = 0.9
"""Share of the items of both runs that have one cluster number in both, at least."""

_ENCODER = "encoder/"

_NO_SIZES = {"dropout", "intent", "item_features", "history_clusters", "inputs", "intent_width", "user_token"}
"""Keys of the model section that change no variable of the encoder."""

Shape = tuple[int, ...]

_log = logging.getLogger(__name__)


def refuse_other_clusters(initial: Checkpoint, items: ItemTable, run: Path) -> None:
    """Refuses an initial run whose clusters are numbered otherwise than those of this run.

    Args:
        initial: checkpoint of the initial run.
        items: item table of this run.
        run: folder of the initial run, for messages.

    Raises:
        UserError: K differs, there is no common item, or fewer than `_LEAST_SHARE` of them keep their cluster number.
    """
    rows = initial.rows(items.item_ids)
    common = rows >= 0
    if not common.any():
        raise UserError(
            f"Expected items of this run in train.initial, found none of {len(rows)} in {run}: name a run on the same "
            "items."
        )
    kept = float((initial.clusters[rows[common]] == items.clusters[common]).mean())
    if (clusters := len(initial.cluster_names)) != items.num_clusters:
        found = f"that run has {clusters} clusters, this one {items.num_clusters}"
    elif kept < _LEAST_SHARE:
        found = f"only {kept:.0%} of the {common.sum()} common items have the same cluster number in both"
    else:
        return
    raise UserError(
        f"Expected the clusters of train.initial, {run}: {found}. Set cluster.method: previous and cluster.previous: "
        f"{run / StationName.CLUSTER.folder / ITEMS}; if they are set, a cluster has no item left: train without "
        "train.initial."
    )


def item_embeddings(initial: Checkpoint, items: ItemTable, with_features: bool) -> np.ndarray:
    """Embeddings `[N, D]` float32 that the items of this run start from.

    An item that the initial run has trained keeps its own. With features that is its part without their share; if only
    one of the runs has features, an embedding holds what the item's vector lacks then.

    A new item of a model with features starts at 0: its vector is the share of its features, as it would be served
    untrained. Without features it starts at the mean of the known items of its cluster, or of all if there are none.
    Its scores are then those of an average item there. A vector near 0 would score about 0 for every user, which is
    above all items with scores below 0.

    Args:
        initial: checkpoint of the initial run.
        items: item table of this run.
        with_features: whether this run's model has item features.
    """
    rows = initial.rows(items.item_ids)
    known = rows >= 0
    if initial.features is not None:
        known &= initial.counts[rows] > 0  # the embedding of the others was never trained
    start = np.zeros((len(rows), initial.embeddings.shape[1]), np.float32)
    start[known] = (initial.embeddings if with_features else initial.item_vectors)[rows[known]]
    if with_features:
        return start
    for cluster in range(items.num_clusters):
        inside = items.clusters == cluster
        among = inside & known if (inside & known).any() else known
        if among.any():
            start[inside & ~known] = start[among].mean(axis=0)
    return start


def rows_by_name(names: Sequence[str], known: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Rows `[len(names), D]` of these names, given those `[len(known), D]` of others; zeros for a name without one."""
    row_of = {name: row for row, name in enumerate(known)}
    rows = np.array([row_of.get(name, -1) for name in names], np.int64)
    found = np.zeros((len(names), values.shape[1]), values.dtype)
    found[rows >= 0] = values[rows[rows >= 0]]
    return found


def rows_of_values(initial: Checkpoint, name: str, feature: Feature) -> np.ndarray | None:
    """Rows `[1 + V, D]` of a category's values in this run; a new value starts as the unknown one.

    Args:
        initial: checkpoint of the initial run.
        name: of the variable.
        feature: the input, with the values of this run.

    Returns:
        The rows; None if the initial run has no such variable.
    """
    if name not in initial.variables or feature.name not in initial.values:
        return None
    known, rows = initial.values[feature.name], initial.variables[name]
    start = rows_by_name(["", *feature.values], ["", *known], rows)
    start[[value not in set(known) for value in ("", *feature.values)]] = rows[0]
    return start


def fitting(initial: Mapping[str, np.ndarray], own: Mapping[str, Shape]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the variables that can be taken by name, and the names of those that start as new ones.

    Mean and scale of a number are taken too: its direction was learned with them.

    Args:
        initial: variables of the initial run, without those that have a row per item or feature.
        own: shapes of the variables of this run, likewise.

    Raises:
        ValueError: the encoders have other variables, or other shapes; it names them.
    """
    taken = {name: initial[name] for name in own if name != USERS and _shape(initial, name) == own[name]}
    encoders = {name for name in (*initial, *own) if name.startswith(_ENCODER)} - {USERS}
    if other := sorted(encoders - taken.keys()):
        raise ValueError(", ".join(f"{name} {_shape(initial, name)} -> {own.get(name)}" for name in other[:3]))
    return taken, sorted(own.keys() - taken.keys())


def weights_for(
    initial: Checkpoint,
    items: ItemTable,
    features: FeatureMatrix | None,
    own: Mapping[str, Shape],
    categories: Mapping[str, Feature] = MappingProxyType({}),
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the weights that a model starts from by name, and the names of those that start as new ones.

    Rows of features that the initial run does not have start at 0, so that they change no item's vector.

    Args:
        initial: checkpoint of the initial run.
        items: item table of this run.
        features: of this run's items; None for a model without.
        own: shapes of this run's variables by name.
        categories: inputs of kind `value` by the names of their variables.

    Raises:
        ValueError: as `fitting`.
    """
    others = {name: shape for name, shape in own.items() if name not in (EMBEDDINGS, FEATURE_ROWS, *categories)}
    if (dim := initial.embeddings.shape[1]) != own[EMBEDDINGS][1]:
        raise ValueError(f"{EMBEDDINGS} of {dim} dimensions -> {own[EMBEDDINGS][1]}")
    weights, new = fitting(initial.variables, others)
    for name, feature in categories.items():
        value_rows = rows_of_values(initial, name, feature)
        if value_rows is None:
            new.append(name)
        else:
            weights[name] = value_rows
    weights[EMBEDDINGS] = item_embeddings(initial, items, features is not None)
    if features is not None:
        rows = np.zeros((0, dim), np.float32) if initial.feature_rows is None else initial.feature_rows
        weights[FEATURE_ROWS] = rows_by_name(features.names, _names(initial.features), rows)
    return weights, new


def moments_for(
    name: str,
    moments: np.ndarray,
    initial: Checkpoint,
    items: ItemTable,
    features: FeatureMatrix | None,
    categories: Mapping[str, Feature] = MappingProxyType({}),
) -> np.ndarray:
    """Returns a moment of this run's variable, given that of the initial run; 0, as before any step, for new rows."""
    if name in categories:
        feature = categories[name]
        return rows_by_name(["", *feature.values], ["", *initial.values[feature.name]], moments)
    if name == EMBEDDINGS:
        return rows_by_name(items.item_ids, initial.item_ids, moments)
    return rows_by_name(_names(features), _names(initial.features), moments) if name == FEATURE_ROWS else moments


def start_from(run: Path, config: ExperimentConfig, model: Retriever, items: ItemTable) -> None:
    """Gives a new model the weights of a finished run, and its optimiser the moments.

    The optimiser's step number stays 0: the schedule of this training begins with its own warm-up. Adam's correction
    for early steps then makes the first ones .66 to 1.41 times as long, and is exact for the zeros of new rows.

    Args:
        run: folder of the initial run.
        config: of this run.
        model: compiled, all variables made.
        items: item table of this run.

    Raises:
        UserError: the checkpoint is missing or damaged, its clusters are numbered otherwise, its encoder has other
            sizes, or the encoder learns no item vectors.
    """
    if USER_ENCODERS.resolve(config.model.encoder).initial_items(items.counts, config.model.dim) is not None:
        raise UserError(
            f"Expected no train.initial with model.encoder {config.model.encoder}, whose item vectors are not learned."
        )
    folder = run / StationName.TRAIN.folder
    initial = read_checkpoint(folder)
    refuse_other_clusters(initial, items, run)
    features = model.tower.items.features if isinstance(model.tower.items, FeaturedItems) else None
    variables = named_variables(model.tower)
    categories = {name: one for name, one in model.tower.inputs.variables_of_values.items() if is_of_log(one)}
    try:
        shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
        weights, new = weights_for(initial, items, features, shapes, categories)
    except ValueError as error:
        raise UserError(
            f"Expected a model of the sizes of train.initial, {run}, got others ({error}). {_advice(run, config)}"
        ) from error
    for name, value in weights.items():
        variables[name].assign(value)
    moments = read_moments(folder)
    for name, own in optimizer_moments(model).items():
        if name in weights and name in moments:
            taken = functools.partial(
                moments_for, name, initial=initial, items=items, features=features, categories=categories
            )
            moments[name].changed(taken).assign_to(own, config.train.beta_2)
    found = int((initial.rows(items.item_ids) >= 0).sum())
    _log.info("%d of %d items start from the weights of %s", found, len(items.item_ids), run)
    if new:
        _log.warning("Not in %s, or of another shape there: %s start as new ones", run, ", ".join(new))
    if not moments:
        _log.warning("%s does not say whose the moments of its optimiser are: they start at 0", folder)


def _names(features: FeatureMatrix | None) -> list[str]:
    return [] if features is None else features.names


def _shape(variables: Mapping[str, np.ndarray], name: str) -> Shape | None:
    return variables[name].shape if name in variables else None


def _advice(run: Path, config: ExperimentConfig) -> str:
    """Says which keys of the model section to set as the initial run has them."""
    file = run / RUN_CONFIG
    values = read_yaml(file.read_text(encoding="utf-8"), str(file)) if file.is_file() else {}
    theirs = values.get("model", {}) if isinstance(values, dict) else {}
    own = config.model.model_dump(mode="json")
    sizes = own.keys() & theirs.keys() - _NO_SIZES
    keys = [f"model.{key}: {theirs[key]}" for key in own if key in sizes and theirs[key] != own[key]]
    return f"Set {', '.join(keys)}." if keys else "Take the model section of that run, or train without train.initial."
