"""Progress of work on the screen: one changing line on a terminal, a line from time to time elsewhere."""

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator

import rich
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from beam_jobs.progress import PROGRESS, STEPS
from tfdnc.contracts.station_names import StationName

LINE_SECONDS = 15.0
"""Shortest time between two lines without a terminal."""


_SHORTEST_WAIT = 0.01


def show_work(station: str) -> contextlib.AbstractContextManager[None]:
    """Shows the progress of a station, until the context ends."""
    if station != StationName.TRAIN:
        return last_log_line(station)
    # Training has a bar of its own, and a terminal shows one live display at a time.
    return contextlib.nullcontext() if rich.get_console().is_terminal else _epoch_lines()


@contextlib.contextmanager
def _epoch_lines() -> Iterator[None]:
    """Prints the line that training logs after every epoch."""
    logger, printer = logging.getLogger("tfdnc.training.display"), _Printer(logging.INFO)
    with contextlib.ExitStack() as stack:
        _listen(logger, printer, stack)
        yield


def _listen(logger: logging.Logger, handler: logging.Handler, stack: contextlib.ExitStack) -> None:
    """Gives a handler the records of a logger from INFO up, until the stack ends."""
    stack.callback(logger.setLevel, logger.level)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    stack.callback(logger.removeHandler, handler)


@contextlib.contextmanager
def last_log_line(name: str) -> Iterator[None]:
    """Shows the last log record of the block, or the progress of a step if the record has one.

    On a terminal the line is removed at the end; `beam_jobs.progress` defines steps. Elsewhere there is at most one
    line every `LINE_SECONDS`: the log of a long job stays short. Without records the last one is repeated, with
    the seconds since the beginning.

    Args:
        name: name of the work, shown before its first record.
    """
    with contextlib.ExitStack() as stack:
        is_terminal = rich.get_console().is_terminal
        watcher = _Line(stack.enter_context(_display()), name) if is_terminal else stack.enter_context(_Lines(name))
        for package in ("tfdnc", "beam_jobs", "serving"):
            _listen(logging.getLogger(package), watcher, stack)
        yield


def _display() -> Progress:
    console = rich.get_console()
    spinner = SpinnerColumn("line" if console.options.ascii_only else "dots")
    columns = spinner, TextColumn("{task.description}", markup=False), _Bar(), _TimeLeft()
    return Progress(*columns, console=console, transient=True)


def _print_line(text: str) -> None:
    rich.get_console().print(f"    {text}", soft_wrap=True, markup=False, highlight=False)


class _Printer(logging.Handler):
    """Prints every record as a line."""

    def emit(self, record: logging.LogRecord) -> None:
        _print_line(record.getMessage())


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

    def __init__(self, shown: Progress, name: str) -> None:
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
    """Lines in a file or a pipe; one stands there every `LINE_SECONDS` as long as the context is open."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._text, self._began = f"{name} ...", time.monotonic()
        self._next = self._began + LINE_SECONDS
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._repeat, name="progress", daemon=True)

    def __enter__(self) -> "_Lines":
        self._clock.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._clock.join()

    def show(self, text: str, begins: bool) -> None:
        self._text = text  # `handle` has the lock
        if time.monotonic() >= self._next:
            self._print(text)

    def _repeat(self) -> None:
        while not self._ended.wait(max(self._next - time.monotonic(), _SHORTEST_WAIT)):
            with self.lock or contextlib.nullcontext():
                if (now := time.monotonic()) >= self._next:
                    self._print(f"{self._text} ({now - self._began:.0f} s so far)")

    def _print(self, text: str) -> None:
        self._next = time.monotonic() + LINE_SECONDS
        _print_line(text)


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
