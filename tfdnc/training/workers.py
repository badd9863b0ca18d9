"""Index of this process among the workers that train one model, for the command line too: without TensorFlow."""

import json
import os
from dataclasses import dataclass

from tfdnc.contracts.errors import UserError


@dataclass(frozen=True)
class WorkerIndex:
    """Index of one worker, and the number of workers.

    Attributes:
        index: 0 is the chief, the worker that writes.
        count: number of the workers that train together.
    """

    index: int
    count: int

    @property
    def is_chief(self) -> bool:
        """True for the worker that writes checkpoints and the station's folder."""
        return self.index == 0


ALONE = WorkerIndex(0, 1)
"""The only worker of a training."""


def this_worker() -> WorkerIndex:
    """Returns the index of this process in TensorFlow's `TF_CONFIG`; `ALONE` without one.

    Raises:
        UserError: TF_CONFIG is not the JSON that TensorFlow documents, or names other tasks than chief and worker.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return ALONE
    try:
        config = json.loads(text)
        hosts = {role: list(addresses) for role, addresses in config["cluster"].items()}
        role, number = config["task"]["type"], int(config["task"]["index"])
        index = number + (len(hosts.get("chief", [])) if role == "worker" else 0)
        known = 0 <= number < len(hosts[role])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            'Expected TF_CONFIG such as {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", '
            f'"index": 0}}}}, got {text!r} ({error!r}).'
        ) from error
    if not known or not set(hosts) <= {"chief", "worker"}:
        raise UserError(
            f"Expected tasks chief and worker only in TF_CONFIG, and this process among them, got {text!r}."
        )
    return WorkerIndex(index, sum(map(len, hosts.values())))
