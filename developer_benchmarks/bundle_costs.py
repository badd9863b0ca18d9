"""Costs of a bundle by itself: built, loaded and warmed up as by the embedded server, and asked."""

import contextlib
import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from developer_benchmarks.synthetic_items import USERS, SyntheticData
from serving.memory import give_back, resident
from serving.servable import Servable
from serving.warmup import warm_up
from tfdnc.backend import tf
from tfdnc.contracts import bundle
from tfdnc.contracts.config import ExperimentConfig, parse_config
from tfdnc.contracts.items import ItemTable
from tfdnc.export import bundle as exporting
from tfdnc.export.bundle import export_bundle
from tfdnc.export.vocabulary import vocabulary_of
from tfdnc.model.tower import Tower

LENGTH = 500
REQUESTS = "requests.npz"

Figures = dict[str, Any]

_ONE_THREAD = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)


class Catalogue(NamedTuple):
    """Size of a catalogue."""

    items: int
    clusters: int
    uneven: bool


def build(catalogue: Catalogue, index: str, folder: Path) -> Figures:
    """Exports a bundle with random weights of the encoder, and saves the requests of the first half of the users."""
    data = _station("items", SyntheticData)(*catalogue)
    table = _station("table", _items)(data)
    export = {"index": index, "num_candidates": LENGTH, "max_candidates": LENGTH}
    config = parse_config({"name": "index", "export": export})
    tower, users = _station("tower", _tower)(config, data), data.part(slice(USERS // 2, None))
    vectors, log_intent, seen, _ = data.part(slice(USERS // 2))
    ids = np.array(["", *table.item_ids], object)
    folder.mkdir(parents=True)
    np.savez(folder / REQUESTS, vectors=vectors, intent=np.exp(log_intent), history=ids[seen].astype(str))
    del data, ids
    give_back()
    began = _clocks()
    with _stations_of_export():
        written = _station("export", export_bundle)(tower, table, vectors[0], config, {}, folder, users=users)
    spent = [end - start for start, end in zip(began, _clocks(), strict=True)]
    searchers = _manifest(folder)["index"]
    return {
        "index": ", ".join(f"{count} x {kind}" for kind, count in Counter(one["kind"] for one in searchers).items()),
        "least recall": min((e["recall"] for one in searchers for e in one.get("effort", ())), default=1.0),
        "joint recovery": written["joint_recovery"],
        "CPU s": spent[0],
        "wall s": spent[1],
        "peak MiB": max(_peaks),
        "bundle MB": written["megabytes"],
        "graph MB": (folder / "1" / "saved_model.pb").stat().st_size / 1e6,
    }


def vocabulary(items: int, length: int, folder: Path) -> Figures:
    """Saves and loads the vocabulary of a bundle alone, with ids of a length; results per item are bytes."""
    made = vocabulary_of([f"{row:0{length}d}" for row in range(items)], folder)
    lookup = tf.function(
        lambda ids, rows: {"rows": made.indices(ids), "ids": made.ids(rows)},
        input_signature=[tf.TensorSpec([None], tf.string, "ids"), tf.TensorSpec([None], tf.int32, "rows")],
        autograph=False,
    )
    module = tf.Module()
    module.made = made
    tf.saved_model.save(module, str(folder / "1"), signatures={"lookup": lookup})
    size = sum(file.stat().st_size for file in (folder / "1").rglob("*") if file.is_file())
    return {"bytes on the disk": size / items}


def load(path: Path, items: int) -> Figures:
    """Loads a SavedModel into this process as the embedded server does, and keeps it there for `ask`."""
    global _loaded  # the process has no other task
    before, times = resident(), [_clocks()]
    _loaded = Servable.load(path.parent.name, 1, path, _ONE_THREAD)
    loaded = resident()
    times.append(_clocks())
    requests = warm_up(_loaded)
    times.append(_clocks())
    spent = {
        f"{clock} s to {action}": end[place] - start[place]
        for action, start, end in (("load", *times[:2]), ("warm up", *times[1:]))
        for place, clock in enumerate(("CPU", "wall"))
    }
    warm, peak = resident(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    give_back()
    return {
        **spent,
        "warm-up requests": requests,
        "bytes per item": (loaded - before) / items,
        "resident MiB": warm / 2**20,
        "resident MiB without free pages of the heap": resident() / 2**20,
        "peak MiB": peak,
    }


def ask(requests: Path, users: int, batch: int, alpha: float) -> tuple[float, float, np.ndarray]:
    """Asks for lists of the first users; returns wall clock and CPU time of a request in ms, and the ids `[Q, M]`."""
    with np.load(requests) as saved:
        columns = {name: saved[name][:users] for name in saved.files}
    feeds = []
    for start in range(0, len(columns["intent"]) - batch + 1, batch):
        rows = slice(start, start + batch)
        feeds.append(
            {
                bundle.USER_EMBEDDINGS: columns["vectors"][rows],
                bundle.INTENT: columns["intent"][rows],
                bundle.HISTORY: columns["history"][rows].astype(object),
                bundle.NUM_CANDIDATES: np.full([batch], LENGTH, np.int32),
                bundle.ALPHA: np.full([batch], alpha, np.float32),
                bundle.JOINT_ALPHA: np.full([batch], -1, np.float32),
            }
        )
    for feed in feeds[:2]:  # these build executors and fill caches
        _run(feed)
    began = _clocks()
    answers = [_run(feed) for feed in feeds]
    cpu, wall = (1e3 * (end - start) / len(feeds) for start, end in zip(began, _clocks(), strict=True))
    return wall, cpu, np.concatenate(answers).astype(bytes)


def one_thread() -> None:
    """Limits TensorFlow in a new process."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


_loaded: Servable
_peaks: list[float] = []  # MiB


def _station(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function, which then prints its CPU time, its peak since the last part in it, and what it left."""

    def measured(*arguments: Any, **named: Any) -> Any:
        _peaks.append(_peak())
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        began = _clocks()
        result = work(*arguments, **named)
        cpu, wall = (end - start for start, end in zip(began, _clocks(), strict=True))
        _peaks.append(_peak())
        sizes = f"peak {_peaks[-1]:,.0f} MiB, then {resident() / 2**20:,.0f}"
        print(f"  {name}: CPU {cpu:,.1f} s, wall {wall:,.1f} s, {sizes}", flush=True)
        return result

    return measured


@contextlib.contextmanager
def _stations_of_export() -> Iterator[None]:
    """Measures the parts of an export."""
    with contextlib.ExitStack() as stack:
        for name in ("ensure_joint_recovery", "RetrievalModule", "save_module", "write_warmup"):
            part = getattr(exporting, name)
            stack.enter_context(mock.patch.object(exporting, name, _station(name, part)))
        resolve = exporting.INDEXES.resolve
        made = mock.patch.object(exporting.INDEXES, "resolve", lambda name: _station("index", resolve(name)))
        stack.enter_context(made)
        yield


def _peak() -> float:
    """Returns the largest size of this process since the last reset, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _items(data: SyntheticData) -> ItemTable:
    """Returns items with the ids 0..N-1."""
    size, clusters = len(data.items), len(data.sizes)
    ids = [str(row) for row in range(size)]
    return ItemTable(
        item_ids=ids,
        counts=np.arange(size, 0, -1),
        clusters=np.repeat(np.arange(clusters, dtype=np.int32), data.sizes),
        offsets=tuple(data.offsets.tolist()),
        sequence_indices=np.arange(1, size + 1, dtype=np.int32),
        titles=ids,
        cluster_names=[f"cluster {k}" for k in range(clusters)],
    )


def _tower(config: ExperimentConfig, data: SyntheticData) -> Tower:
    """Returns a tower with these items, and otherwise random weights."""
    clusters = len(data.sizes)
    small = Tower.make(config.model, config.train, tuple(range(clusters + 1)), seed=0)
    small.user_vectors(tf.constant([[1]]))  # builds the layers
    return small.with_items(tuple(data.offsets.tolist()), np.ones(len(data.items)), data.items)


def _clocks() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "1" / bundle.MANIFEST_ASSET).read_text())


def _run(feed: dict[str, np.ndarray]) -> np.ndarray:
    return _loaded.run("search", feed, [bundle.ITEM_IDS])[bundle.ITEM_IDS]
