"""Cells: one JSON file per finished experiment of a comparison, with everything that its figures depend on.

The name of a file ends with a digest of its content. So an experiment that ran again, with another config, split or
commit, gets a file beside the older one, and no cell is ever overwritten.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from tfdnc.comparison.results import Measurement, Result
from tfdnc.contracts.errors import UserError

FOLDER = "cells"
"""Folder of the cells, in that of a comparison."""

_FORMAT = 1
_SHOWN = 8  # characters of a digest in a name
_PATHS = ("path", "initial")  # settings that name a file or a run
_EPOCHS = "epochs"  # key that cells of earlier versions lack
_KEYS = ("cell", "label", "seed", "config", "split", "made", "command", "training", "figures")


@dataclass(frozen=True)
class Cell(Measurement):
    """A cell that was read from its file.

    Attributes:
        path: the file.
        config: digest of the settings, apart from name and seed.
        made: provenance of the train and the evaluate station, see `tfdnc.contracts.provenance`; {} where unknown.
        command: command line that wrote the cell.
        epochs: validated epochs, see `Result.epochs`; none in cells of earlier versions.
    """

    path: Path
    config: str
    made: dict[str, dict[str, Any]]
    command: str
    epochs: Sequence[dict[str, float]] = ()

    @property
    def code(self) -> tuple[str, ...]:
        """Config and commits of the cell: cells of one label that differ in them are no repetitions of each other."""
        commits = [f"{one.get('commit')}{'+' if one.get('changed') else ''}" for one in self.made.values()]
        return (self.config, *commits)

    @property
    def commit(self) -> str:
        """Short commit of the training, with a + for changed sources; "unknown" where it is not recorded."""
        made = self.made.get("train", {})
        return f"{made['commit'][:7]}{'+' if made['changed'] else ''}" if made.get("commit") else "unknown"

    @property
    def date(self) -> str:
        """Time at which the evaluation began, in ISO 8601; empty where it is not recorded."""
        return str(self.made.get("evaluate", {}).get("date", ""))


def write_cells(results: Iterable[Result], command: str, folder: Path) -> list[Path]:
    """Writes the cells of results that have none yet, and returns the files of all results, in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(_content(result), command, folder) for result in results]


def read_cells(folder: Path) -> list[Cell]:
    """Returns every cell of a folder, by label, seed and date.

    Raises:
        UserError: a file is no cell, or its content does not have the digest in its name.
    """
    cells = [read_cell(path) for path in sorted(folder.glob("*.json"))]
    return sorted(cells, key=lambda cell: (cell.label, cell.seed, cell.date))


def read_cell(path: Path) -> Cell:
    """Returns the cell of a file; raises as `read_cells`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"Expected a cell in {path}, found no JSON: {error}. Remove the file.") from error
    missing = [key for key in _KEYS if not isinstance(content, dict) or key not in content]
    if missing or content["cell"] != _FORMAT:
        found = f"no {', '.join(missing)}" if missing else f"format {content['cell']}"
        raise UserError(f"Expected a cell of format {_FORMAT} in {path}, found {found}. Remove the file.")
    command = content.pop("command")
    if not path.stem.endswith(f"-{_digest(content)[:_SHOWN]}"):
        raise UserError(
            f"Expected {path} to have the content that its name is a digest of, found another: measured figures are "
            "not edited. Restore the file, or measure again."
        )
    return Cell(
        label=content["label"],
        seed=content["seed"],
        report=content["figures"],
        training=content["training"],
        split=content["split"],
        path=path,
        config=_digest(content["config"]),
        made=content["made"],
        command=command,
        epochs=content.get(_EPOCHS, []),
    )


def marked(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the cells; one that is not of the latest code, or not the latest of its seed, has a mark in its label.

    Raises:
        UserError: two cells are of one run, which would count as two seeds.
    """
    by_label: defaultdict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_label[cell.label].append(cell)
    return [replace(cell, label=cell.label + _mark(cell, by_label[cell.label])) for cell in cells]


def present_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Returns the cells that `marked` does not mark; raises as it."""
    return [cell for cell, same in zip(cells, marked(cells), strict=True) if cell.label == same.label]


def _mark(cell: Cell, others: Sequence[Cell]) -> str:
    """Returns the mark of a cell among all cells of its label, empty for a present one."""
    of_seed = [other for other in others if (other.seed, other.code) == (cell.seed, cell.code)]
    if again := [other.path for other in of_seed if other.date == cell.date and other.path != cell.path]:
        raise UserError(f"Expected one cell of a run, found {cell.path} and {again[0]}: remove the older file.")
    if cell.code != max(others, key=lambda other: other.date).code:
        return f", commit {cell.commit}"
    later = any(other.seed == cell.seed and other.date > cell.date for other in others)
    return f", run of {cell.date}" if later else ""


def earlier_cells(folder: Path, current: Sequence[Path]) -> list[str]:
    """Returns a line for each cell of the folder that is not current but of an experiment that is, with the reason."""
    cells = read_cells(folder)
    now = {(cell.label, cell.seed): cell for cell in cells if cell.path in current}
    others = [cell for cell in cells if cell.path not in current and (cell.label, cell.seed) in now]
    return [
        f"{cell.path.name}: {_difference(cell, now[cell.label, cell.seed])}, commit {cell.commit}, "
        f"{cell.date[:10] or 'date unknown'}"
        for cell in others
    ]


def commits_of(cells: Iterable[Cell]) -> str:
    """Returns the short commits of the trainings, and says so if there are several."""
    found = sorted({cell.commit for cell in cells})
    return ", ".join(found) + (" (SEVERAL: rows may differ because the code does)" if len(found) > 1 else "")


def _difference(cell: Cell, now: Cell) -> str:
    """Names the difference of an earlier cell from the present one of the same experiment."""
    if cell.config != now.config:
        return "of another config"
    if cell.split != now.split:
        return "of another split"
    return "of another commit" if cell.code != now.code else "an earlier run"


def _content(result: Result) -> dict[str, Any]:
    config = result.config.model_dump(mode="json")
    settings = _without_folders({key: value for key, value in config.items() if key not in ("name", "seed")})
    return {
        "cell": _FORMAT,
        "label": result.label,
        "seed": result.seed,
        "config": settings,
        "split": result.split,
        "made": result.made,
        "training": result.training,
        _EPOCHS: result.epochs,
        "figures": result.report,
    }


def _without_folders(value: Any) -> Any:
    """Returns settings with paths cut to their last part: folders are of one machine, the split tells the data."""
    if isinstance(value, dict):
        return {
            key: PurePosixPath(part).name if key in _PATHS and isinstance(part, str) else _without_folders(part)
            for key, part in value.items()
        }
    return [_without_folders(part) for part in value] if isinstance(value, list) else value


def _write(content: dict[str, Any], command: str, folder: Path) -> Path:
    path = folder / _name(content)
    if not path.exists():
        unfinished = folder / f".{path.name}.unfinished"
        unfinished.write_text(json.dumps({**content, "command": command}, indent=1) + "\n", encoding="utf-8")
        unfinished.rename(path)  # a killed comparison leaves whole cells only
    # The cell that an earlier version wrote of the same run would count as another one.
    (folder / _name({key: value for key, value in content.items() if key != _EPOCHS})).unlink(missing_ok=True)
    return path


def _name(content: dict[str, Any]) -> str:
    return f"{content['label']}-seed{content['seed']}-{_digest(content)[:_SHOWN]}.json"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
