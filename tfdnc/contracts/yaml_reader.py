"""Reader of YAML that refuses a key given twice; YAML libraries keep the last value without a message."""

from collections.abc import Iterator

import yaml

from tfdnc.contracts.errors import UserError

_TEXT_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "merge", "value")}
"""Tags of keys that are compared as text. Others are compared as values, because 8 and 0x8 are one key."""


def read_yaml(text: str, source: str) -> object:
    """Returns the value of a YAML document, None of an empty one.

    A merge key (`<<`) may bring keys that the mapping has too; as in YAML, those of the mapping count. Two merge keys
    in one mapping are a repeated key.

    Args:
        text: the document.
        source: its name in errors.

    Raises:
        UserError: the text is no YAML, or a mapping at any depth has a key twice; the error names key and lines.
    """
    try:
        loader = yaml.SafeLoader(text)  # raises for control characters
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

    Reads the nodes as they are written. In the values merge keys are resolved, and own keys would look repeated.
    """
    waiting: list[tuple[yaml.Node, tuple[str, ...]]] = [(root, ())]
    met: set[int] = set()
    while waiting:
        node, path = waiting.pop()
        if id(node) in met:  # an alias
            continue
        met.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(inner, (*path, str(index))) for index, inner in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[object, int] = {}
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue  # `construct_document` refuses it: no mapping of a config has such a key
                name = key.value if key.tag in _TEXT_TAGS else loader.construct_object(key)
                line = key.start_mark.line + 1
                if name in lines:
                    yield lines[name], line, ".".join((*path, key.value))
                lines[name] = line
                waiting.append((value, (*path, key.value)))
