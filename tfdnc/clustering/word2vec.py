"""Clusters of items that are consumed in the same neighbourhood of a sequence: skip-gram vectors, then K-means."""

import logging
import time
import warnings
from collections.abc import Iterator

import numpy as np
from gensim.models import Word2Vec
from gensim.models.callbacks import CallbackAny2Vec
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from tfdnc.clustering.cold import NO_PLACE
from tfdnc.clustering.log import TrainingLog
from tfdnc.clustering.registry import CLUSTERERS, check_num_clusters
from tfdnc.config import ClusterConfig

logger = logging.getLogger(__name__)

MAX_SENTENCE = 10_000
"""gensim silently ignores what lies beyond this many words of one sentence, so longer sequences are split."""

KMEANS_RESTARTS = 5


@CLUSTERERS.register("word2vec_kmeans")
def word2vec_kmeans(log: TrainingLog, config: ClusterConfig, seed: int) -> np.ndarray:
    """Returns int [N]: K-means clusters of L2-normalised skip-gram vectors of the items.

    Vector length grows with popularity (correlation .39 with log count on ML-1M), so without normalising K-means
    would in part sort the items by popularity. Items without training events have no vector, and so no place.
    The result is a function of the log and the seed when `config.workers` is 1; more workers race.
    """
    warm = np.flatnonzero(log.counts)
    check_num_clusters(len(warm), config)
    # Most popular first, ties by index: token t of the corpus is item `warm[t]`.
    warm = warm[np.argsort(-log.counts[warm], kind="stable")]
    vectors = _skip_gram(log, warm, config, seed)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.full(log.num_items, NO_PLACE)
    labels[warm] = _kmeans(vectors, config.num_clusters, seed)
    return labels


def _skip_gram(log: TrainingLog, warm: np.ndarray, config: ClusterConfig, seed: int) -> np.ndarray:
    """Returns float32 [W, dim]: the skip-gram vectors of the W warm items, in order of `warm`."""
    model = Word2Vec(
        vector_size=config.dim,
        window=config.window,
        sg=1,
        negative=config.negative,
        # Down-sampling is meant for items far above average. On a small catalogue every item is a large share of the
        # log, and a fixed threshold would drop most of it (clusters of 160 items came out worse than by chance).
        sample=max(config.sample, 1.0 / log.num_items) if config.sample else 0,
        workers=config.workers,
        seed=seed % 2**32,  # NumPy's legacy generator inside gensim takes no other seeds
        min_count=1,
        sorted_vocab=0,
        hashfxn=_no_hash,
    )
    # Tokens are integers, 10 % faster than strings. gensim's noise table looks counts up by *position*, and takes
    # an integer for a token first: the two must agree, hence tokens 0..W-1 in this order and `sorted_vocab=0`.
    model.build_vocab_from_freq(
        {token: int(count) for token, count in enumerate(log.counts[warm])}, corpus_count=len(log.offsets) - 1
    )
    corpus = _Corpus(log, warm)
    model.train(corpus, total_words=len(log.items), epochs=config.epochs, callbacks=[_Progress(config.epochs)])
    return model.wv.vectors.copy()


def _no_hash(text: str) -> int:
    """Stands in for Python's `hash`, which differs from process to process; gensim 4 draws vectors without it."""
    raise AssertionError(f"gensim hashed {text!r}: its vectors would depend on PYTHONHASHSEED")


class _Corpus:
    """Sentences of the log, as lists (gensim fails on arrays), made anew one user at a time in every epoch."""

    def __init__(self, log: TrainingLog, warm: np.ndarray):
        token_of = np.full(log.num_items + 1, -1, dtype=np.int32)
        token_of[warm + 1] = np.arange(len(warm))
        self._tokens = token_of[log.items]
        self._offsets = log.offsets

    def __iter__(self) -> Iterator[list[int]]:
        for start, end in zip(self._offsets[:-1], self._offsets[1:], strict=True):
            for piece in range(start, end, MAX_SENTENCE):
                yield self._tokens[piece : min(piece + MAX_SENTENCE, end)].tolist()


class _Progress(CallbackAny2Vec):
    """Logs every epoch with its time."""

    def __init__(self, epochs: int):
        self._epochs = epochs
        self._epoch = 0
        self._started = time.perf_counter()

    def on_epoch_end(self, model: Word2Vec) -> None:
        """Called by gensim."""
        self._epoch += 1
        seconds = time.perf_counter() - self._started
        logger.info("Word2Vec epoch %d/%d, %.1f s", self._epoch, self._epochs, seconds)


def _kmeans(vectors: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Returns int [W]: the cluster of each vector."""
    kmeans = KMeans(num_clusters, n_init=KMEANS_RESTARTS, random_state=seed % 2**32)
    # Threads add their partial sums in the order they finish, which changes the last bits and now and then an item.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors than K: said below
        labels = kmeans.fit_predict(vectors)
    found = len(np.unique(labels))
    if found < num_clusters:
        logger.warning("K-means found %d clusters, not %d: some items have equal vectors", found, num_clusters)
    return labels
