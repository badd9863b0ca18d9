"""Small SavedModels for the tests of `serving`: the classic half_plus_two, a strict one, and a bundle that is faked."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

import serving  # noqa: F401 - before TensorFlow: it switches Keras 2 on for the whole process
from serving import tensors
from tfdnc.contracts import bundle

MAX_CANDIDATES = 4
CLUSTERS = 2
ITEMS = [b"i0", b"i1", b"i2", b"i3"]


class HalfPlusTwo(tf.Module):
    """`y = x / 2 + offset` over float32 [?, 1], with a second output and a signature for strings."""

    def __init__(self, offset=2.0):
        self.half = tf.Variable(0.5)
        self.offset = tf.Variable(offset)

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32)])
    def half_plus_two(self, x):
        return {"y": x * self.half + self.offset, "text": tf.strings.as_string(x)}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string)])
    def shout(self, words):
        return {"loud": tf.strings.upper(words), "letters": tf.reduce_sum(tf.strings.length(words), axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def positive_only(self, n):
        tf.debugging.assert_positive(n, message="n must be positive")
        return {"n": n}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def number(self, text):
        return {"number": tf.strings.to_number(text)}


class Reader(tf.Module):
    """Fails with another error than INVALID_ARGUMENT, and a long one, if the file is missing."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def read(self, path):
        return {"content": tf.io.read_file(path)}


def inputs_of(signature):
    """Input signature of `tf.function`, by the rows of the contract."""
    sizes = {"K": CLUSTERS, "V": CLUSTERS, "D": 3}
    return [
        tf.TensorSpec([sizes.get(letter) for letter in row.shape], row.dtype, row.name)
        for row in bundle.inputs_of(signature)
    ]


