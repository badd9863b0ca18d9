"""A harder copy of a MovieLens log: with fewer users, with fewer ratings per user, or with new movies.

    python developer_benchmarks/movielens_log.py FOLDER OUTPUT --users 800
    python developer_benchmarks/movielens_log.py FOLDER OUTPUT --events 9
    python developer_benchmarks/movielens_log.py FOLDER OUTPUT --hidden 0.1
    tfdnc evaluate CONFIG --set data.format=movielens --set data.path=OUTPUT

A method for a million ratings of users with 165 each may fail on logs that are small, or sparse, or grow. Hidden movies
lose all ratings but those among the last two of a user, which are held out. With `data.min_item_events=1` and
`model.item_features=true`, `report.json` has the recall of these movies as `cold_targets`. Ratings stay in the order of
the file, which also decides ties in time in `tfdnc`.
"""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

LOG, ITEMS = "ratings.dat", "movies.dat"


class Log:
    """The E ratings of a file, read from it.

    Args:
        path: path of `ratings.dat`.

    Attributes:
        lines: E lines.
        user: `[E]` number of the line's user, 0..U-1.
        item: `[E]` number of the line's item, 0..N-1.
        rank: `[E]` rank of the line among those of its user by time, 0 for the first.
        events: `[U]` number of lines of each user.
    """

    def __init__(self, path: Path) -> None:
        self.lines = path.read_bytes().splitlines(keepends=True)
        users, items, _, times = zip(*(line.split(b"::") for line in self.lines), strict=True)
        self.user, events = np.unique(users, return_inverse=True, return_counts=True)[1:]
        self.item = np.unique(items, return_inverse=True)[1]
        order = np.lexsort((np.arange(len(self.lines)), np.array(times, np.int64), self.user))
        self.rank = np.empty(len(self.lines), np.int64)
        self.rank[order] = np.arange(len(self.lines)) - np.repeat(np.cumsum(events) - events, events)
        self.events = events


def in_some_users(log: Log, number: float, rng: np.random.Generator) -> np.ndarray:
    """Returns `[E]` bool, True for the lines of `number` random users."""
    return (rng.permutation(len(log.events)) < number)[log.user]


def in_windows(log: Log, length: float, rng: np.random.Generator) -> np.ndarray:
    """Returns `[E]` bool, True for `length` consecutive events of each user, or for all if there are no more."""
    first = rng.integers(0, np.maximum(log.events - int(length), 0) + 1)[log.user]
    return (log.rank >= first) & (log.rank < first + length)


def without_training_events(log: Log, share: float, rng: np.random.Generator) -> np.ndarray:
    """Returns `[E]` bool, False for lines of a random share of the items, except the last two lines of each user."""
    number = log.item.max() + 1
    hidden = rng.permutation(number) < round(share * number)
    return ~hidden[log.item] | (log.rank >= log.events[log.user] - 2)


Filter = Callable[[Log, float, np.random.Generator], np.ndarray]
"""(log, size, generator) -> `[E]` bool, True for the lines to keep."""

FILTERS: dict[str, Filter] = {"users": in_some_users, "events": in_windows, "hidden": without_training_events}


def write_part(source: Path, output: Path, seed: int = 1, **sizes: float | None) -> dict[str, int]:
    """Writes the lines that all filters keep, and a copy of the item file.

    Args:
        source: folder with both files.
        output: folder for both files, made if missing.
        seed: seed of each filter.
        sizes: arguments of `FILTERS` by name; None keeps all lines.

    Returns:
        Numbers of the `users`, `items` and `events` left.
    """
    log = Log(source / LOG)
    kept = np.ones(len(log.lines), bool)
    for name, size in sizes.items():
        if size is not None:
            kept &= FILTERS[name](log, size, np.random.default_rng(seed))
    output.mkdir(parents=True, exist_ok=True)
    (output / LOG).write_bytes(b"".join(line for line, keep in zip(log.lines, kept, strict=True) if keep))
    shutil.copy2(source / ITEMS, output / ITEMS)
    return {"users": len(set(log.user[kept])), "items": len(set(log.item[kept])), "events": int(kept.sum())}


def main() -> None:
    """Writes the folder and prints the numbers of users, items and events left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help=f"with {LOG} and {ITEMS}")
    parser.add_argument("output", type=Path)
    parser.add_argument("--users", type=int, help="how many, drawn at random")
    parser.add_argument("--events", type=int, help="of each user: a window that long, drawn at random")
    parser.add_argument("--hidden", type=float, help="share of the movies, drawn at random")
    parser.add_argument("--seed", type=int, default=1)
    flags = vars(parser.parse_args())
    print(write_part(flags.pop("folder"), flags.pop("output"), flags.pop("seed"), **flags))


if __name__ == "__main__":
    main()
