"""A slow oracle for bounds: one item after the other is asked, by the words of docs/serving.md."""

import re
from collections import Counter

from tfdnc.contracts.bounds import BOUND


def draw_bounds(rng, attributes, length, most=4):
    """Up to `most` bounds on known values, of which no two collide by their numbers alone."""
    columns = [one for one in attributes if one.numbers is None]
    for _ in range(100):
        found, largest = [], length if rng.random() < 0.3 else length // 2
        for _ in range(rng.integers(0, most + 1)):
            column = columns[rng.integers(0, len(columns))]
            value = rng.choice(sorted({text for own in column.texts for text in own}))
            if rng.random() < 0.2:
                found.append(f"{column.name}=*<={rng.integers(0, 6)}")
            else:
                found.append(f"{column.name}={value}{rng.choice(['>=', '<='])}{rng.integers(0, 1 + largest)}")
        if not collides(found, attributes, length):
            return found
    return []


def read(bounds):
    """Two dicts by column and value: minima, and maxima."""
    least, most = {}, {}
    for column, value, sign, count in (re.match(BOUND, text).groups() for text in bounds if text):
        if sign == ">=":
            least[column, value] = max(int(count), least.get((column, value), 0))
        else:
            most[column, value] = min(int(count), most.get((column, value), 10**9))
    return least, most


def limit_of(most, column, value):
    """The maximum of a value: its own, else that of each value of the column."""
    return most.get((column, value), most.get((column, "*"), 10**9))


def collides(bounds, attributes, length):
    """True for bounds that no list of this length can keep."""
    least, most = read(bounds)
    sums = Counter()
    single = {one.name for one in attributes if one.kind in ("value", "boolean")}
    for (column, value), count in least.items():
        sums[column] += count if column in single else 0
        if count > limit_of(most, column, value) or count > length:
            return True
    return any(total > length for total in sums.values())


def groups_of(item, bounds, attributes, cluster, cluster_least=(), cluster_most=()):
    """The groups of an item, as key -> (minimum, maximum)."""
    least, most = read(bounds)
    found = {}
    for attribute in attributes:
        for value in attribute.texts[item] if attribute.numbers is None else ():
            key = attribute.name, value
            found[key] = least.get(key, 0), limit_of(most, *key)
    if len(cluster_least):
        found["cluster", cluster] = int(cluster_least[cluster]), int(cluster_most[cluster])
    return found


def choose(order, groups, promised, length):
    """The chosen items, in order.

    Args:
        order: items, best key first.
        groups: item -> `groups_of`.
        promised: sum of all minima.
        length: of the list.
    """
    counts, chosen = Counter(), []
    lacking = promised - length

    def helps(item):
        return sum(counts[key] < least for key, (least, _) in groups[item].items())

    def take(item, need):
        blocked = any(counts[key] >= most for key, (_, most) in groups[item].items())
        helped = helps(item)
        if blocked or helped < need or item in chosen or len(chosen) == length:
            return 0
        counts.update(groups[item].keys())
        chosen.append(item)
        return helped

    for item in order:
        if lacking > 0:
            lacking -= max(take(item, 2) - 1, 0)
    for need in (1, 0):
        for item in order:
            take(item, need)
    return [item for item in order if item in chosen]
