"""Measures the training speed of methods: one process per method, rounds in turn, so that noise affects all alike."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfdnc.comparison.jobs import ONE_THREAD
from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.errors import UserError

_log = logging.getLogger(__name__)


class Worker:
    """One method in a process of its own (`tfdnc.benchmark.worker`), on one thread.

    A context manager: the process ends with it.

    Args:
        config: the experiment; its records must exist.
        run: folder of its run.
        steps: training steps of a round.

    Attributes:
        description: result of `worker.describe`.

    Raises:
        UserError: the method refuses to train, or the process died.
    """

    def __init__(self, config: ExperimentConfig, run: Path, steps: int) -> None:
        self.description: dict[str, Any]
        self._name = config.name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tfdnc.benchmark.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | ONE_THREAD,
        )
        job = {"config": config.model_dump(mode="json"), "run": str(run), "steps": steps}
        try:
            self.description = self._ask(json.dumps(job))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()  # it has no results to save
        self._process.communicate()
        self._errors.close()

    def round(self) -> dict[str, float]:
        """Runs one more round of steps; returns its figures, see `worker.Trainer.round`."""
        return self._ask("")

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None  # both are pipes
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # the process died: its answer is empty
            print(line, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise UserError(self._death())
        values = json.loads(answer)
        if "error" in values:
            raise UserError(f"{self._name}: {values['error']}")
        return values

    def _death(self) -> str:
        """Returns the error text for a process that died, with the last lines of its errors."""
        status = self._process.wait()
        self._errors.seek(0)
        errors = "".join(self._errors.readlines()[-5:]).strip() or "it said nothing"
        return (
            f"Expected a measurement of {self._name}, but its process ended with status {status}: {errors}\n"
            "(All methods are in memory at once; if that was too much, name fewer configs.)"
        )


def measure(configs: Sequence[ExperimentConfig], runs: Path, steps: int, rounds: int) -> list[dict[str, Any]]:
    """Measures every method `rounds` times, in turn: A B C A B C ...

    Every method is started and warmed up alone, before the first round. Waiting processes use no CPU.

    Args:
        configs: the methods; their records must exist in `runs`.
        runs: folder of all runs.
        steps: training steps of a round.
        rounds: measurements per method.

    Returns:
        One dict per method, in order: `name`, the entries of `worker.describe`, and `rounds`, the list of its figures.

    Raises:
        UserError: two configs of one name, a config without epochs, or an error of `Worker`.
    """
    names = [config.name for config in configs]
    if len(set(names)) < len(names):
        raise UserError(f"Expected configs with different names, got {', '.join(names)}: a run is named once.")
    for config in configs:
        if not config.train.epochs:
            raise UserError(f"Expected methods that train, but {config.name} has train.epochs 0: leave it out.")
    with contextlib.ExitStack() as stack:
        workers = []
        for config in configs:
            _log.info("compiling %s", config.name)
            workers.append(stack.enter_context(Worker(config, runs / config.name, steps)))
        measured = [{"name": name, **worker.description} for name, worker in zip(names, workers, strict=True)]
        figures: list[list[dict[str, float]]] = [[] for _ in workers]
        for number in range(1, rounds + 1):
            for name, worker, done in zip(names, workers, figures, strict=True):
                _log.info("round %d of %d, %s", number, rounds, name)
                done.append(worker.round())
    return [method | {"rounds": done} for method, done in zip(measured, figures, strict=True)]
