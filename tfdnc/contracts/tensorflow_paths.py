"""Paths that TensorFlow is handed: it looks for checkpoints and bundles by pattern, not by name."""

import os
from pathlib import Path

from tfdnc.contracts.errors import UserError

_PATTERN = "[*?\\"
"""For `runs [v2]` it looks for `runs v` and `runs 2`; with `*` and `?` it may find another run."""


def tensorflow_path(path: Path | str) -> str:
    """Returns a path as TensorFlow can be given it: as it is, or seen from the working folder.

    Raises:
        UserError: either has a character that TensorFlow reads as part of a pattern.
    """
    for text in (str(path), os.path.relpath(path)):
        if not any(character in text for character in _PATTERN):
            return text
    found = next(character for character in str(path) if character in _PATTERN)
    raise UserError(
        f"Expected a path without {found}, which TensorFlow reads as part of a pattern, got {path}: rename that "
        "folder, or choose another one."
    )
