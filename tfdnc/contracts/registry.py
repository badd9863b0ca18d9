"""Registry of implementations that a config chooses by name."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from tfdnc.contracts.config_errors import explain
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.section import Section

T = TypeVar("T")

_OURS = ("tfdnc", "beam_jobs", "serving")


class Registry(dict[str, T]):
    """Implementations of one kind, by their names in configs.

    Args:
        kind: their kind, for messages.

    Example:
        >>> MERGES = Registry("merge")
        >>> @MERGES.register("joint")
        ... def joint(): ...
        >>> MERGES.resolve("jiont")
        Traceback (most recent call last):
        tfdnc.contracts.errors.UserError: Unknown merge 'jiont'; known: joint.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._options: dict[str, type[Section]] = {}

    def register(self, name: str, options: type[Section] | None = None) -> Callable[[T], T]:
        """Returns a decorator that registers its argument under `name`.

        Args:
            name: for configs. It is unique; a module that is imported again replaces its own entry.
            options: type of the key `options` beside the name in a config; None: there are none.

        Raises:
            ValueError: another implementation has the name.
        """

        def add(implementation: T) -> T:
            if name in self and _origin(self[name]) != _origin(implementation):
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self[name] = implementation
            self._options.pop(name, None)
            if options is not None:
                self._options[name] = options
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

    def is_foreign(self, name: str) -> bool:
        """True for the name of a plug-in's implementation; False for one of this project, and for an unknown name."""
        return name in self and _origin(self[name])[0].partition(".")[0] not in _OURS

    def check_options(self, name: str, options: Mapping[str, Any], key: str) -> None:
        """Raises a `UserError` for options that the implementation called `name` does not take.

        Args:
            name: of the implementation.
            options: by name, as in the config.
            key: of the options in the config, for messages.
        """
        if name not in self._options:
            if options:
                raise UserError(f"Expected no {key} with {self.kind} {name!r}, which has none, got {dict(options)}.")
            return
        try:
            self._options[name].model_validate(options)
        except ValidationError as error:
            said = "; ".join(explain(error.errors(), self._options[name]))
            raise UserError(f"{key} of {self.kind} {name!r}: {said}") from error


class Choice(NamedTuple):
    """A name that a config chooses from a registry, and its options.

    Attributes:
        registry: of its kind.
        name: of the implementation.
        options: as in the config.
        key: of the options in the config, for messages.
    """

    registry: Registry[Any]
    name: str
    options: Mapping[str, Any] = {}
    key: str = "options"

    def check(self) -> None:
        """Raises a `UserError` for an unknown name, or for options that do not fit it."""
        self.registry.resolve(self.name)
        self.registry.check_options(self.name, self.options, self.key)

    @property
    def is_foreign(self) -> bool:
        """True if the chosen implementation is that of a plug-in."""
        return self.registry.is_foreign(self.name)


def _origin(implementation: object) -> tuple[str, str]:
    """Module and name of a class or function, or of the type of another object."""
    named = implementation if hasattr(implementation, "__qualname__") else type(implementation)
    return named.__module__, named.__qualname__
