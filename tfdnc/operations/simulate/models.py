"""Models of a simulation: trained on the events before a time, and asked in this process as a bundle would be."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from serving import tensors
from serving.bundles.questions import Questions
from tfdnc.contracts import bundle
from tfdnc.contracts.config import ExperimentConfig, ExportConfig, parse_config
from tfdnc.contracts.features import model_features
from tfdnc.contracts.items import ItemTable
from tfdnc.contracts.station_names import StationName
from tfdnc.operations.version_vectors import VersionVectors
from tfdnc.pipeline import outputs, runner
from tfdnc.pipeline.manifests import read_manifest

if TYPE_CHECKING:
    from tfdnc.model.tower import Tower

_BATCH = 256  # users in a request
_KEEP_READ_DAYS = 7
_COLD_USERS = 1000  # users whose mean vector answers for a history without a known item


class Model(NamedTuple):
    """A trained run, perhaps with items that it was not trained on.

    Attributes:
        config: of the run.
        run: its folder.
        renewed: items of the model, a table of `schema.VERSION_ITEM_SCHEMA`, all of them listed; None: those of the
            run.
        content: vectors of these items, for a model that reads some.
    """

    config: ExperimentConfig
    run: Path
    renewed: pa.Table | None = None
    content: VersionVectors | None = None

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of the training's epochs, validation apart."""
        manifest = read_manifest(self.run / StationName.TRAIN.folder)
        if manifest is None:
            raise ValueError(f"expected a trained run at {self.run}")
        return float(manifest["figures"]["cpu_seconds"])

    @property
    def catalogue(self) -> frozenset[str]:
        """Ids of the items that lists may hold."""
        if self.renewed is not None:
            return frozenset(self.renewed["item_id"].to_pylist())
        return frozenset(outputs.item_table(self.run).item_ids)


def config_until(config: ExperimentConfig, name: str, until: int) -> ExperimentConfig:
    """Returns the config of a run that is trained on every event before a time.

    Args:
        config: the experiment; `train.stop_after` and `train.epochs` say for how long, because nothing is held out.
        name: of the run.
        until: time of the log's unit.
    """
    return changed(
        config,
        name,
        data={
            **{"until": until, "split": "none", "validation_from": None, "test_from": None},
            "keep_read_days": config.data.keep_read_days or _KEEP_READ_DAYS,  # every run reads the same log
        },
        evaluate={"judge": None},
    )


def changed(config: ExperimentConfig, name: str, **sections: dict[str, Any]) -> ExperimentConfig:
    """Returns a config of another name with some keys of its sections replaced.

    Raises:
        UserError: a value does not fit.
    """
    values = config.model_dump(mode="json") | {"name": name}
    for section, keys in sections.items():
        values[section] |= keys
    return parse_config(values, name)


def train(config: ExperimentConfig, runs: Path, observer: runner.Observer) -> Model:
    """Runs the stations up to the training in the folder `runs`; those that are up to date are skipped."""
    run = runs / config.name
    runner.run_stations(config, run, StationName.TRAIN, observer=observer)
    return Model(config, run)


def lists_of(model: Model, questions: Questions, length: int) -> list[list[str]]:
    """Returns the lists of item ids that a bundle of the model would answer with, best first.

    The signature `retrieve` runs in this process, over an exact index, without an export.

    Args:
        model: the model.
        questions: of U users.
        length: M, the most items of a list.
    """
    from tfdnc.backend import tf
    from tfdnc.export.cold_start import cold_start_vectors
    from tfdnc.export.histories import sample_by_length
    from tfdnc.export.module import RetrievalModule
    from tfdnc.export.signatures import signature_function
    from tfdnc.retrieval.index import ExactIndex

    config, items = model.config, outputs.item_table(model.run)
    tower = outputs.trained_tower(config, model.run, items)
    cold = cold_start_vectors(tower, sample_by_length(outputs.histories(config, model.run), _COLD_USERS))
    if model.renewed is not None:
        tower, items = _with_renewed(model, model.renewed, items)
    index = ExactIndex(tower.item_embeddings, items.offsets)
    export = ExportConfig(num_candidates=length, max_candidates=length)
    features = model_features(config)
    lists: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="tfdnc-") as assets:
        module = RetrievalModule(tower, items, index, cold, config.merge, export, Path(assets), config.data.seen)
        retrieve = signature_function(module, "retrieve")
        names = [row.name for row in bundle.inputs_of("retrieve", module.features)]
        for request in questions.requests(range(len(questions.histories)), length, features, _BATCH):
            answer = retrieve(*(tf.constant(tensors.decode(request.inputs[name])) for name in names))
            lists += _rows(answer[bundle.ITEM_IDS].numpy(), answer[bundle.NUM_RESULTS].numpy())
    return lists


def _with_renewed(model: Model, renewed: pa.Table, trained: ItemTable) -> "tuple[Tower, ItemTable]":
    """Returns the tower of a model with renewed items, and their table."""
    from tfdnc.operations.renewed_tower import item_vectors
    from tfdnc.operations.version_items import listed_items
    from tfdnc.training.checkpoint import load_tower

    tower = load_tower(model.config, trained, model.run / StationName.TRAIN.folder)
    listed, vectors = listed_items(renewed, trained.cluster_names), item_vectors(tower, trained, renewed, model.content)
    return tower.with_items(listed.offsets, listed.counts, vectors), listed


def _rows(item_ids: np.ndarray, counts: Sequence[int]) -> list[list[str]]:
    return [[item.decode() for item in row[:count]] for row, count in zip(item_ids, counts, strict=True)]
