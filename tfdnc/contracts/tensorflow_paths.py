"""Paths for TensorFlow, which reads paths of checkpoints and bundles as patterns."""

import os
from pathlib import Path

from tfdnc.contracts.errors import UserError

_PATTERN = "[*?\\"
"""Characters of patterns: for `runs [v2]` TensorFlow looks for `runs v` and `runs 2`."""


def tensorflow_path(path: Path | str) -> str:
    """Returns a path that TensorFlow can read: the given one, or the relative one.

    Raises:
        UserError: both have a character that TensorFlow reads as part of a pattern.
    """
    for text in (str(path), os.path.relpath(path)):
        if not any(character in text for character in _PATTERN):
            return text
    found = next(character for character in str(path) if character in _PATTERN)
    raise UserError(
        f"Expected a path without {found}, which TensorFlow reads as part of a pattern, got {path}: rename that "
        "folder, or choose another one."
    )
