"""A generated log in the shape of KuaiRand-27K, of any size, with planted tastes.

    python developer_benchmarks/kuairand_log.py FOLDER --scale 0.1

Files, columns and order are KuaiRand's: four `log_standard_*.csv` of 19 columns in order of time, and a
`video_features_basic` with tags. The model of the rows:

- The number of a user's rows is log-normal: the most active user has tens of thousands.
- The popularity of videos follows Zipf's law inside their tag; the popularity of tags differs too.
- A user prefers `TASTES` tags. With probability `LOYALTY` a row is of one of them, else it is any video by popularity.
"""

import argparse
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

LOGS = tuple(f"log_standard_{days}_27k_part{part}.csv" for days in ("4_08_to_4_21", "4_22_to_5_08") for part in (1, 2))
VIDEOS = "video_features_basic_27k.csv"

TAGS = 60
TASTES = 3
LOYALTY = 0.75
TAG_SKEW, ZIPF = 0.5, 0.7  # exponents of the popularity of tags, and of the videos of a tag
ACTIVITY = 1.0  # standard deviation of the logarithm of a user's number of rows
MAIN_TAB, CLICKED = 0.92, 0.965  # shares of the rows; most pass the filter, so that the steps after it are measured too
START = datetime(2022, 4, 8, tzinfo=UTC) - timedelta(hours=8)  # midnight in China
DAYS = 31
ROWS_AT_A_TIME = 1 << 19

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Shape:
    """Size of a log."""

    rows: int = 24_000_000
    users: int = 25_800
    videos: int = 108_000

    def scaled(self, scale: float, rows: float = 1.0) -> "Shape":
        """Returns the shape `scale` times as large, with `rows` times the rows per user and video."""
        return Shape(
            int(self.rows * scale * rows), max(TAGS, int(self.users * scale)), max(TAGS, int(self.videos * scale))
        )


@dataclass(frozen=True)
class _Model:
    """Distributions from which rows are drawn; the videos of tag g are `edges[g] .. edges[g + 1] - 1`.

    Attributes:
        activity: `[U]` running sum of the users' shares of the rows.
        tastes: `[U, TASTES]` preferred tags of the users.
        tag_popularity: `[TAGS]` running sum of the tags' shares.
        edges: `[TAGS + 1]` first video of every tag.
        popularity: `[N]` running sum over the videos: tag g covers (g, g + 1].
        ids: `[N]` ids of the videos, independent of tag and popularity.
        durations: `[N]` milliseconds.
    """

    activity: np.ndarray
    tastes: np.ndarray
    tag_popularity: np.ndarray
    edges: np.ndarray
    popularity: np.ndarray
    ids: np.ndarray
    durations: np.ndarray


