"""README's commands and files, read from its code blocks, and a folder in which they are run as they stand."""

import csv
import os
import random
import re
import stat
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]

_SMALL = {
    "cluster": {"num_clusters": 4, "dim": 16, "epochs": 5},
    "model": {"dim": 16, "blocks": 1, "max_length": 16, "distance_bias": True},
    "train": {"epochs": 4, "batch_tokens": 800, "learning_rate": 0.01, "warmup_steps": 10},
    "evaluate": {"candidates": [10, 20], "alphas": [1]},
    "export": {"num_candidates": 20, "max_candidates": 50},
}
"""Settings added to README's config, so that a test has the time for it."""

_USERS, _ITEMS, _GROUPS, _EVENTS = 200, 120, 4, 20


def commands() -> list[str]:
    """Returns every line of README that is meant for a shell: those of indented blocks, comments included."""
    without_fences = re.sub(r"^```.*?^```", "", _text(), flags=re.MULTILINE | re.DOTALL)
    return [line.strip() for line in without_fences.splitlines() if line.startswith("    ")]


def fenced(language: str, document: str = "README.md") -> list[str]:
    """Returns the content of a document's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", _text(document), flags=re.MULTILINE | re.DOTALL)


def set_up(folder: Path) -> None:
    """Writes what README takes for granted: its config, the log it names, and the `.venv` that `make run` leaves.

    Beside it is the config to compare it with, of docs/training.md.
    """
    [mine], [softmax] = fenced("yaml"), fenced("yaml", "docs/training.md")
    (folder / "mine.yaml").write_text(yaml.safe_dump(_overlay(yaml.safe_load(mine), _SMALL)))
    (folder / "mine_softmax.yaml").write_text(softmax)
    _write_log(folder)
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True)
    binaries.joinpath("activate").write_text(f"PATH={binaries}:$PATH\n")
    for name, flags in (("python", ""), ("tfdnc", "-m tfdnc.cli.main ")):
        program = binaries / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {flags}"$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)


def follow(steps: list[str], folder: Path, seconds: int) -> subprocess.CompletedProcess:
    """Runs lines in one shell in a folder, until one fails; none did if it returns."""
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -e", *steps])],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def _text(document: str = "README.md") -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def _overlay(base: dict, more: dict) -> dict:
    """`more` over `base`, section by section."""
    return base | {key: (base.get(key) or {}) | values for key, values in more.items()}


def _write_log(folder: Path) -> None:
    """A log with the columns of README's config, in which people mostly stay in one department."""
    draw = random.Random(1)
    size = _ITEMS // _GROUPS
    with (folder / "log.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["customer", "sku", "bought_at"])
        for user in range(_USERS):
            time = 1_700_000_000 + draw.randrange(10**6)
            for _ in range(_EVENTS):
                group = user % _GROUPS if draw.random() < 0.8 else draw.randrange(_GROUPS)
                time += draw.randrange(1, 10**5)
                rows.writerow([f"c{user}", f"s{group * size + draw.randrange(size)}", time])
    with (folder / "items.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "name", "department", "brand", "price"])
        rows.writerows([f"s{i}", f"Thing {i}", f"Department {i // size}", f"b{i % 7}", i] for i in range(_ITEMS))