class FakeBundle(tf.Module):
    """Obeys the signatures of `bundle.SIGNATURES`: all users get i0, i1, ...; scores start at the row's alpha.

    Where a signature takes `joint_alpha`, it counts a hundredfold, and -1 nothing; `seen: "allow"` counts a thousand.
    """

    def __init__(self, cluster_names=("comedy", "drama")):
        self.cluster_names = list(cluster_names)

    def _retrieve(self, history, num_candidates, alpha):
        tf.debugging.assert_greater_equal(num_candidates, 1, message="num_candidates must be at least 1")
        rows = tf.shape(history)[0]
        known = tf.reduce_sum(tf.cast(history != "", tf.int32), axis=1)
        results = tf.minimum(num_candidates, MAX_CANDIDATES)
        rank = tf.range(MAX_CANDIDATES)[tf.newaxis]
        inside = rank < results[:, tf.newaxis]
        scores = alpha[:, tf.newaxis] - tf.cast(rank, tf.float32)
        return {
            bundle.ITEM_IDS: tf.where(inside, tf.constant([ITEMS]), ""),
            bundle.SCORES: tf.where(inside, scores, bundle.SCORE_PAD),
            bundle.CLUSTER_IDS: tf.where(inside, rank % CLUSTERS, -1),
            bundle.NUM_RESULTS: results,
            bundle.QUOTAS: tf.stack([(results + 1) // 2, results // 2], axis=1),
            bundle.INTENT: tf.stack([tf.cast(known, tf.float32), tf.zeros([rows])], axis=1),
        }

    @tf.function(input_signature=inputs_of("serving_default"))
    def default(self, history):
        rows = tf.shape(history)[0]
        return self._retrieve(history, tf.fill([rows], 3), tf.fill([rows], -1.0))

    @tf.function(input_signature=inputs_of("retrieve"))
    def retrieve(self, history, num_candidates, alpha):
        return self._retrieve(history, num_candidates, alpha)

    @tf.function(input_signature=inputs_of("retrieve_joint"))
    def retrieve_joint(self, history, num_candidates, alpha):
        return self._retrieve(history, num_candidates, 10 * alpha)

    @tf.function(input_signature=inputs_of("encode"))
    def encode(self, history):
        known = tf.reduce_sum(tf.cast(history != "", tf.float32), axis=1)
        return {
            bundle.USER_EMBEDDINGS: tf.tile(known[:, tf.newaxis, tf.newaxis], [1, CLUSTERS, 3]),
            bundle.INTENT: tf.tile(known[:, tf.newaxis], [1, CLUSTERS]),
        }

    @tf.function(input_signature=inputs_of("retrieve_controlled"))
    def retrieve_controlled(
        self, history, num_candidates, alpha, exclude, cluster_quotas, cluster_min, cluster_max, joint_alpha, seen
    ):
        controls = tf.cast(tf.shape(exclude)[1], tf.float32) + tf.reduce_sum(cluster_quotas, axis=1)
        bounds = tf.reduce_sum(cluster_min, axis=1) + tf.reduce_sum(cluster_max, axis=1)
        asked = alpha + 100 * (joint_alpha + 1) + 1000 * tf.cast(seen == "allow", tf.float32)
        return self._retrieve(history, num_candidates, asked + controls + tf.cast(bounds, tf.float32))

    @tf.function(input_signature=inputs_of("search"))
    def search(self, user_embeddings, intent, history, num_candidates, alpha, joint_alpha):
        asked = alpha + 100 * (joint_alpha + 1)
        found = self._retrieve(history, num_candidates, asked + user_embeddings[:, 0, 0] + intent[:, 0])
        return {name: found[name] for name in bundle.SIGNATURES["search"].output_names}

    @tf.function(input_signature=inputs_of("describe"))
    def describe(self, history):
        return {bundle.CLUSTER_NAMES: tf.repeat([self.cluster_names], tf.shape(history)[0], axis=0)}


def save_half_plus_two(path: Path, offset: float = 2.0) -> Path:
    model = HalfPlusTwo(offset)
    signatures = {
        "serving_default": model.half_plus_two,
        "shout": model.shout,
        "positive_only": model.positive_only,
        "number": model.number,
    }
    tf.saved_model.save(model, str(path), signatures=signatures)
    return path


def save_reader(path: Path) -> Path:
    model = Reader()
    tf.saved_model.save(model, str(path), signatures={"serving_default": model.read})
    return path


def save_fake_bundle(path: Path, model: FakeBundle | None = None) -> Path:
    model = model or FakeBundle()
    signatures = {
        "serving_default": model.default,
        "retrieve": model.retrieve,
        "encode": model.encode,
        "search": model.search,
        "retrieve_joint": model.retrieve_joint,
        "retrieve_controlled": model.retrieve_controlled,
        "describe": model.describe,
    }
    tf.saved_model.save(model, str(path), signatures=signatures)
    return path


def write_warmup(version: Path, requests: list[predict_pb2.PredictRequest], extra: list[bytes] = ()) -> None:
    file = version / "assets.extra" / "tf_serving_warmup_requests"
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
        for record in extra:
            writer.write(record)


def models_config(**models: Path | tuple[Path, str]) -> str:
    """ModelServerConfig in text format: by model a base path, or a pair of it and other fields of its config."""
    text = ""
    for name, value in models.items():
        base, fields = value if isinstance(value, tuple) else (value, "")
        text += f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" {fields} }}\n'
    return f"model_config_list {{ {text} }}"


def predict_request(inputs: dict, signature: str = "", model: str = "half", output_filter=()):
    """Arrays become tensors with typed fields, a `TensorProto` passes as it is."""
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        is_array = isinstance(value, np.ndarray | np.generic)
        request.inputs[name].CopyFrom(tensors.encode(np.asarray(value)) if is_array else value)
    return request


def scann_items():
    return np.random.default_rng(0).normal(size=[40, 8]).astype(np.float32)


def save_scann(path: str) -> None:
    """Saves a SavedModel with one of ScaNN's searchers over `scann_items`, 3 neighbours by dot product."""
    from scann.scann_ops.py import scann_ops

    class Index(tf.Module):
        def __init__(self):
            self.index = scann_ops.builder(scann_items(), 3, "dot_product").score_brute_force().build()
            self.saved = self.index.serialize_to_module()

        @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32)])
        def search(self, query):
            index, distance = scann_ops.searcher_from_module(self.saved, scann_items()).search_batched(query)
            return {"index": index, "distance": distance}

    model = Index()
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    tf.saved_model.save(model, path, signatures={"serving_default": model.search}, options=options)


class Slow(tf.Module):
    """Counts to `n` in a loop of small ops, or multiplies matrices of that size in one op."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def count(self, n):
        return {"n": tf.while_loop(lambda i: tf.reduce_any(i < n), lambda i: [i + 1], [tf.zeros_like(n)])[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def decompose(self, n):
        matrix = tf.random.stateless_normal([n[0], n[0]], [1, 2])
        return {"largest": tf.linalg.svd(matrix, compute_uv=False)[:1]}


def save_slow(path: Path) -> Path:
    model = Slow()
    tf.saved_model.save(model, str(path), signatures={"serving_default": model.count, "decompose": model.decompose})
    return path
