"""Exchanges for a choice that leaves a minimum short although it has items: a local search with a limit of steps.

Every step moves one item. If a maximum, or the length of the list, is exceeded, an item that counts for it leaves.
Otherwise an item that counts for a short minimum enters. Of these items the one is moved that mends most bounds and
breaks fewest. Bounds have weights, which grow while a bound stays broken. Where several items are equal, the best key
enters, and the worst key leaves. A moved item stays for a few steps where it is. After some steps without a better
list, every fifth step moves any of these items.

The result is the list with the smallest sum of missing results of all steps that exceed no maximum. Among items that
count for the same bounds it has those of the best keys.
"""

from typing import NamedTuple

from tfdnc.backend import tf
from tfdnc.retrieval.bounds.selection import Members

PATIENCE = 256
"""Steps without an improvement after which a row ends."""

_STEPS_PER_RESULT = 4  # and so many for every place of the list, that a row may take in all beside its patience
_REST = 4  # steps for which an item stays where it was put
_QUIET, _WALK = 16, 5  # steps without an improvement before any item may be moved, in one step of so many
_RADIX = 2**32  # above every order of items


class _Problem(NamedTuple):
    """E items that may be moved, row by row and best key first, and G bounds."""

    rows: tf.Tensor  # [E] int32 row of the batch
    places: tf.Tensor  # [E] int64 place in the row
    kinds: tf.Tensor  # [E] int32, the same for the items of a row that count for the same bounds
    items: tf.Tensor  # [P] int32 item of a membership
    groups: tf.Tensor  # [P] int32 bound of it
    least: tf.Tensor  # [G] int32
    most: tf.Tensor  # [G] int32
    group_rows: tf.Tensor  # [G] int32
    lengths: tf.Tensor  # [B] int32

    def in_groups(self, flags: tf.Tensor) -> tf.Tensor:
        """Returns `[G]` int32, the flagged `[E]` items of every bound."""
        own = tf.cast(tf.gather(flags, self.items), tf.int32)
        return tf.math.unsorted_segment_sum(own, self.groups, tf.size(self.least))

    def in_rows(self, values: tf.Tensor) -> tf.Tensor:
        """Returns `[B]` int32, sums of `[G]` int32 values."""
        return tf.math.unsorted_segment_sum(values, self.group_rows, tf.size(self.lengths))

    def of_items(self, values: tf.Tensor) -> tf.Tensor:
        """Returns `[E]` sums of `[G]` values over the bounds that an item counts for."""
        return tf.math.unsorted_segment_sum(tf.gather(values, self.groups), self.items, tf.size(self.rows))


class _State(NamedTuple):
    """State of the search."""

    step: tf.Tensor  # int32
    now: tf.Tensor  # [E] bool, True for items in the list
    resting: tf.Tensor  # [E] int32, the first step in which the item may be moved
    weights: tf.Tensor  # [G] int64
    lacking: tf.Tensor  # [B] int32, results that the minima lack in the best list so far
    quiet: tf.Tensor  # [B] int32 steps since that list
    best: tf.Tensor  # [E] bool, that list


def repair(chosen: tf.Tensor, eligible: tf.Tensor, members: Members, num_candidates: tf.Tensor) -> tf.Tensor:
    """Returns `[B, C]` bool, the choice after exchanges; the same for a row without a better one.

    Args:
        chosen: `[B, C]` bool, a choice that exceeds no maximum.
        eligible: `[B, C]` bool, True for items that may be moved, the chosen ones of their rows among them; rows that
            need no exchange have none.
        members: memberships.
        num_candidates: `[B]` int32 lengths of the lists.
    """
    every = _make_problem(eligible, members, num_candidates)
    # A list has no use for more items of a kind than it has places. The chosen ones are the best of their kind.
    few = ranks_in(every.kinds) < tf.gather(num_candidates, every.rows)
    eligible = tf.tensor_scatter_nd_update(eligible, tf.where(eligible), few)
    problem, at = _make_problem(eligible, members, num_candidates), tf.where(eligible)
    now = tf.gather_nd(chosen, at)
    has = problem.in_groups(tf.fill(tf.shape(now), True))
    unavoidable = problem.in_rows(tf.maximum(problem.least - has, 0))
    limits = PATIENCE + _STEPS_PER_RESULT * num_candidates
    nothing = tf.zeros_like(num_candidates)
    start = _State(
        tf.constant(0),
        now,
        tf.zeros_like(problem.rows),
        tf.ones_like(problem.least, tf.int64),
        problem.in_rows(tf.maximum(problem.least - problem.in_groups(now), 0)),
        nothing,
        now,
    )

    def active(state: _State) -> tf.Tensor:
        return (state.lacking > unavoidable) & (state.quiet < PATIENCE) & (state.step < limits)

    (end,) = tf.while_loop(
        lambda state: tf.reduce_any(active(state)), lambda state: (_move(problem, state, active(state)),), (start,)
    )
    better = tf.gather(end.lacking < start.lacking, problem.rows)
    wanted = tf.math.unsorted_segment_sum(tf.cast(end.best, tf.int32), problem.kinds, tf.size(problem.kinds))
    best_of_kinds = ranks_in(problem.kinds) < tf.gather(wanted, problem.kinds)
    return tf.tensor_scatter_nd_update(chosen, at, tf.where(better, best_of_kinds, now))


