"""A harder copy of a MovieLens log: some of its users, a few ratings of each in a row, or movies that nobody knows yet.

    python benchmarks/movielens_log.py FOLDER OUTPUT --users 800
    python benchmarks/movielens_log.py FOLDER OUTPUT --events 9
    python benchmarks/movielens_log.py FOLDER OUTPUT --hidden 0.1
    tfdnc evaluate CONFIG --set data.format=movielens --set data.path=OUTPUT

What works on a million ratings of users with 165 each need not work on logs that are small, or sparse, or grow. Hidden
movies have no ratings but those among the last two of a user, which are held out: with `data.min_item_events=1` and
`model.item_features=true`, `report.json` has the recall of these as `cold_targets`. Ratings stay in the order of the
file, by which `tfdnc`, too, breaks ties in time.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

LOG, ITEMS = "ratings.dat", "movies.dat"


class Log:
    """The ratings of a file, and where each of its E lines is among those of its user, by time."""

    def __init__(self, path: Path):
        """Reads `ratings.dat`."""
        self.lines = path.read_bytes().splitlines(keepends=True)
        users, items, _, times = zip(*(line.split(b"::") for line in self.lines), strict=True)
        self.user, events = np.unique(users, return_inverse=True, return_counts=True)[1:]
        self.item = np.unique(items, return_inverse=True)[1]
        order = np.lexsort((np.arange(len(self.lines)), np.array(times, np.int64), self.user))
        self.rank = np.empty(len(self.lines), np.int64)  # 0 is the user's first
        self.rank[order] = np.arange(len(self.lines)) - np.repeat(np.cumsum(events) - events, events)
        self.events = events  # [U]


def of_some_users(log: Log, number: int, rng: np.random.Generator) -> np.ndarray:
    """`[E]` bool: the lines of `number` users."""
    return (rng.permutation(len(log.events)) < number)[log.user]


def of_windows(log: Log, length: int, rng: np.random.Generator) -> np.ndarray:
    """`[E]` bool: of each user `length` events in a row, all where there are no more."""
    first = rng.integers(0, np.maximum(log.events - length, 0) + 1)[log.user]
    return (log.rank >= first) & (log.rank < first + length)


def without_training_events(log: Log, share: float, rng: np.random.Generator) -> np.ndarray:
    """`[E]` bool: all lines but those of a share of the items, which keep the last two of a user."""
    number = log.item.max() + 1
    hidden = rng.permutation(number) < round(share * number)
    return ~hidden[log.item] | (log.rank >= log.events[log.user] - 2)


LAWS = {"users": of_some_users, "events": of_windows, "hidden": without_training_events}


def write_part(source: Path, output: Path, seed: int = 1, **sizes: float | None) -> dict[str, int]:
    """Writes the lines that every law keeps, and the item file as it is.

    Args:
        source: folder with both files.
        output: folder for both files, made if missing.
        seed: of what each law draws.
        sizes: of `LAWS`; None keeps all.

    Returns:
        `users`, `items` and `events` that are left.
    """
    log = Log(source / LOG)
    kept = np.ones(len(log.lines), bool)
    for name, size in sizes.items():
        if size is not None:
            kept &= LAWS[name](log, size, np.random.default_rng(seed))
    output.mkdir(parents=True, exist_ok=True)
    (output / LOG).write_bytes(b"".join(line for line, stays in zip(log.lines, kept, strict=True) if stays))
    shutil.copy2(source / ITEMS, output / ITEMS)
    return {"users": len(set(log.user[kept])), "items": len(set(log.item[kept])), "events": int(kept.sum())}


def main() -> None:
    """Writes the folder and prints what is left."""
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
