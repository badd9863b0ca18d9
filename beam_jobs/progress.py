"""How far a job is: log records say what part of the work is done, and whoever watches this process adds them up.

That needs no channel of its own and costs nothing where nobody watches. A worker in another process, or on another
machine, logs there.
"""

PROGRESS = "progress"
"""Attribute of a log record: what `progress` puts there."""


def progress(step: str, total: int, done: int = 1, **counts: int) -> dict:
    """Returns the `extra` of a log call.

    Args:
        step: what is being done.
        total: parts of the step.
        done: how many of them this record adds.
        counts: what else it adds, by the name of what was counted.
    """
    return {PROGRESS: {"step": step, "total": total, "done": done, "counts": counts}}
