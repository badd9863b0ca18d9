"""t-SNE of the page's map in a process of its own: a thread inside it could keep an interrupted program from ending.

`python -m tfdnc.explore.map_process` reads vectors from standard input and writes positions, both in NumPy's format.
"""

import io
import subprocess
import sys

import numpy as np

from tfdnc.contracts.children import ending_with_parent


def project_apart(vectors: np.ndarray) -> np.ndarray:
    """Returns `item_map.project` of vectors `[n, D]`, made by a process that ends with this one.

    Raises:
        subprocess.CalledProcessError: The process failed.
    """
    given = io.BytesIO()
    np.save(given, vectors)
    command = ending_with_parent([sys.executable, "-m", "tfdnc.explore.map_process"])
    # In a session of its own: a terminal sends Ctrl-C to all processes of a session.
    made = subprocess.run(command, input=given.getvalue(), stdout=subprocess.PIPE, start_new_session=True, check=True)
    return np.load(io.BytesIO(made.stdout))


def main() -> None:
    """Projects the vectors from standard input."""
    from tfdnc.page.item_map import project

    positions = project(np.load(io.BytesIO(sys.stdin.buffer.read())))
    np.save(sys.stdout.buffer, positions)


if __name__ == "__main__":
    main()
