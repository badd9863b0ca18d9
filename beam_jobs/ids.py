"""Order and hashes of string ids: equal in every process, on every machine and in every run."""

import hashlib
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.twin_ids import without_point

_INTEGER = r"^-?[0-9]{1,18}$"  # digits that always fit an int64


def are_integers(ids: pa.Array) -> bool:
    """Returns whether every id of a string array is an integer; True for an empty array."""
    return bool(pc.all(pc.match_substring_regex(ids, _INTEGER), min_count=0).as_py())


def id_order(ids: pa.Array) -> np.ndarray:
    """Returns the permutation `[U]` that sorts string ids `[U]`.

    The order is numeric if all ids are integers ("9" before "10"; "07" before "7"), else lexicographic by UTF-8 bytes.
    """
    by_text = pc.sort_indices(ids).to_numpy()
    if not are_integers(ids):
        return by_text
    values = ids.cast(pa.int64()).to_numpy()
    return by_text[np.argsort(values[by_text], kind="stable")]


def buckets_of(ids: pa.Array, num_buckets: int) -> np.ndarray:
    """Returns the bucket `[U]` (0..num_buckets-1) of every id, by CRC-32: Python's `hash` differs between processes.

    `7` and `7.0` share a bucket, so that `twin_ids` can count them.
    """
    texts = without_point(ids).to_pylist()
    hashes = np.fromiter((zlib.crc32(text.encode()) for text in texts), np.uint32, count=len(ids))
    return (hashes % np.uint32(num_buckets)).astype(np.int64)


def random_key(user_id: str) -> int:
    """Returns a key of 64 bits for the random generator of a user."""
    return int.from_bytes(hashlib.blake2b(user_id.encode(), digest_size=8).digest(), "little")
