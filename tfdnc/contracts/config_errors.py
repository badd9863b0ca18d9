"""What is said of a config that does not fit its sections: one sentence per place, from what pydantic reports."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfdnc.contracts.section import Section

_KIND = re.compile(r"constrained-\w+|literal\[.*\]|function-\w+\[.*\]|tuple\[.*\]|str|int")
"""What pydantic adds to the place of a value that may be of several kinds."""


def explain(problems: Sequence[Mapping[str, Any]], root: type[Section]) -> list[str]:
    """Returns one complaint per place: of a value that may be of several kinds, pydantic complains once for each.

    Args:
        problems: `ValidationError.errors()`.
        root: the section that all others are in.
    """
    of_place = {}
    for problem in problems:
        of_place.setdefault(tuple(key for key in problem["loc"] if not _KIND.fullmatch(str(key))), []).append(problem)
    return [_complaint(place, about, root) for place, about in of_place.items()]


def _complaint(place: tuple, problems: Sequence[Mapping[str, Any]], root: type[Section]) -> str:
    where = ".".join(map(str, place))
    if problems[0]["type"] == "extra_forbidden":
        known = ", ".join(sorted(_section_at(place[:-1], root).model_fields))
        return f"unknown key {where!r}; known here: {known}"
    said = " or ".join(dict.fromkeys(map(_sentence, problems)))
    # Of keys that do not go together, or are missing, the sentence says which: it needs no dump of their section.
    problem = problems[0]
    of_section = problem["type"] == "missing" or (isinstance(problem["input"], dict) and _section_at(place, root))
    got = "" if of_section else f", got {problem['input']!r}"
    return f"{where}: {said}{got}" if where else said


def _sentence(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "model_type":
        return "expected a section with keys"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])  # a sentence of ours
    return problem["msg"][:1].lower() + problem["msg"][1:]


def _section_at(place: tuple, root: type[Section]) -> type[Section] | None:
    """The section that is there, None where a value is."""
    section = root
    for key in place:
        annotation = section.model_fields[key].annotation
        # `Section | None` carries the section as its first argument.
        section = annotation if isinstance(annotation, type) else annotation.__args__[0]
        if not (isinstance(section, type) and issubclass(section, Section)):
            return None
    return section
