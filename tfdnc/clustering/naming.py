"""Readable names of clusters: distinctive categories, else the years and the most popular titles."""

import re
from collections import Counter

import numpy as np

MIN_SUPPORT = 0.2
"""A category names a cluster only if at least this share of the cluster's items have it."""

MIN_LIFT = 1.5
"""A category names a cluster only if its share there is at least this many times its share in the catalogue."""

MIN_DATED = 0.9
"""Years make a name only if at least this share of the cluster's titles end in one."""

MAX_CATEGORIES = 3
NUM_TITLES = 2

YEAR = re.compile(r"\((\d{4})\)\s*$")
"""Year of release at the end of a title: "Alien (1979)"."""


def top_items(members: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns `members` (indexes into `counts`) by descending count; ties keep their order."""
    return members[np.argsort(-counts[members], kind="stable")]


def name_clusters(
    labels: np.ndarray,
    counts: np.ndarray,
    ids: list[str],
    titles: list[str | None],
    categories: list[list[str]],
) -> list[str]:
    """Returns K different names, one per cluster.

    A cluster whose items all have the same first category has its name. Otherwise the name is made of the categories
    that are over-represented among its items (lift with a least support), else of its most popular titles.

    Where the titles end in years and those of the cluster are of one period, the years come first, as in
    "1981-1989: Back to the Future (1985)"; Word2Vec finds such clusters on MovieLens. Items without titles are named
    by their ids ("items 87, 99, ..."). A name that two clusters would share is followed by a popular title of each.

    Args:
        labels: int [N], cluster 0..K-1 of each item.
        counts: int [N] events of each item.
        ids: N ids.
        titles: N titles, None or empty where unknown.
        categories: N lists of categories, empty where unknown.
    """
    num_clusters = labels.max() + 1
    if num_clusters == 1:
        return ["all items"]
    ranked = [top_items(np.flatnonzero(labels == k), counts) for k in range(num_clusters)]
    everywhere, years = _shares(categories), _years(titles)
    shown = [title or f"item {item_id}" for item_id, title in zip(ids, titles, strict=True)]
    names, examples = [], []
    for members in ranked:
        words = _distinctive_categories([categories[item] for item in members], everywhere)
        names.append(" / ".join(words) or _name_by_titles(members, ids, titles, years))
        # The example has the first category of the name; a popular item of another category would mislead.
        examples.append(next(shown[item] for item in members if not words or words[0] in categories[item]))
    return _distinct(names, examples)


def _distinctive_categories(categories: list[list[str]], everywhere: dict[str, float]) -> list[str]:
    """Returns at most `MAX_CATEGORIES` categories that distinguish these items from the catalogue, the best first."""
    first = {values[0] if values else None for values in categories}
    common = next(iter(first)) if len(first) == 1 else None
    if common is not None:
        return [common]
    shares = _shares(categories)
    lifts = {name: share / everywhere[name] for name, share in shares.items() if share >= MIN_SUPPORT}
    distinctive = [name for name in lifts if lifts[name] >= MIN_LIFT]
    # The score is lift times share: lift alone prefers rare categories, and share alone prefers common ones.
    return sorted(distinctive, key=lambda name: (-lifts[name] * shares[name], name))[:MAX_CATEGORIES]


def _shares(categories: list[list[str]]) -> dict[str, float]:
    """Returns the share of the items that have each category."""
    counts = Counter(name for values in categories for name in set(values))
    return {name: count / len(categories) for name, count in counts.items()}


def _years(titles: list[str | None]) -> np.ndarray:
    """Returns float [N]: the year at the end of each title, NaN without one."""
    matches = [YEAR.search(title or "") for title in titles]
    return np.array([float(match[1]) if match else np.nan for match in matches])


def _name_by_titles(ranked: np.ndarray, ids: list[str], titles: list[str | None], years: np.ndarray) -> str:
    """Returns the most popular titles, or ids; in a cluster of one period, its years and its most popular titles."""
    period = _period(years[ranked], years)
    if period is None:
        popular = ranked[:NUM_TITLES]
        if not any(titles[item] for item in popular):
            return _name_by_ids([ids[item] for item in popular], len(ranked))
        return " + ".join(titles[item] or f"item {ids[item]}" for item in popular)
    early, late = period
    typical = ranked[(years[ranked] >= early) & (years[ranked] <= late)]
    return f"{early}-{late}: " + " + ".join(titles[item] or "" for item in typical[:NUM_TITLES])  # all have years


def _name_by_ids(popular: list[str], size: int) -> str:
    """Returns a name made of the ids of the most popular items in a cluster of `size` items."""
    if size == 1:
        return f"item {popular[0]}"
    return f"items {', '.join(popular)}" + (", ..." if size > len(popular) else "")


def _period(years: np.ndarray, all_years: np.ndarray) -> tuple[int, int] | None:
    """Returns the first and last year of the middle 80 % of the items, None if they are no period of their own.

    They are one if they span at most half of the catalogue's years, or lie on one side of its median.
    """
    if np.isnan(years).mean() > 1 - MIN_DATED:
        return None
    early, late = np.nanpercentile(years, [10, 90])
    all_early, median, all_late = np.nanpercentile(all_years, [10, 50, 90])
    one_sided = late < median or early > median
    narrow = late - early <= (all_late - all_early) / 2
    return (int(early), int(late)) if one_sided or narrow else None


def _distinct(names: list[str], examples: list[str]) -> list[str]:
    """Returns different names: those that occur more than once get a title, and if necessary a number."""
    frequency = Counter(names)
    full = [f"{name} ({title})" if frequency[name] > 1 else name for name, title in zip(names, examples, strict=True)]
    taken: set[str] = set()
    for index, name in enumerate(full):
        number = 2
        while full[index] in taken:
            full[index] = f"{name} #{number}"
            number += 1
        taken.add(full[index])
    return full
