"""Name -> implementation, for the few kinds of thing a config chooses by name."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from tfdnc.contracts.errors import UserError

T = TypeVar("T")


class Registry(dict[str, T]):
    """The implementations of one kind, by the name configs use.

    Example:
        >>> MERGES = Registry("merge")
        >>> @MERGES.register("joint")
        ... def joint(): ...
        >>> MERGES.resolve("jiont")
        Traceback (most recent call last):
        tfdnc.contracts.errors.UserError: Unknown merge 'jiont'; known: joint.
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that files its argument under `name`; a name is taken once."""
        if name in self:
            raise ValueError(f"{self.kind} {name!r} is registered twice")

        def add(implementation: T) -> T:
            self[name] = implementation
            return implementation

        return add

    def resolve(self, name: str) -> T:
        """Returns the implementation called `name`, or raises a `UserError` that lists the known names."""
        if name not in self:
            raise UserError(f"Unknown {self.kind} {name!r}; known: {', '.join(self.names())}.")
        return self[name]

    def names(self) -> Iterator[str]:
        """Yields the known names in alphabetical order."""
        yield from sorted(self)
