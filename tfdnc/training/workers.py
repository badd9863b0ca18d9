"""Which of several processes that train one model this is; without TensorFlow, because the command line asks first."""

import json
import os
from typing import NamedTuple

from tfdnc.contracts.errors import UserError


class Place(NamedTuple):
    """One process among those that train together."""

    index: int  # 0 is the chief, the one that writes
    count: int

    @property
    def is_chief(self) -> bool:
        """Whether this process writes checkpoints and the station's folder."""
        return self.index == 0


ALONE = Place(0, 1)


def this_place() -> Place:
    """Returns this process's place in TensorFlow's `TF_CONFIG`; `ALONE` without one.

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
    return Place(index, sum(map(len, hosts.values())))