def write_log(folder: Path, shape: Shape, seed: int = 1) -> None:
    """Writes the files of one log; equal arguments give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    model = _make_model(shape, seed)
    _write_videos(folder / VIDEOS, model)
    bounds = np.arange(len(LOGS) + 1) * shape.rows // len(LOGS)
    for name, first, end in zip(LOGS, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        schema = _make_rows(model, shape, seed, 0, 0).schema
        with (folder / name).open("wb") as file:
            # The header is not written by Arrow, which would quote the names.
            file.write(",".join(schema.names).encode() + b"\n")
            with pa.csv.CSVWriter(file, schema, write_options=pa.csv.WriteOptions(include_header=False)) as writer:
                for start in range(first, end, ROWS_AT_A_TIME):
                    writer.write(_make_rows(model, shape, seed, start, min(start + ROWS_AT_A_TIME, end)))


def _make_model(shape: Shape, seed: int) -> _Model:
    rng = np.random.default_rng([seed, 0])
    tags = np.arange(1, TAGS + 1) ** -TAG_SKEW
    tags /= tags.sum()
    edges = np.rint(np.concatenate([[0], np.cumsum(tags)]) * (shape.videos - TAGS)).astype(int) + np.arange(TAGS + 1)
    popularity = np.concatenate([_zipf(size, rng) for size in np.diff(edges)])
    noisy = np.log(tags) + rng.gumbel(size=(shape.users, TAGS))  # the largest are a draw without replacement
    activity = rng.lognormal(sigma=ACTIVITY, size=shape.users)
    return _Model(
        activity=np.cumsum(activity / activity.sum()),
        tastes=np.argsort(-noisy, axis=1)[:, :TASTES],
        tag_popularity=np.cumsum(tags),
        edges=edges,
        popularity=np.cumsum(popularity),
        ids=rng.permutation(shape.videos),
        durations=rng.integers(5_000, 120_000, shape.videos),
    )


def _zipf(size: int, rng: np.random.Generator) -> np.ndarray:
    weights = np.arange(1, size + 1) ** -ZIPF
    return rng.permutation(weights / weights.sum())


def _make_rows(model: _Model, shape: Shape, seed: int, start: int, end: int) -> pa.RecordBatch:
    """Returns rows `[start, end)` of the log in KuaiRand's columns."""
    rng, n = np.random.default_rng([seed, 1, start]), end - start
    passed = (np.arange(start, end) + rng.random(n)) * (DAYS * _DAY_MS / shape.rows)
    passed = passed.astype(np.int64)  # milliseconds, never decreasing
    user = np.minimum(np.searchsorted(model.activity, rng.random(n)), shape.users - 1)
    tag = np.minimum(np.searchsorted(model.tag_popularity, rng.random(n)), TAGS - 1)
    loyal = rng.random(n) < LOYALTY
    tag[loyal] = model.tastes[user[loyal], rng.integers(0, TASTES, loyal.sum())]
    video = np.searchsorted(model.popularity, tag + rng.random(n))
    video = np.clip(video, model.edges[tag], model.edges[tag + 1] - 1)  # rounding may reach beyond the tag

    def flag(share: float) -> np.ndarray:
        return (rng.random(n) < share).astype(np.int8)

    days = [int((START + timedelta(days=day, hours=8)).strftime("%Y%m%d")) for day in range(DAYS + 1)]
    clicked, watched = flag(CLICKED), rng.random(n)
    duration = model.durations[video]
    return pa.record_batch(
        {
            "user_id": user,
            "video_id": model.ids[video],
            "date": np.array(days)[passed // _DAY_MS],
            "hourmin": passed // 3_600_000 % 24 * 100,
            "time_ms": passed + int(START.timestamp()) * 1000,
            "is_click": clicked,
            "is_like": clicked & flag(0.02),
            "is_follow": clicked & flag(0.002),
            "is_comment": clicked & flag(0.003),
            "is_forward": clicked & flag(0.001),
            "is_hate": flag(0.0005),
            "long_view": clicked & (watched > 0.5),
            "play_time_ms": (duration * watched).astype(np.int64),
            "duration_ms": duration,
            "profile_stay_time": np.zeros(n, np.int8),
            "comment_stay_time": np.zeros(n, np.int8),
            "is_profile_enter": clicked & flag(0.004),
            "is_rand": np.zeros(n, np.int8),
            "tab": np.where(rng.random(n) < MAIN_TAB, 1, rng.integers(0, 14, n)),
        }
    )


def _write_videos(path: Path, model: _Model) -> None:
    """Writes one row per video, by id; every tenth video has a second tag."""
    by_id = np.argsort(model.ids)
    tag = np.searchsorted(model.edges, by_id, side="right") - 1
    second = [f'"{one},{(one + 1) % TAGS}"' if video % 10 == 0 else str(one) for video, one in enumerate(tag.tolist())]
    described = zip(model.durations[by_id].tolist(), second, strict=True)
    rows = (
        f"{video},{video % 9000},NORMAL,2022-04-01,ShortImport,0.0,{ms}.0,720.0,1280.0,{video % 7000},9.0,{tags}\n"
        for video, (ms, tags) in enumerate(described)
    )
    with path.open("w", encoding="utf-8") as file:
        file.write(
            "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,"
            "server_height,music_id,music_type,tag\n"
        )
        file.writelines(rows)


def main() -> None:
    """Writes one log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="of rows, users and videos; 1 is 24 million rows")
    parser.add_argument("--rows", type=float, default=1.0, help="of the rows alone")
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    began = time.process_time()
    shape = Shape().scaled(flags.scale, flags.rows)
    write_log(flags.folder, shape, flags.seed)
    print(f"{flags.folder}: {shape}, {time.process_time() - began:.1f} CPU seconds")


if __name__ == "__main__":
    main()
