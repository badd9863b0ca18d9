"""How far a job is: log records say what there is to do and what of it is done, and a watcher of the log adds that up.

It needs no channel of its own and costs nothing where nobody watches. The records of a worker in another process or on
another machine stay there.
"""

STEPS, PROGRESS = "steps", "progress"
"""Attributes of a log record: what `steps` and `progress` put there."""


def steps(**parts: int) -> dict:
    """Returns the `extra` of a log call that says how many more parts each step of a job has."""
    return {STEPS: parts}


def progress(step: str, done: int = 1, **counts: int) -> dict:
    """Returns the `extra` of a log call that says what has been done.

    Args:
        step: of the job.
        done: how many parts of the step this record adds.
        counts: what else it adds, by the name of what was counted.
    """
    return {PROGRESS: (step, done, counts)}
