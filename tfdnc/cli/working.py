"""Progress of work on the screen: one changing line on a terminal, a line from time to time elsewhere."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterator

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from beam_jobs.progress import PROGRESS, STEPS
from tfdnc.cli import screen

LINE_SECONDS = 15.0
"""Shortest time between two lines without a terminal."""


@contextlib.contextmanager
def last_log_line(name: str) -> Iterator[None]:
    """Shows the last log record of the block, or the progress of a step if the record has one.

    On a terminal the line is removed at the end; `beam_jobs.progress` defines steps. Elsewhere there is a line every
    `LINE_SECONDS` at most: the log of a long job stays short, and a job that hangs is noticed.

    Args:
        name: name of the work, shown before its first record.
    """
    with contextlib.ExitStack() as stack:
        watcher: _Watcher = _Lines()
        if screen.console.is_terminal:
            watcher = _Line(stack.enter_context(_display()), name)
        loggers = [logging.getLogger(package) for package in ("tfdnc", "beam_jobs")]
        for logger in loggers:
            logger.addHandler(watcher)
            logger.setLevel(logging.INFO)
            stack.callback(logger.removeHandler, watcher)
        yield


def _display() -> Progress:
    spinner = SpinnerColumn("line" if screen.console.options.ascii_only else "dots")
    columns = spinner, TextColumn("{task.description}", markup=False), _Bar(), _TimeLeft()
    return Progress(*columns, console=screen.console, transient=True)


class _Watcher(logging.Handler):
    """Sums the progress of a step over its records; a record of another step, or of none, starts anew."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._step, self._done = "", 0
        self._parts: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self._parts.update(getattr(record, STEPS, {}))
        step, done, counts = getattr(record, PROGRESS, ("", 0, {}))
        begins = not step or step != self._step
        if begins:
            self._step, self._done = step, 0
            self._counts.clear()
        self._done += done
        self._counts.update(counts)
        self.show(self._progress() if step else record.getMessage(), begins)

    def show(self, text: str, begins: bool) -> None:
        """Shows a line; `begins` is True for one about another step than the line before."""
        raise NotImplementedError

    def _progress(self) -> str:
        parts = f"{self._step} {self._done:,} of {self._parts[self._step]:,}"
        return ", ".join([parts, *(f"{count:,} {name}" for name, count in self._counts.items() if count)])


class _Line(_Watcher):
    """One line on a terminal, with a bar if there is a total."""

    def __init__(self, shown: Progress, name: str):
        super().__init__()
        self._shown = shown
        self._task = shown.add_task(f"{name} ...", total=None)

    def show(self, text: str, begins: bool) -> None:
        if begins:
            self._shown.remove_task(self._task)
            self._task = self._shown.add_task("", total=None, visible=False)
        total = self._parts[self._step] or None
        self._shown.update(self._task, completed=self._done, total=total, description=text, visible=True)


class _Lines(_Watcher):
    """Lines in a file or a pipe."""

    def __init__(self) -> None:
        super().__init__()
        self._next = time.monotonic() + LINE_SECONDS

    def show(self, text: str, begins: bool) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + LINE_SECONDS
            screen.console.print(f"    {text}", soft_wrap=True)


class _Bar(ProgressColumn):
    """A bar if there is a total."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = BarColumn()

    def render(self, task: Task) -> RenderableType:
        return Text() if task.total is None else self._bar.render(task)


class _TimeLeft(TimeRemainingColumn):
    """The time left if there is a total."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)
