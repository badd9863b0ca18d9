"""A copy of a MovieLens log in which some movies are new: nobody rated them before the two events that are held out.

    python benchmarks/hide_items.py FOLDER OUTPUT --share 0.1
    tfdnc evaluate configs/ml1m_large/dnc_naive.yaml --set data.path=OUTPUT --set data.min_item_events=1 \
        --set model.item_features=true

`report.json` then has the recall of these movies as `cold_targets`. What is left of a user's ratings is in the order of
the file, and the last two events (by time, ties in the order of the file) are those of the whole log.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

LOG, ITEMS = "ratings.dat", "movies.dat"


def hide_items(source: Path, output: Path, share: float, seed: int) -> dict[str, int]:
    """Writes the log without the training events of a share of the items, and the item file as it is.

    Returns:
        `items` that are hidden, `events` that are left out, and `targets` that are hidden items.
    """
    lines = (source / LOG).read_bytes().splitlines(keepends=True)
    users, items, _, times = zip(*(line.split(b"::") for line in lines), strict=True)
    held_out = last_two(np.unique(users, return_inverse=True)[1], np.array(times, np.int64))
    known, item = np.unique(items, return_inverse=True)
    hidden = np.random.default_rng(seed).permutation(len(known)) < round(share * len(known))
    gone = hidden[item] & ~held_out
    output.mkdir(parents=True, exist_ok=True)
    (output / LOG).write_bytes(b"".join(line for line, left_out in zip(lines, gone, strict=True) if not left_out))
    shutil.copy2(source / ITEMS, output / ITEMS)
    return {"items": int(hidden.sum()), "events": int(gone.sum()), "targets": int((hidden[item] & held_out).sum())}


def last_two(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Whether an event is one of the last two of its user: `[E]` numbers of users and `[E]` times -> `[E]` bool."""
    order = np.lexsort((np.arange(len(users)), times, users))
    ends = np.append(np.flatnonzero(np.diff(users[order])), len(order) - 1)
    found = np.zeros(len(users), bool)
    found[order[ends]] = True
    found[order[np.maximum(ends - 1, 0)]] = True  # users have two events or more
    return found


def main() -> None:
    """Writes the folder and prints what was hidden."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help=f"with {LOG} and {ITEMS}")
    parser.add_argument("output", type=Path)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    print(hide_items(flags.folder, flags.output, flags.share, flags.seed))


if __name__ == "__main__":
    main()
