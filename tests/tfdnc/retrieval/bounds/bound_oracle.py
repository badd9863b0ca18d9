"""A slow oracle for bounds: one item after the other is asked, by the words of docs/rules.md."""

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


def is_barred(conditions, bounds, attributes):
    """True if a minimum is of a value that no item has which passes the conditions."""
    single = {one.name for one in attributes if one.kind in ("value", "boolean")}
    for (column, value), count in read(bounds)[0].items():
        required = [text for text in conditions if column in single and text.startswith(f"{column}=")]
        if count and (f"{column}!={value}" in conditions or (required and f"{column}={value}" not in required)):
            return True
    return False


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


def choose(order, groups, promised, length, cluster_of=None):
    """The chosen items, in order.

    Args:
        order: items, best key first.
        groups: item -> `groups_of`.
        promised: sum of all minima.
        length: of the list.
        cluster_of: item -> cluster, for exchanges; None for a choice without.
    """
    counts, chosen = Counter(), set()
    lacking = promised - length

    def helps(item):
        return sum(counts[key] < least for key, (least, _) in groups[item].items())

    def take(item, need):
        blocked = any(counts[key] >= most for key, (_, most) in groups[item].items())
        helped = helps(item)
        if blocked or helped < need or item in chosen or len(chosen) == length:
            return 0
        counts.update(groups[item].keys())
        chosen.add(item)
        return helped

    for item in order:
        if lacking > 0:
            lacking -= max(take(item, 2) - 1, 0)
    for item in order:
        take(item, 1)
    if cluster_of is not None:
        chosen = exchanged(order, groups, chosen, length, cluster_of)
        counts = counted(chosen, groups)
    for item in order:
        take(item, 0)
    return [item for item in order if item in chosen]


def counted(chosen, groups):
    """The number of chosen items of every group."""
    return Counter(key for item in chosen for key in groups[item])


def shortage(chosen, groups, minima):
    """The results that `chosen` lacks of all minima."""
    counts = counted(chosen, groups)
    return sum(max(least - counts[key], 0) for key, least in minima.items())


def exchanged(order, groups, chosen, length, cluster_of):
    """The chosen items after the exchanges that docs/rules.md describes, with the constants of `repair`."""
    minima, maxima = ({key: pair[n] for i in order for key, pair in groups[i].items()} for n in (0, 1))
    minima = {key: least for key, least in minima.items() if least}
    bounded = {key for key, most in maxima.items() if most < 10**9} | minima.keys()
    kinds = {item: frozenset(bounded & groups[item].keys()) for item in order}
    in_clusters, near = Counter(), set()
    for item in order:
        near |= {item} if in_clusters[cluster_of(item)] < length else set()
        in_clusters[cluster_of(item)] += 1
    reached, plenty = counted(chosen, groups), counted(near, groups)
    scarce = {key for key, least in minima.items() if reached[key] < least or plenty[key] < 2 * least}
    depth, found = Counter(), []
    for item in order:
        best = item in near and bool(groups[item].keys() & minima.keys())
        for key in groups[item].keys() & minima.keys():
            best |= key in scarce and depth[key, cluster_of(item)] < max(length, 64)
            depth[key, cluster_of(item)] += 1
        if best or item in chosen:
            depth[kinds[item]] += 1
            if depth[kinds[item]] <= length:
                found.append(item)
    unavoidable = shortage(found, groups, minima)
    now, resting, weights = set(chosen), Counter(), Counter()
    best, lacking, quiet, step = set(chosen), shortage(chosen, groups, minima), 0, 0
    while lacking > unavoidable and quiet < 256 and step < 256 + 4 * length:
        counts = counted(now, groups)
        short = {key for key, least in minima.items() if counts[key] < least}
        over = {key for key, most in maxima.items() if counts[key] > most}
        valid = not over and len(now) <= length
        quiet += 1
        if valid and shortage(now, groups, minima) < lacking:
            best, lacking, quiet = set(now), shortage(now, groups, minima), 0
        moved = None
        for place, item in enumerate(found):
            own = groups[item]
            mends = own.keys() & (short if valid else over)
            if (item in now) == valid or resting[item] > step or not (mends or len(now) > length):
                continue
            breaks = [
                key for key in own if (counts[key] >= maxima[key] if valid else counts[key] <= minima.get(key, 0))
            ]
            gain = sum(1 + weights[key] for key in mends) - sum(1 + weights[key] for key in breaks)
            score = (gain, -place if valid else place)
            if quiet >= 16 and quiet % 5 == 0:
                score = ((place * 40503 + step * step * 30011 + step * 7919) % 65521,)
            if moved is None or score > moved[0]:
                moved = score, item
        if moved is not None:
            now ^= {moved[1]}
            resting[moved[1]] = step + 5
        weights.update(short | over)
        step += 1
    if lacking == shortage(chosen, groups, minima):
        return chosen
    wanted, kept = Counter(kinds[item] for item in best), set()
    for item in found:
        if wanted[kinds[item]]:
            wanted[kinds[item]] -= 1
            kept.add(item)
    return kept
