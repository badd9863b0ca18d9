"""Progress of a job in its log records: the parts to do and the parts done, which a handler of the log adds up.

This needs no channel of its own, and costs nothing without a handler. The records of a worker in another process or on
another machine stay there.
"""

STEPS, PROGRESS = "steps", "progress"
"""Attributes of a log record, set by `steps` and `progress`."""


def steps(**parts: int) -> dict[str, dict[str, int]]:
    """Returns the `extra` of a log call for the number of parts that are added to each step of a job."""
    return {STEPS: parts}


def progress(step: str, done: int = 1, **counts: int) -> dict[str, tuple[str, int, dict[str, int]]]:
    """Returns the `extra` of a log call for parts that are done.

    Args:
        step: name of the step.
        done: number of its parts that this record adds.
        counts: other counts that it adds, by name.
    """
    return {PROGRESS: (step, done, counts)}
