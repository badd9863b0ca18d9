"""The page about the configuration: every key with its type, default and comment, read from the sections' source."""

import ast
import inspect
import io
import json
import tokenize
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from tfdnc.contracts.config import ExperimentConfig
from tfdnc.contracts.section import Section

TYPES = {
    "Positive": "whole number from 1 up",
    "Share": "number from 0 to 1",
    "Rate": "number from 0 up, below 1",
    "Finite": "number from 0 up",
    "Alpha": "number from 0 up",
    "Exponent": "number from -10 to 10",
    "Sizes": "list of whole numbers from 1 up",
    "Rows": "whole number from 1 to 1024",
    "Instant": "ISO 8601 text (UTC), or a whole number in the unit of the log",
    "Location": "path, or URL of a store",
    "Options": "settings of a plug-in, by name",
}
"""Names of types in the table -> explanation."""


class Key(NamedTuple):
    """One key of a section."""

    name: str
    type: str
    default: str
    comment: str


def page() -> str:
    """Returns the page as Markdown."""
    lines = [
        "# Configuration",
        "",
        "Every key that a config may have. A config is a YAML file; what it leaves out has its default.",
        "`--set section.key=value` overrides a key, and `extends: FILE` begins with another config.",
        "`runs/NAME/config.yaml` is the config of a run with all defaults. Keys of one method mean nothing to others.",
        "",
        "| type | meaning |",
        "| --- | --- |",
        *(f"| `{name}` | {meaning} |" for name, meaning in TYPES.items()),
        "",
    ]
    for path, section in sections(ExperimentConfig):
        lines += [f"## `{path}`" if path else "## The file", "", inspect.getdoc(section) or "", ""]
        lines += ["| key | type | default | |", "| --- | --- | --- | --- |"]
        lines += ["| " + " | ".join(map(_cell, _row(key))) + " |" for key in keys(section)] + [""]
    return "\n".join(lines)


def sections(section: type[Section], path: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Yields a section and those in it, each once, with their paths."""
    yield path, section
    for name, field in section.model_fields.items():
        for kind in _alternatives(field.annotation):
            if isinstance(kind, type) and issubclass(kind, Section) and name != "judge":  # it has the keys of `cluster`
                yield from sections(kind, f"{path}.{name}".strip("."))


def keys(section: type[Section]) -> list[Key]:
    """Returns the keys of a section in their order."""
    source = inspect.getsource(section)
    comments = _comments(source)
    [definition] = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found, end = [], definition.lineno
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            said = " ".join(comments[line] for line in range(end + 1, (node.end_lineno or 0) + 1) if line in comments)
            name = node.target.id
            found.append(Key(name, _readable(node.annotation), _default(section, name), said))
        end = node.end_lineno or end
    return found


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)


def _comments(source: str) -> Mapping[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def _readable(annotation: ast.expr) -> str:
    """Returns a type as words: the values of a Literal, and the bounds of an Annotated type."""
    if isinstance(annotation, ast.BinOp):
        return f"{_readable(annotation.left)} or {_readable(annotation.right)}"
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return "null"
    if isinstance(annotation, ast.Subscript):
        parts = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        kind = ast.unparse(annotation.value)
        if kind == "Literal":
            return ", ".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
        if kind == "Annotated":
            bounds = [_bound(word) for part in parts[1:] if isinstance(part, ast.Call) for word in part.keywords]
            return " ".join([_readable(parts[0]), *filter(None, bounds)])
        if kind == "tuple":
            return f"list of {_readable(parts[0])}"
        return f"{kind} of {', '.join(map(_readable, parts))}"
    words = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}
    text = ast.unparse(annotation)
    return words.get(text, text.removesuffix("Config"))


def _bound(keyword: ast.keyword) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return f"{signs[keyword.arg]} {ast.unparse(keyword.value)}" if keyword.arg in signs else ""


def _default(section: type[Section], name: str) -> str:
    field = section.model_fields[name]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        return "see below"
    return json.dumps(value, default=str)


def _row(key: Key) -> tuple[str, str, str, str]:
    default = key.default if key.default in ("required", "see below") else f"`{key.default}`"
    return f"`{key.name}`", f"`{key.type}`", default, key.comment


def _cell(text: str) -> str:
    return text.replace("|", "&#124;")
