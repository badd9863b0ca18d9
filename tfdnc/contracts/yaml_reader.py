"""The one reader of YAML: a key that is given twice is an error, where YAML libraries keep the last one in silence."""

from collections.abc import Iterator

import yaml

from tfdnc.contracts.errors import UserError

_TEXT_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "merge", "value")}
"""Tags of keys that are what is written there; others are compared as values, for 8 and 0x8 are one key."""


def read_yaml(text: str, source: str) -> object:
    """Returns the value of a YAML document, None of an empty one.

    A merge key (`<<`) may bring keys that the mapping has too: its own ones count, as YAML says. Two merge keys in one
    mapping are a repeated key.

    Args:
        text: the document.
        source: its name in errors.

    Raises:
        UserError: the text is no YAML, or a mapping at any depth has a key twice; the error names key and lines.
    """
    try:
        loader = yaml.SafeLoader(text)  # it refuses control characters at once
        try:
            return _construct(loader, source)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-01
        raise UserError(f"Expected YAML in {source}: {error}") from error


def _construct(loader: yaml.SafeLoader, source: str) -> object:
    node = loader.get_single_node()
    if node is None:
        return None
    for first, again, name in _repeated_keys(node, loader):
        raise UserError(
            f"Expected every key once in {source}, found {name!r} in line {again} after line {first}: only one of "
            "them would count, so join the two."
        )
    return loader.construct_document(node)


def _repeated_keys(root: yaml.Node, loader: yaml.SafeLoader) -> Iterator[tuple[int, int, str]]:
    """Yields the line of a key, the line of its repetition, and its dotted name.

    Of the nodes as they are written: once values are made, merge keys are resolved, and own keys look repeated.
    """
    waiting, met = [(root, ())], set()
    while waiting:
        node, path = waiting.pop()
        if id(node) in met:  # an alias
            continue
        met.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(inner, (*path, str(place))) for place, inner in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines = {}
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue  # no mapping of ours has one: it is refused when values are made
                name = key.value if key.tag in _TEXT_TAGS else loader.construct_object(key)
                line = key.start_mark.line + 1
                if name in lines:
                    yield lines[name], line, ".".join((*path, key.value))
                lines[name] = line
                waiting.append((value, (*path, key.value)))
