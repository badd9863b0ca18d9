"""Named streams of random numbers: every random operation of a model draws from another one."""

import hashlib
from dataclasses import dataclass

from tfdnc.backend import tf


@dataclass(frozen=True)
class Stream:
    """Random numbers of one operation of a model in one training step.

    Two streams are the same only if they have the same seed, the same step and the same path. Seed and step are kept
    exactly, the path as 64 bits of a hash. A stream is drawn from once; a second draw needs another name.

    Attributes:
        moment: scalar int64, the seed of the run in the upper 31 bits and the step in the lower 32.
        path: names from the model down to the operation.
    """

    moment: tf.Tensor
    path: tuple[str | int, ...] = ()

    @classmethod
    def at(cls, seed: int, step: tf.Tensor | int) -> "Stream":
        """Returns the stream of a whole model; `seed` is below 2^31, `step` a scalar below 2^32."""
        return cls(tf.cast(step, tf.int64) + (seed << 32))

    @property
    def seed(self) -> tf.Tensor:
        """The seed `[2]` int64 that a stateless random operation takes."""
        return tf.stack([tf.constant(_hash(self.path), tf.int64), self.moment])


def substream(stream: Stream | None, *names: str | int) -> Stream | None:
    """Returns the stream of a component inside that of `stream`; None, outside of training, stays None."""
    return None if stream is None else Stream(stream.moment, (*stream.path, *names))


def _hash(path: tuple[str | int, ...]) -> int:
    """64 bits of a path; its representation tells apart ("a", "b") from ("ab",), and 1 from "1"."""
    return int.from_bytes(hashlib.blake2b(repr(path).encode(), digest_size=8).digest(), "little", signed=True)


def hashed_uniforms(numbers: tf.Tensor, stream: Stream) -> tf.Tensor:
    """Returns a uniform number in [0, 1) for each of `numbers` `[n]` int, which depends on it and the stream alone.

    So the same item has the same one wherever a step reads it. The bits are those of the finalizer of MurmurHash3
    (Appleby) over the number and the two words of a key, with float32's 24 bits.
    """
    key = tf.random.stateless_uniform([2], stream.seed, None, None, tf.uint32)
    bits = _mixed(tf.bitwise.bitwise_xor(tf.cast(numbers, tf.uint32), key[0]))
    bits = _mixed(tf.bitwise.bitwise_xor(bits, key[1]))
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.float32) / 2**24


def _mixed(bits: tf.Tensor) -> tf.Tensor:
    """MurmurHash3's finalizer of 32 bits."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = _folded(bits, shift) * tf.constant(factor, tf.uint32)
    return _folded(bits, 16)


def _folded(bits: tf.Tensor, shift: int) -> tf.Tensor:
    """Exclusive or with the same bits further right."""
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32)))
