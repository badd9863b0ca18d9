"""One run behind the page: its items, users and bundle, the neighbours of items, and their map."""

import threading
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np

from serving.bundles.in_process import Bundle, load_bundle
from serving.messages import Retrieval, known_arguments
from tfdnc.contracts.config import load_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.items import ItemTable, read_items
from tfdnc.contracts.request_inputs import manifest_features
from tfdnc.contracts.schema import RUN_CONFIG
from tfdnc.contracts.station_names import StationName
from tfdnc.explore.map_process import project_apart
from tfdnc.operations import run_users
from tfdnc.operations.item_images import ItemImages, read_item_images
from tfdnc.operations.shown_items import left_items, shown_items
from tfdnc.page.item_map import FEWEST, MAX_POINTS
from tfdnc.training.checkpoint import read_checkpoint

Shown = dict[str, Any]
"""An item as the page shows it: id, title, categories, number of its cluster, address of its picture or None."""


class Subject:
    """A run whose bundle answers the page.

    Args:
        run: Folder of a run with a bundle.
        number: Number of the run on the page.

    Raises:
        UserError: The run has no bundle, or its clusters are newer than its bundle.
    """

    def __init__(self, run: Path, number: int = 0) -> None:
        self.run = run
        self._number = number
        self.bundle: Bundle = load_bundle(run / StationName.EXPORT.folder)
        trained = read_items(run / StationName.CLUSTER.folder)
        if self.bundle.manifest["cluster_names"] != trained.cluster_names:
            raise UserError(f"The clusters of {run} are newer than its bundle: run `tfdnc export` on its config first.")
        self.items: ItemTable = shown_items(trained, self.bundle.path)
        self._trained = len(trained.item_ids)  # the first ones; those of a refresh have no vector of the training
        self._left = left_items(self.bundle.path)
        self._features = manifest_features(self.bundle.manifest["config"])
        self._row_of = {item_id: row for row, item_id in enumerate(self.items.item_ids)}
        self._folded = [
            f"{title} {item_id}".casefold()
            for title, item_id in zip(self.items.titles, self.items.item_ids, strict=True)
        ]
        self.images, self.no_images = self._read_images()
        self._last: run_users.User | None = None
        self._map: list[tuple[float, float, int, str, str]] | None = None

    def _read_images(self) -> tuple[ItemImages, str]:
        """Returns the pictures of the items, and the reason why there are none, if that is an error."""
        try:
            config = load_config(self.run / RUN_CONFIG)
            return read_item_images(config.data, self.items.item_ids), ""
        except UserError as error:  # without its item file, a run is explored without pictures
            return ItemImages({}, None), str(error)

    @cached_property
    def conditions(self) -> list[str]:
        """Conditions that `where` may have; none for a bundle without attributes."""
        return self.bundle.known_conditions() if self.bundle.manifest.get("attributes") else []

    def warm_up(self) -> None:
        """Asks for a list by every signature that the page uses: the first answers take seconds."""
        asked: list[dict[str, Any]] = [{"alpha": 1.0}, {"joint_alpha": 1.0}, {"exclude": [[]]}]
        for controls in asked:
            self.retrieve([], {}, 1, controls)

    @cached_property
    def user_ids(self) -> list[str]:
        """Ids of the users of the log; those with a held-out item come first."""
        return run_users.user_ids(self.run)

    def user(self, user_id: str) -> run_users.User:
        """Returns a user of the log; raises a `UserError` if the run has no such user."""
        last = self._last  # every move of a slider asks for the same one; requests have threads of their own
        if last is None or last.name != user_id:
            last = self._last = run_users.user_of_log(self.run, self.items, self._features, user_id)
        return last

    def show(self, item_id: str) -> Shown:
        """Returns an item as the page shows it; an unknown one has no cluster."""
        row = self._row_of.get(item_id)
        if row is None:
            return {"id": item_id, "title": item_id, "categories": [], "cluster": -1, "image": None}
        categories = self.items.categories[row] if self.items.categories else []
        cluster = int(self.items.clusters[row])
        shown = {"id": item_id, "title": self.items.titles[row], "categories": categories, "cluster": cluster}
        return shown | {"image": self._image(item_id)}

    def _image(self, item_id: str) -> str | None:
        if self.images.is_file(item_id):
            return "/image?" + urlencode({"run": self._number, "item": item_id})
        return self.images.address(item_id)

    def search(self, text: str, most: int = 20) -> list[Shown]:
        """Returns the most frequent items whose title or id contains every word of a text."""
        words = text.casefold().split()
        if not words:
            return []
        found = [row for row, folded in enumerate(self._folded) if all(word in folded for word in words)]
        found.sort(key=lambda row: -self.items.counts[row])
        return [self.show(self.items.item_ids[row]) for row in found[:most]]

    def retrieve(self, history: list[str], known: dict[str, Any], count: int, controls: dict[str, Any]) -> Retrieval:
        """Returns the list of one user.

        Args:
            history: Item ids, oldest first.
            known: Other inputs by names of tensors; {} for a history that was typed.
            count: Results wanted.
            controls: Further arguments of `Bundle.retrieve`.
        """
        arguments = known_arguments(self._features, [known])
        [answer] = self.bundle.retrieve([history], count, **arguments, **controls)
        return answer

    def neighbours(self, item_id: str, most: int = 20) -> list[tuple[Shown, float]]:
        """Returns the items with the most similar vectors, and their cosines; none for an item that was not trained."""
        row = self._row_of.get(item_id)
        if row is None or row >= self._trained:
            return []
        cosines = self._directions @ self._directions[row]
        cosines[row] = -np.inf
        cosines[[self._row_of[left] for left in self._left]] = -np.inf
        nearest = np.argsort(-cosines, kind="stable")[: min(most, int(np.isfinite(cosines).sum()))]
        return [(self.show(self.items.item_ids[other]), float(cosines[other])) for other in nearest.tolist()]

    @cached_property
    def _directions(self) -> np.ndarray:
        """Item vectors `[N, D]` of length 1."""
        vectors = read_checkpoint(self.run / StationName.TRAIN.folder).item_vectors
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def start_map(self) -> None:
        """Computes the map in the background: t-SNE takes seconds."""
        threading.Thread(target=self._draw_map, daemon=True, name=f"map of {self.run}").start()

    def map(self) -> list[tuple[float, float, int, str, str]] | None:
        """Returns x, y in 0..1, cluster, id and title of the most frequent items; None while they are computed.

        Fewer than `FEWEST` items have no map, an empty one.
        """
        return self._map

    def _draw_map(self) -> None:
        shown = np.argsort(-self.items.counts[: self._trained], kind="stable")[:MAX_POINTS]
        if len(shown) < FEWEST:
            self._map = []
            return
        positions = project_apart(self._directions[shown])
        low, high = positions.min(axis=0), positions.max(axis=0)
        places = ((positions - low) / np.maximum(high - low, 1e-12)).round(4).tolist()
        self._map = [
            (x, y, int(self.items.clusters[row]), self.items.item_ids[row], self.items.titles[row])
            for (x, y), row in zip(places, shown.tolist(), strict=True)
        ]
