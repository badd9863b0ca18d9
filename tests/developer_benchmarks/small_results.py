"""A small result of a comparison, from which tests write cells."""

from tfdnc.comparison.results import Result
from tfdnc.contracts.config import parse_config

COMMIT, OTHER = "a" * 40, "b" * 40


def result(seed, commit, recall, day, split="split"):
    made = {
        name: {"commit": commit, "changed": False, "date": f"2026-11-0{day}", "machine": "m"}
        for name in ("train", "evaluate")
    }
    figures = {"recall@10": recall, "ndcg@10": recall / 2}
    report = {"merge": figures, "popularity": figures, "judged_by": None}
    config = parse_config({"name": f"x-seed{seed}", "seed": seed})
    return Result("x-dnc", seed, report, {"cpu_seconds": 7.5}, split, config, made)
