"""Choice of a list under bounds on groups of its items, by one rule that reads the items in the order of their keys.

Phase 0, only where the minima add up to more than the length: items that count for two or more minima which are not
reached yet, until the minima that are left fit into the free places. Phase 1: items that count for a minimum which is
not reached yet. Phase 2: all other items. Every phase reads the items from the best key on, and skips an item if one of
its groups has its maximum. The list ends when it is full. Exchanges (`repair`) may change the result of phase 1.

The loop is not over items. In each step those are decided whose answer is the same for every answer of the undecided
ones before them; the first undecided item of a row always is.
"""

from typing import NamedTuple

from tfdnc.backend import tf


class Members(NamedTuple):
    """P memberships of candidates in groups, by group and then by candidate."""

    candidates: tf.Tensor  # [P] int32 row of the batch * C + place in the order of the keys
    groups: tf.Tensor  # [P] int32 from 0 up, never decreasing
    least: tf.Tensor  # [P] int32 of the group, 0 for no bound
    most: tf.Tensor  # [P] int32 of the group


class Minima(NamedTuple):
    """The candidates that are chosen for minima, by phase."""

    several: tf.Tensor  # [B, C] bool, of phase 0
    needed: tf.Tensor  # [B, C] bool, of phase 1
    lacking: tf.Tensor  # [B] int32 sum of the minima less the places, after phase 0

    @property
    def both(self) -> tf.Tensor:
        """`[B, C]` bool."""
        return self.several | self.needed


def choose_minima(available: tf.Tensor, members: Members, num_candidates: tf.Tensor, promised: tf.Tensor) -> Minima:
    """Chooses the candidates of phases 0 and 1 from candidates in the order of their keys.

    Args:
        available: `[B, C]` bool, False for columns without an item.
        members: memberships; a group holds candidates of one row.
        num_candidates: `[B]` int32 lengths of the lists.
        promised: `[B]` int32 sum of the minima of the row.
    """
    scan = _Scan(members, tf.size(available))
    nothing = tf.zeros(tf.shape(available), tf.bool)
    excess = promised - num_candidates

    def both() -> tuple[tf.Tensor, tf.Tensor]:
        found, helped = scan(nothing, available & (excess > 0)[:, None], need=2)
        saved = tf.where(found, helped - 1, 0)
        kept = found & (tf.cumsum(saved, axis=1, exclusive=True) < excess[:, None])
        kept = _first(kept, num_candidates)
        return kept, excess - tf.reduce_sum(tf.where(kept, saved, 0), axis=1)

    several, lacking = tf.cond(tf.reduce_any(excess > 0), both, lambda: (nothing, excess))

    def minima() -> tf.Tensor:
        found, _ = scan(several, available & ~several, need=1)
        return _first(found, num_candidates - count(several))

    return Minima(several, tf.cond(tf.reduce_any(promised > 0), minima, lambda: nothing), lacking)


def fill(available: tf.Tensor, members: Members, num_candidates: tf.Tensor, taken: tf.Tensor) -> tf.Tensor:
    """Returns `[B, C]` bool, the candidates of phase 2 beside `taken` ones; the other arguments as before."""
    others, _ = _Scan(members, tf.size(available))(taken, available & ~taken, need=0)
    return _first(others, num_candidates - count(taken))


def count(chosen: tf.Tensor) -> tf.Tensor:
    """Returns `[B]` int32, the number of chosen columns of `[B, C]`."""
    return tf.reduce_sum(tf.cast(chosen, tf.int32), axis=1)


def in_groups(flags: tf.Tensor, members: Members, size: tf.Tensor) -> tf.Tensor:
    """Returns `[size]` int32, the number of flagged `[P]` memberships of every group."""
    return tf.math.unsorted_segment_sum(tf.cast(flags, tf.int32), members.groups, size)


class _Scan:
    """One reading of the candidates."""

    def __init__(self, members: Members, size: tf.Tensor) -> None:
        self._members = members
        self._size = size
        self._num_groups = tf.reduce_max(tf.concat([members.groups, [-1]], axis=0)) + 1
        sizes = tf.math.unsorted_segment_sum(tf.ones_like(members.groups), members.groups, self._num_groups)
        self._starts = tf.gather(tf.cumsum(sizes, exclusive=True), members.groups)  # [P]

    def __call__(self, taken: tf.Tensor, undecided: tf.Tensor, need: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the accepted candidates `[B, C]`, and the number of minima that each counted for `[B, C]` int32.

        Args:
            taken: `[B, C]` bool, accepted before; they count for all bounds.
            undecided: `[B, C]` bool, to be decided.
            need: minima that an accepted candidate has to count for.
        """
        shape, members = tf.shape(taken), self._members
        before = in_groups(tf.gather(tf.reshape(taken, [-1]), members.candidates), members, self._num_groups)
        before = tf.gather(before, members.groups)

        def step(accepted: tf.Tensor, undecided: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            least = before + self._earlier(accepted)  # results of the group before the candidate, at least and at most
            most = least + self._earlier(undecided)
            full, maybe_full, unmet, surely_unmet = self._sums(
                least >= members.most, most >= members.most, least < members.least, most < members.least
            )
            yes = undecided & (maybe_full == 0) & (surely_unmet >= need)
            no = undecided & ((full > 0) | (unmet < need))
            return accepted | yes, undecided & ~yes & ~no

        undecided = tf.reshape(undecided, [-1])
        start = tf.zeros_like(undecided), undecided
        accepted, _ = tf.while_loop(lambda _, undecided: tf.reduce_any(undecided), step, start)
        (helped,) = self._sums(before + self._earlier(accepted) < members.least)
        return tf.reshape(accepted, shape), tf.reshape(helped, shape)

    def _earlier(self, flags: tf.Tensor) -> tf.Tensor:
        """Returns `[P]` int32, the flagged candidates of the group before this one, of `[B * C]` flags."""
        own = tf.cast(tf.gather(flags, self._members.candidates), tf.int32)
        before = tf.cumsum(own, exclusive=True)
        return before - tf.gather(before, self._starts)

    def _sums(self, *flags: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns, for each of the `[P]` flags, `[B * C]` int32 flagged memberships of every candidate."""
        columns = tf.cast(tf.stack(flags, axis=1), tf.int32)
        sums = tf.math.unsorted_segment_sum(columns, self._members.candidates, self._size)
        return tuple(tf.unstack(sums, len(flags), axis=1))


def _first(flags: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Keeps the first `[B]` places flags of every row of `[B, C]`."""
    return flags & (tf.cumsum(tf.cast(flags, tf.int32), axis=1) <= places[:, None])
