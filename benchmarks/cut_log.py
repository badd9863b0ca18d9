"""A smaller copy of a MovieLens log: some of its users, or a few ratings of each in a row.

    python benchmarks/cut_log.py FOLDER OUTPUT --users 800
    python benchmarks/cut_log.py FOLDER OUTPUT --events 9
    tfdnc evaluate CONFIG --set data.format=movielens --set data.path=OUTPUT

What works on a million ratings of users with 165 each need not work on logs that are small, or sparse.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

LOG, ITEMS = "ratings.dat", "movies.dat"


def cut_log(source: Path, output: Path, users: int | None, events: int | None, seed: int) -> dict[str, int]:
    """Writes the part of the log, in the order of the file, and the item file as it is.

    Args:
        source: folder with both files.
        output: folder for both files, made if missing.
        users: how many users, drawn at random; None is all.
        events: of each user the events of a window that long, by time, ties in the order of the file, drawn at random;
            None is all.
        seed: of what is drawn.

    Returns:
        `users` and `events` that are left.
    """
    lines = (source / LOG).read_bytes().splitlines(keepends=True)
    ids, _, _, times = zip(*(line.split(b"::") for line in lines), strict=True)
    user, count = np.unique(ids, return_inverse=True, return_counts=True)[1:]
    order = np.lexsort((np.arange(len(lines)), np.array(times, np.int64), user))
    rank = np.empty(len(lines), np.int64)  # of an event among those of its user
    rank[order] = np.arange(len(lines)) - np.repeat(np.cumsum(count) - count, count)
    rng = np.random.default_rng(seed)
    kept = np.ones(len(lines), bool)
    if users is not None:
        kept &= (rng.permutation(len(count)) < users)[user]
    if events is not None:
        first = rng.integers(0, np.maximum(count - events, 0) + 1)[user]
        kept &= (rank >= first) & (rank < first + events)
    output.mkdir(parents=True, exist_ok=True)
    (output / LOG).write_bytes(b"".join(line for line, stays in zip(lines, kept, strict=True) if stays))
    shutil.copy2(source / ITEMS, output / ITEMS)
    return {"users": len(np.unique(user[kept])), "events": int(kept.sum())}


def main() -> None:
    """Writes the folder and prints what is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help=f"with {LOG} and {ITEMS}")
    parser.add_argument("output", type=Path)
    parser.add_argument("--users", type=int)
    parser.add_argument("--events", type=int)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    print(cut_log(flags.folder, flags.output, flags.users, flags.events, flags.seed))


if __name__ == "__main__":
    main()
