"""Conditions of `tfdnc query` in words: those that the list was made under, and what the bundle could be asked by."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from tfdnc.cli.cluster_flags import cluster_controls

_SHOWN_IDS = 5


def shown_rules(arguments: argparse.Namespace, manifest: Mapping[str, Any]) -> str:
    """Returns a sentence with every condition and bound of the query, in order of the flags.

    Args:
        arguments: flags of the command.
        manifest: manifest of the bundle.

    Returns:
        Without a condition, the columns of the bundle that could be asked by; "" if it has none.
    """
    rules = _of_items(arguments)
    for name, bounds in cluster_controls(arguments).items():
        each = [f"{key}: {bound}" for one in bounds.items() for key, bound in _single(*one)]
        rules.append(f"{name} {', '.join(each)}")
    if rules:
        return f"Conditions of this list: {'; '.join(rules)}."
    columns = [attribute["name"] for attribute in manifest.get("attributes", ())]
    if not columns:
        return ""
    return f"Without conditions. The bundle has attributes for --where, --at-least and --at-most: {', '.join(columns)}."


def _of_items(arguments: argparse.Namespace) -> list[str]:
    rules = [f"where {_where(arguments.where)}"] if arguments.where else []
    rules += [f"only {_ids(arguments.allow)}"] if arguments.allow else []
    rules += [f"without {_ids(arguments.exclude)}"] if arguments.exclude else []
    rules += {"allow": ["seen items allowed"], "exclude": ["seen items excluded"]}.get(arguments.seen, [])
    return rules


def _where(conditions: Sequence[str]) -> str:
    """Joins conditions by `and`; those with `=` of one column are alternatives, joined by `or`."""
    by_column: dict[str, list[str]] = {}
    for condition in conditions:
        column, equals, _ = condition.partition("=")
        is_equal = bool(equals) and column[-1:] not in ("<", ">", "!")
        by_column.setdefault(column if is_equal else condition, []).append(condition)
    joined = [" or ".join(alternatives) for alternatives in by_column.values()]
    return " and ".join(f"({one})" if " or " in one and len(joined) > 1 else one for one in joined)


def _ids(items: list[str]) -> str:
    more = len(items) - _SHOWN_IDS
    return ", ".join(items[:_SHOWN_IDS]) + (f" and {more} more items" if more > 0 else "")


def _single(key: str, bound: Any) -> list[tuple[str, Any]]:
    """Returns a bound of a cluster, or those of each value of a column."""
    return [(f"{key}={text}", number) for text, number in bound.items()] if isinstance(bound, dict) else [(key, bound)]
