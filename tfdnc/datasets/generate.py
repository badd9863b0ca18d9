"""A generated log with planted tastes: hidden groups of items, users with a few interests, and a learnable order.

The model of the log, against which results can be judged:

- Every item belongs to one hidden group. The items of a group form a ring of similar items; the number in a title is
  the position on the ring ("Jazz #12" is between "Jazz #11" and "Jazz #13").
- Inside a group, the popularity of items follows Zipf's law, in random order on the ring. The log itself is less
  skewed, because no user has a popular item twice.
- The popularity of groups differs too.
- A user has `interests_per_user` groups with Dirichlet weights. An event stays in the group of the previous event with
  probability `PERSISTENCE`, else its group is drawn from the user's weights.
- Inside a group, a user's events are a random walk. With probability `FOLLOW`, the next item is a little further on the
  ring than the user's last item *of that group*. Otherwise it is any item of the group, drawn by popularity. So the
  last item of a group predicts the next one, even after events in other groups.
- No user has an item twice, unless `repeats` is above 0. Then an event returns with this probability to the item of one
  of the user's events, each as likely as another. All other events are of items that the user has not had.
"""

import csv
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfdnc.contracts.config import GenerateConfig
from tfdnc.contracts.errors import UserError

LOG = "log.csv"
"""Columns user_id, item_id, timestamp (seconds); rows in order of time."""

ITEM_FILE = "items.csv"
"""Columns item_id, title, categories (the hidden group, one per item)."""

GROUP_NAMES = (
    "Jazz",
    "Hiking",
    "Cooking",
    "Chess",
    "Gardening",
    "Sailing",
    "Astronomy",
    "Pottery",
    "Cycling",
    "Opera",
    "Photography",
    "Cinema",
    "Football",
    "Knitting",
    "Robotics",
    "History",
    "Travel",
    "Poetry",
    "Climbing",
    "Cats",
)

PERSISTENCE = 0.7
FOLLOW = 0.75
MAX_STEP = 16  # positions on the ring
MEAN_STEP = 6.0  # positions on the ring, before the popularity of items is applied
GROUP_SKEW = 0.5  # Zipf exponent of the groups' popularity
DIRICHLET = 1.0  # concentration of a user's weights over interests; lower is more uneven
LENGTH_SHAPE = 4.0  # shape of the gamma distribution of events per user; higher is more even
MIN_EVENTS = 5
USERS_AT_A_TIME = 4096  # bounds the memory for the items that each user has seen
REDRAWS = 8

START = 1_700_000_000  # seconds since 1970: November 2023
SPAN = 365 * 86_400
MEAN_GAP = 3_600


@dataclass(frozen=True)
class _Catalogue:
    """Items of group g are `first[g] .. first[g] + size[g] - 1`, in ring order.

    Attributes:
        first: int64 [G].
        size: int64 [G].
        weight: float64 [N] popularity, 1 summed over a group.
        cumulative: float64 [N] running sum of `weight`: group g covers (g, g + 1].
    """

    first: np.ndarray
    size: np.ndarray
    weight: np.ndarray
    cumulative: np.ndarray


