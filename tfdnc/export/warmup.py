"""Warm-up requests inside a bundle, which a server replays before it accepts requests.

Executors and ScaNN searchers are built on first use, per signature, and cost 0.2-0.9 s.
"""

from collections.abc import Iterator
from pathlib import Path

from tensorflow_serving.apis import prediction_log_pb2

from tfdnc.backend import tf
from tfdnc.contracts import bundle
from tfdnc.contracts.items import ItemTable
from tfdnc.export.module import RetrievalModule
from tfdnc.export.signatures import example_inputs

_HISTORY_LENGTH = 50


def write_warmup(folder: Path, module: RetrievalModule, items: ItemTable, batch_sizes: tuple[int, ...]) -> None:
    """Records one request for every signature at every batch size.

    Args:
        folder: of the bundle version.
        module: the exported module.
        items: the item table; the histories are its most popular items.
        batch_sizes: rows of the requests of clients, or of the server's batches.
    """
    popular = [items.item_ids[row] for row in (-items.counts).argsort(kind="stable")[:_HISTORY_LENGTH]]
    file = folder / bundle.WARMUP_ASSET
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for batch in batch_sizes:
            histories = [popular[: 1 + row * len(popular) // batch] for row in range(batch - 1)] + [popular]
            for log in _logs(module, histories):
                writer.write(log.SerializeToString())


def _logs(module: RetrievalModule, histories: list[list[str]]) -> Iterator[prediction_log_pb2.PredictionLog]:
    for signature in bundle.signatures_of(module.has_rules):
        log = prediction_log_pb2.PredictionLog()
        request = log.predict_log.request
        request.model_spec.name = bundle.MODEL_NAME
        request.model_spec.signature_name = signature
        for name, value in example_inputs(module, signature, histories).items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        yield log