def _make_problem(eligible: tf.Tensor, members: Members, lengths: tf.Tensor) -> _Problem:
    numbers = tf.cumsum(tf.cast(tf.reshape(eligible, [-1]), tf.int32)) - 1  # of eligible candidates
    kept = tf.where(tf.gather(tf.reshape(eligible, [-1]), members.candidates))[:, 0]
    items = tf.gather(numbers, tf.gather(members.candidates, kept))
    distinct, groups = tf.unique(tf.gather(members.groups, kept))
    at = tf.where(eligible)
    rows = tf.cast(at[:, 0], tf.int32)
    least, most, group_rows = (
        tf.math.unsorted_segment_max(part, groups, tf.size(distinct))
        for part in (tf.gather(members.least, kept), tf.gather(members.most, kept), tf.gather(rows, items))
    )
    places = tf.gather_nd(tf.cumsum(tf.cast(eligible, tf.int64), axis=1) - 1, at)
    kinds = tf.math.unsorted_segment_sum(_spread(groups), items, tf.size(rows))
    return _Problem(rows, places, tf.unique(kinds).idx, items, groups, least, most, group_rows, lengths)


def _spread(numbers: tf.Tensor) -> tf.Tensor:
    """Returns int64 numbers, whose sums differ for different sets, as good as surely."""
    numbers = tf.cast(numbers, tf.int64) + 1
    for factor in (-7046029254386353131, -4417276706812531889):
        numbers = numbers * tf.constant(factor, tf.int64)
        numbers = tf.bitwise.bitwise_xor(numbers, tf.bitwise.right_shift(numbers, 29))
    return numbers


def _move(problem: _Problem, state: _State, active: tf.Tensor) -> _State:
    """Returns the state after a step of the active rows `[B]`."""
    batch, counts = tf.size(problem.lengths), problem.in_groups(state.now)
    short, over = counts < problem.least, counts > problem.most
    size = tf.math.unsorted_segment_sum(tf.cast(state.now, tf.int32), problem.rows, batch)
    too_long = size > problem.lengths
    lacking = problem.in_rows(tf.maximum(problem.least - counts, 0))
    valid = ~too_long & (problem.in_rows(tf.cast(over, tf.int32)) == 0)
    better = active & valid & (lacking < state.lacking)
    quiet = tf.where(better, 0, state.quiet + 1)
    best = tf.where(tf.gather(better, problem.rows), state.now, state.best)

    entering = tf.gather(valid, problem.group_rows)  # [G] bool
    broken = tf.where(entering, short, over)
    breaks = tf.where(entering, counts >= problem.most, counts <= problem.least)
    gain = problem.of_items(state.weights * (tf.cast(broken, tf.int64) - tf.cast(breaks, tf.int64)))
    mends = (problem.of_items(tf.cast(broken, tf.int32)) > 0) | tf.gather(too_long, problem.rows)
    enters = tf.gather(valid, problem.rows)
    free = (state.now != enters) & mends & (state.resting <= state.step) & tf.gather(active, problem.rows)
    moved = _choose(problem, free, gain, enters, (quiet >= _QUIET) & (quiet % _WALK == 0), state.step)
    return _State(
        state.step + 1,
        state.now ^ moved,
        tf.where(moved, state.step + 1 + _REST, state.resting),
        state.weights + tf.cast(short | over, tf.int64),
        tf.where(better, lacking, state.lacking),
        quiet,
        best,
    )


def _choose(
    problem: _Problem, free: tf.Tensor, gain: tf.Tensor, enters: tf.Tensor, walks: tf.Tensor, step: tf.Tensor
) -> tf.Tensor:
    """Returns `[E]` bool, at most one item of every row that is `[E]` free; any one in rows that `[B]` walk."""
    at, rows = tf.cast(step, tf.int64), problem.rows
    drawn = (problem.places * 40503 + at * at * 30011 + at * 7919) % 65521  # as good as random
    score = gain * _RADIX + tf.where(enters, -problem.places, problem.places)
    score = tf.where(free, tf.where(tf.gather(walks, rows), drawn, score), tf.int64.min)
    highest = tf.math.unsorted_segment_max(score, rows, tf.size(problem.lengths))
    is_highest = free & (score == tf.gather(highest, rows))
    numbers = tf.range(tf.size(rows))
    first = tf.math.unsorted_segment_min(tf.where(is_highest, numbers, tf.int32.max), rows, tf.size(problem.lengths))
    return numbers == tf.gather(first, rows)


def ranks_in(kinds: tf.Tensor) -> tf.Tensor:
    """Returns `[E]` int32, how many elements of the same kind `[E]` int32 are before each."""
    order = tf.argsort(kinds, stable=True)
    ordered = tf.gather(kinds, order)
    ranks = tf.range(tf.size(kinds)) - tf.searchsorted(ordered, ordered)
    return tf.scatter_nd(order[:, None], ranks, tf.shape(kinds))