def generate_log(config: GenerateConfig, seed: int, output: Path) -> dict[str, float]:
    """Writes `log.csv` and `items.csv`; equal arguments give equal bytes.

    Args:
        config: sizes and skew.
        seed: of all random choices.
        output: folder for the two files, made if missing.

    Returns:
        Figures: `users`, `items`, `groups`, `events`, `top_tenth_share` (share of the events on the most popular tenth
        of the items), `seconds`.

    Raises:
        UserError: the sizes contradict each other.
    """
    started = time.perf_counter()
    _check(config)
    rng = np.random.default_rng(seed)
    catalogue = _make_catalogue(config, rng)
    blocks = []
    for first_user in range(0, config.users, USERS_AT_A_TIME):
        size = min(USERS_AT_A_TIME, config.users - first_user)
        users, items, steps = _walk(size, config, catalogue, rng)
        blocks.append((users + first_user, items, _timestamps(users, steps, size, rng)))
    users, items, times = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    # As in a real log, ids do not reveal the group, and rows are in order of time.
    item_ids = rng.permutation(config.items) + 1
    order = np.lexsort((users, times))
    output.mkdir(parents=True, exist_ok=True)
    _write_csv(output / ITEM_FILE, ("item_id", "title", "categories"), _describe_items(item_ids, catalogue))
    rows = zip(users[order] + 1, item_ids[items[order]], times[order], strict=True)
    _write_csv(output / LOG, ("user_id", "item_id", "timestamp"), rows)
    popularity = np.sort(np.bincount(items, minlength=config.items))[::-1]
    return {
        "users": config.users,
        "items": config.items,
        "groups": config.groups,
        "events": len(items),
        "top_tenth_share": float(popularity[: max(1, config.items // 10)].sum() / len(items)),
        "seconds": time.perf_counter() - started,
    }


def group_name(group: int) -> str:
    """Returns the readable name of a hidden group; names beyond the list get a number."""
    name = GROUP_NAMES[group % len(GROUP_NAMES)]
    return name if group < len(GROUP_NAMES) else f"{name} {group // len(GROUP_NAMES) + 1}"


def _check(config: GenerateConfig) -> None:
    if config.interests_per_user > config.groups:
        raise UserError(
            f"Expected generate.interests_per_user of at most generate.groups = {config.groups}, got "
            f"{config.interests_per_user}."
        )
    most = _max_events(config)
    if config.mean_events < MIN_EVENTS or config.mean_events > most:
        raise UserError(
            f"Expected generate.mean_events between {MIN_EVENTS} and {most} (half of the items in one user's "
            f"{config.interests_per_user} interests, as no user meets an item twice), got {config.mean_events}; change "
            "it, or raise generate.items."
        )


def _max_events(config: GenerateConfig) -> int:
    return config.interests_per_user * (config.items // config.groups) // 2


def _make_catalogue(config: GenerateConfig, rng: np.random.Generator) -> _Catalogue:
    bounds = np.arange(config.groups + 1) * config.items // config.groups
    size = np.diff(bounds)
    weight = np.empty(config.items)
    for first, count in zip(bounds, size, strict=False):
        zipf = np.arange(1, count + 1) ** -config.popularity_exponent
        weight[first : first + count] = rng.permutation(zipf / zipf.sum())
    return _Catalogue(bounds[:-1], size, weight, np.cumsum(weight))


def _walk(
    users: int, config: GenerateConfig, catalogue: _Catalogue, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Generates the events of `users` users, one event of each user per step.

    Returns:
        user, item and step of every event, each int64 [E], step after step.
    """
    lengths = _lengths(users, config, rng)
    interests = _interests(users, config, rng)
    cumulative = np.cumsum(rng.dirichlet(np.full(config.interests_per_user, DIRICHLET), users), axis=1)  # [users, I]
    seen = np.zeros((users, config.items), dtype=bool)
    last_items = np.full((users, config.groups), -1)  # last item of the user in each group
    had = np.empty((users, lengths.max()), dtype=np.int32)  # items of the user's events
    group = np.empty(users, dtype=np.int64)
    events = []
    for step in range(lengths.max()):
        active = np.flatnonzero(lengths > step)
        moving = active if step == 0 else active[rng.random(len(active)) >= PERSISTENCE]
        chosen = (cumulative[moving] < rng.random((len(moving), 1))).sum(axis=1).clip(max=config.interests_per_user - 1)
        group[moving] = interests[moving, chosen]
        items = _next_items(active, group[active], last_items, seen, catalogue, rng)
        if config.repeats and step:
            returning = np.flatnonzero(rng.random(len(active)) < config.repeats)
            earlier = (rng.random(len(returning)) * step).astype(np.int64)
            items[returning] = had[active[returning], earlier]
        had[active, step] = items
        seen[active, items] = True
        # If a group is exhausted, or the user returns to an item, the user continues in the group of the item.
        group[active] = np.searchsorted(catalogue.first, items, side="right") - 1
        last_items[active, group[active]] = items
        events.append((active, items, np.full(len(active), step)))
    event_users, event_items, steps = (np.concatenate(parts) for parts in zip(*events, strict=True))
    return event_users, event_items, steps


def _interests(users: int, config: GenerateConfig, rng: np.random.Generator) -> np.ndarray:
    """Returns int64 [users, interests_per_user] different groups of each user; low groups have more users."""
    # The largest sums of log-weight and Gumbel noise are a draw by weight, without replacement.
    log_weight = -GROUP_SKEW * np.log(np.arange(1, config.groups + 1))
    noisy = log_weight + rng.gumbel(size=(users, config.groups))
    return np.argsort(-noisy, axis=1)[:, : config.interests_per_user]


def _next_items(
    users: np.ndarray,
    groups: np.ndarray,
    last_items: np.ndarray,
    seen: np.ndarray,
    catalogue: _Catalogue,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns int64 [users] an unseen item of each user's group: a step on the ring, or any item by popularity."""
    items = np.full(len(users), -1)
    last = last_items[users, groups]
    walkers = np.flatnonzero((last >= 0) & (rng.random(len(users)) < FOLLOW))
    items[walkers] = _steps(users[walkers], groups[walkers], last[walkers], seen, catalogue, rng)
    for _ in range(REDRAWS):
        missing = np.flatnonzero(items < 0)
        draw = groups[missing] + rng.random(len(missing))
        first = catalogue.first[groups[missing]]
        drawn = np.clip(np.searchsorted(catalogue.cumulative, draw), first, first + catalogue.size[groups[missing]] - 1)
        items[missing] = np.where(seen[users[missing], drawn], -1, drawn)
    for index in np.flatnonzero(items < 0):
        items[index] = _any_unseen(groups[index], seen[users[index]], catalogue, rng)
    return items


def _steps(
    users: np.ndarray,
    groups: np.ndarray,
    last: np.ndarray,
    seen: np.ndarray,
    catalogue: _Catalogue,
    rng: np.random.Generator,
) -> np.ndarray:
    """Returns int64 [users] an item 1..MAX_STEP positions after `last`, mostly near ones; -1 if all were seen."""
    first, size = catalogue.first[groups][:, None], catalogue.size[groups][:, None]
    steps = np.arange(1, MAX_STEP + 1)
    reachable = first + (last[:, None] - first + steps) % size  # [users, MAX_STEP]
    weight = np.exp(-steps / MEAN_STEP) * catalogue.weight[reachable] * ~seen[users[:, None], reachable]
    cumulative = np.cumsum(weight, axis=1)
    total = cumulative[:, -1:]
    chosen = (cumulative <= rng.random((len(users), 1)) * total).sum(axis=1).clip(max=MAX_STEP - 1)
    return np.where(total[:, 0] > 0, reachable[np.arange(len(users)), chosen], -1)


def _any_unseen(group: int, seen: np.ndarray, catalogue: _Catalogue, rng: np.random.Generator) -> int:
    """Returns an unseen item of the group by popularity, or of the catalogue when the group is exhausted."""
    weight = np.where(seen, 0.0, catalogue.weight)
    inside = slice(catalogue.first[group], catalogue.first[group] + catalogue.size[group])
    if weight[inside].any():
        return catalogue.first[group] + rng.choice(catalogue.size[group], p=weight[inside] / weight[inside].sum())
    return rng.choice(len(weight), p=weight / weight.sum())


def _lengths(users: int, config: GenerateConfig, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.gamma(LENGTH_SHAPE, config.mean_events / LENGTH_SHAPE, users)
    return np.rint(drawn).astype(np.int64).clip(MIN_EVENTS, _max_events(config))


def _timestamps(users: np.ndarray, steps: np.ndarray, num_users: int, rng: np.random.Generator) -> np.ndarray:
    """Returns int64 [E] seconds: a user starts at any time of the span; gaps are exponential and at least a second."""
    gaps = 1 + rng.exponential(MEAN_GAP, len(users)).astype(np.int64)
    order = np.lexsort((steps, users))
    running = np.cumsum(gaps[order])
    starts = np.flatnonzero(steps[order] == 0)
    lengths = np.diff(np.append(starts, len(users)))
    within = running - np.repeat(running[starts], lengths)
    times = np.empty_like(gaps)
    times[order] = START + np.repeat(rng.integers(0, SPAN, num_users), lengths) + within
    return times


def _describe_items(item_ids: np.ndarray, catalogue: _Catalogue) -> Iterator[tuple[int, str, str]]:
    """Yields id, title and category of every item, in ring order of its group."""
    for group, (first, size) in enumerate(zip(catalogue.first, catalogue.size, strict=True)):
        name = group_name(group)
        for position in range(size):
            yield item_ids[first + position], f"{name} #{position + 1}", name


def _write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Writes to a temporary name and renames, so that a killed run leaves no half-written file."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    temporary.replace(path)
