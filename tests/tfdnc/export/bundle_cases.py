"""Small bundles for the tests of the export: items, models and requests, and what each bundle was made of."""

import json

import numpy as np
import pytest

from tests.tfdnc.small_scann import shrink
from tfdnc.backend import tf
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.config import ExperimentConfig, ExportConfig, MergeConfig, ModelConfig, TrainConfig
from tfdnc.contracts.items import ItemTable
from tfdnc.export import bundle as bundle_module
from tfdnc.export.bundle import export_bundle
from tfdnc.export.module import RetrievalModule
from tfdnc.model.tower import Tower

DIM, MAX_LENGTH, LENGTH, MAX_CANDIDATES = 8, 6, 10, 64


def make_items(sizes):
    clusters = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    return ItemTable(
        item_ids=[f"film {row} é" for row in range(sum(sizes))],  # ids are bytes to TensorFlow, spaces included
        counts=np.arange(sum(sizes)) % 7,
        clusters=clusters,
        offsets=tuple(int(x) for x in np.concatenate([[0], np.cumsum(sizes)])),
        sequence_indices=np.arange(1, sum(sizes) + 1, dtype=np.int32),
        titles=[""] * sum(sizes),
        cluster_names=[f"cluster {k}" for k in range(len(sizes))],
    )


def make_item_vectors(count):
    """Tastes with variations, as trained vectors have; nothing finds neighbours in pure noise fast."""
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.6, size=[20, DIM])[rng.integers(0, 20, count)] + rng.normal(0, 0.3, size=[count, DIM])


class ThreeInterests(Tower):
    """A tower that turns every user vector into three."""

    def user_vectors(self, history, inputs=None):
        vectors, log_intent = super().user_vectors(history, inputs)
        return tf.concat([vectors, tf.roll(vectors, 1, axis=2), -vectors], axis=1), log_intent


def make_tower(items, encoder, tower_class=Tower):
    config = ModelConfig(encoder=encoder, dim=DIM, blocks=1, max_length=MAX_LENGTH)
    tower = tower_class.make(config, TrainConfig(precision="float32"), items.offsets, seed=1)
    tower.item_embeddings.assign(make_item_vectors(len(items.item_ids)))
    tower.user_vectors(tf.constant([[1, 2]]))
    return tower


class Case:
    """One exported bundle, with what it was made of and the module that was saved."""

    def __init__(self, folder, sizes, index, encoder, merge=None, tower_class=Tower, attributes=()):
        self.items = make_items(sizes)
        self.sizes, self.attributes = sizes, attributes
        self.tower = make_tower(self.items, encoder, tower_class)
        self.num_vectors = self.tower.user_vectors(tf.constant([[1]]))[0].shape[1]
        self.cold_vectors = np.random.default_rng(1).normal(size=[self.num_vectors, DIM]).astype(np.float32)
        self.config = ExperimentConfig(
            name=f"{index}-{encoder}",
            merge=merge or MergeConfig(),
            export=ExportConfig(
                index=index, num_candidates=LENGTH, max_candidates=MAX_CANDIDATES, warmup_batch_sizes=(1, 3)
            ),
        )
        made = []

        def keep(*args):
            made.append(RetrievalModule(*args))
            return made[0]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bundle_module, "RetrievalModule", keep)
            shrink(patch, hashing_from=300, tree_from=2000)  # every kind of searcher in one small bundle
            self.figures = self.export(folder)
        self.module = made[0]
        self.folder = folder / "1"
        self.manifest = json.loads((self.folder / contract.MANIFEST_ASSET).read_text())

    def export(self, output, **changes):
        arguments = {
            "tower": self.tower,
            "items": self.items,
            "cold_start_vectors": self.cold_vectors,
            "config": self.config,
            "manifest": {"metrics": {"recall@10": 0.3}},
            "output": output,
            "attributes": self.attributes,
        }
        return export_bundle(**(arguments | changes))

    @property
    def item_vectors(self):
        return self.tower.item_embeddings.numpy()

    def rows(self, ids):
        return [self.items.item_ids.index(item_id.decode()) for item_id in ids]

    def search_each_cluster(self):
        """A request whose row k wants cluster k before all others, and nothing left out."""
        batch = len(self.sizes)
        near = np.random.default_rng(2).integers(0, len(self.item_vectors), size=[batch, self.num_vectors])
        vectors = 2 * self.item_vectors[near]
        return {
            contract.USER_EMBEDDINGS: vectors.astype(np.float32),
            contract.INTENT: np.eye(batch, dtype=np.float32),
            contract.HISTORY: np.full([batch, 1], "", dtype=object),
            contract.NUM_CANDIDATES: np.full([batch], 50, np.int32),
            contract.ALPHA: np.full([batch], 1e9, np.float32),
            contract.JOINT_ALPHA: np.full([batch], -1, np.float32),
        }


def history(*rows):
    width = max(len(row) for row in rows)
    return np.array([list(row) + [""] * (width - len(row)) for row in rows], dtype=object)


def film(*rows):
    return [f"film {row} é" for row in rows]


def retrieve_inputs(rows, num_candidates=LENGTH, alpha=-1.0):
    rows = rows if isinstance(rows, np.ndarray) else history(*rows)
    return {
        contract.HISTORY: rows,
        contract.NUM_CANDIDATES: np.broadcast_to(np.int32(num_candidates), [len(rows)]).copy(),
        contract.ALPHA: np.broadcast_to(np.float32(alpha), [len(rows)]).copy(),
    }
