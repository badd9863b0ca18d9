"""Clusters of items with similar neighbours in the sequences: skip-gram vectors, then K-means."""

import logging
import time
from collections.abc import Iterator

import numpy as np
from gensim.models import Word2Vec

from tfdnc.clustering.budget import Plan, plan_training
from tfdnc.clustering.cold import UNASSIGNED
from tfdnc.clustering.kmeans import cluster_directions
from tfdnc.clustering.log import TrainingLog
from tfdnc.clustering.registry import CLUSTERERS, check_num_clusters
from tfdnc.contracts.config import ClusterConfig

logger = logging.getLogger(__name__)

MAX_SENTENCE = 10_000
"""Longest sentence of gensim, which silently ignores the words after it; longer sequences are split."""

STEPS = 20
"""Number of log records about progress, over all epochs."""


@CLUSTERERS.register("word2vec_kmeans")
def word2vec_kmeans(log: TrainingLog, config: ClusterConfig, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Returns int [N]: K-means clusters of the directions of skip-gram vectors of the items; and the training figures.

    The figures are `epochs`, `user_share` and `trained_words`; `config.max_words` bounds them on a long log. Items
    without events of the users that are read have no vector: `UNASSIGNED`. The result is a function of the log and the
    seed when `config.workers` is 1; several workers update the vectors in any order.
    """
    plan = plan_training(log.counts, config)
    log = log.some_users(plan.user_share, seed)
    warm = np.flatnonzero(log.counts)
    number = check_num_clusters(len(warm), config)
    # Most popular first, ties by index: token t of the corpus is item `warm[t]`.
    warm = warm[np.argsort(-log.counts[warm], kind="stable")]
    vectors, trained_words = _skip_gram(log, warm, plan, config, seed)
    labels = np.full(log.num_items, UNASSIGNED)
    labels[warm] = cluster_directions(vectors, number, seed)
    figures = {"epochs": plan.epochs, "user_share": plan.user_share, "trained_words": trained_words}
    return labels, figures


def _skip_gram(
    log: TrainingLog, warm: np.ndarray, plan: Plan, config: ClusterConfig, seed: int
) -> tuple[np.ndarray, int]:
    """Returns float32 [W, dim], skip-gram vectors of the W warm items in order of `warm`, and the trained words."""
    model = Word2Vec(
        vector_size=config.dim,
        window=config.window,
        sg=1,
        negative=config.negative,
        sample=plan.sample,
        workers=config.workers,
        seed=seed % 2**32,  # NumPy's legacy generator inside gensim takes no other seeds
        min_count=1,
        sorted_vocab=0,
        hashfxn=_no_hash,
    )
    # Tokens are integers, which are 10 % faster than strings. gensim reads an integer as a token first, but its noise
    # table looks counts up by *position*. Tokens 0..W-1 in this order, with `sorted_vocab=0`, make the two agree.
    model.build_vocab_from_freq({token: int(count) for token, count in enumerate(log.counts[warm])})
    corpus = _Corpus(log, warm, plan.epochs)
    trained_words, _ = model.train(corpus, total_words=int(log.counts.sum()), epochs=plan.epochs)
    return model.wv.vectors.copy(), trained_words


def _no_hash(text: str) -> int:
    """Replaces Python's `hash`, which differs between processes; gensim 4 draws vectors without it."""
    raise AssertionError(f"gensim hashed {text!r}: its vectors would depend on PYTHONHASHSEED")


class _Corpus:
    """Sentences of the log, as lists (gensim fails on arrays), made anew one user at a time in every epoch.

    It also logs the progress, because gensim reports whole epochs only, which may be long.
    """

    def __init__(self, log: TrainingLog, warm: np.ndarray, epochs: int) -> None:
        self._token_of = np.full(log.num_items + 1, -1, dtype=np.int32)
        self._token_of[warm + 1] = np.arange(len(warm))
        self._log, self._epochs = log, epochs
        self._words, self._total = 0, epochs * int(log.counts.sum())
        self._started = time.perf_counter()

    def __iter__(self) -> Iterator[list[int]]:
        for items, lengths in self._log.parts():
            tokens, ends = self._token_of[items], np.cumsum(lengths)
            for start, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True):
                for piece in range(start, end, MAX_SENTENCE):
                    sentence = tokens[piece : min(piece + MAX_SENTENCE, end)].tolist()
                    yield sentence
                    self._count(len(sentence))

    def _count(self, words: int) -> None:
        step = STEPS * self._words // self._total
        self._words += words
        if STEPS * self._words // self._total > step:
            seconds = time.perf_counter() - self._started
            share = self._words / self._total
            logger.info("Word2Vec: %.0f %% of %d epochs, %.1f s", 100 * share, self._epochs, seconds)
