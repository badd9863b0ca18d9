"""Messages for a config that does not fit its sections: one sentence per key, made from the reports of pydantic."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from tfdnc.contracts.section import Section

_KIND = re.compile(r"constrained-\w+|literal\[.*\]|function-\w+\[.*\]|tuple\[.*\]|str|int")
"""Parts that pydantic adds to the path of a value which may be of several kinds."""


_SENTENCES = {
    "tuple_type": "input should be a list",
    "list_type": "input should be a list",
    "dict_type": "input should be a mapping, a line `key: value` for each",
    "path_type": "input should be a path",
}
"""By type of pydantic's error."""


def explain(problems: Sequence[Mapping[str, Any]], root: type[Section]) -> list[str]:
    """Returns one message per key; pydantic reports a value that may be of several kinds once for each kind.

    Args:
        problems: `ValidationError.errors()`.
        root: the outermost section.
    """
    by_path: dict[tuple[str | int, ...], list[Mapping[str, Any]]] = {}
    for problem in problems:
        path = tuple(key for key in problem["loc"] if not _KIND.fullmatch(str(key)))
        by_path.setdefault(path, []).append(problem)
    return [_complaint(path, about, root) for path, about in by_path.items()]


def _complaint(path: tuple[str | int, ...], problems: Sequence[Mapping[str, Any]], root: type[Section]) -> str:
    key = ".".join(map(str, path))
    if problems[0]["type"] == "extra_forbidden":
        section = _section_at(path[:-1], root) or root
        return f"unknown key {key!r}; known here: {', '.join(sorted(section.model_fields))}"
    said = " or ".join(dict.fromkeys(map(_sentence, problems)))
    # The sentence names keys that are missing or do not go together, so the values of their section are left out.
    problem = problems[0]
    of_section = problem["type"] == "missing" or (isinstance(problem["input"], dict) and _section_at(path, root))
    got = "" if of_section else f", got {problem['input']!r}"
    return f"{key}: {said}{got}" if key else said


def _sentence(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "model_type":
        return "expected a section with keys"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])  # from a validator of this project
    if problem["type"] in _SENTENCES:  # pydantic says it in words of Python
        return _SENTENCES[problem["type"]]
    return problem["msg"][:1].lower() + problem["msg"][1:]


def _section_at(path: tuple[str | int, ...], root: type[Section]) -> type[Section] | None:
    """The section at a path of keys, None where a value is."""
    section = root
    for key in path:
        annotation = section.model_fields[str(key)].annotation
        # `Section | None` has the section as its first argument.
        found = annotation if isinstance(annotation, type) else get_args(annotation)[0]
        if not (isinstance(found, type) and issubclass(found, Section)):
            return None
        section = found
    return section
