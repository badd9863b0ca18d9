"""Flags of `tfdnc query` that bound results: `--minimum Comedy=0.2` by cluster, `--at-most brand=acme=3` by value."""

import argparse
from typing import Any

from tfdnc.contracts.errors import UserError

_HELP = {
    "minimum": "least results of clusters: a share of the list (0.2) or a count (3)",
    "maximum": "most results of clusters: a share of the list (0.2) or a count (3)",
    "quotas": "weights by which these clusters share the list, instead of by the intent",
}

_OF_VALUES = {
    "at_least": ("minimum", "least results with a value of an attribute, such as country=local=0.2"),
    "at_most": ("maximum", 'most results with a value, such as brand=acme=3, or of each value: "brand=*=3"'),
}


def add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each argument of `RetrievalClient.retrieve` about clusters by name."""
    for name, text in _HELP.items():
        parser.add_argument(f"--{name}", nargs="+", action="extend", type=_pair, metavar="CLUSTER=VALUE", help=text)
    for name, (_, text) in _OF_VALUES.items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, nargs="+", action="extend", type=_triple, metavar="COLUMN=TEXT=VALUE", help=text)


def cluster_controls(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Returns the arguments of `RetrievalClient.retrieve` for the flags that were given.

    Raises:
        UserError: A flag names a cluster, or a value, twice, or what is both a cluster and a column.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in _HELP:
        for cluster, number in getattr(arguments, name) or ():
            _set(found.setdefault(name, {}), cluster, number, f"--{name}", cluster)
    for flag, (name, _) in _OF_VALUES.items():
        for column, text, number in getattr(arguments, flag) or ():
            of_column = found.setdefault(name, {}).setdefault(column, {})
            if not isinstance(of_column, dict):
                raise UserError(f"Expected {column} as a cluster or as a column, got both. Give the cluster's number.")
            _set(of_column, text, number, f"--{flag.replace('_', '-')}", f"{column}={text}")
    return found


def _set(bounds: dict[str, Any], key: str, number: float, flag: str, shown: str) -> None:
    if key in bounds:
        raise UserError(f"Expected {shown} once in {flag}, got {bounds[key]} and {number}. Drop one.")
    bounds[key] = number


def _triple(text: str) -> tuple[str, str, float]:
    """Reads `COLUMN=TEXT=VALUE`; the text may contain `=`, the name of a column does not."""
    column, separator, bound = text.partition("=")
    try:
        value, number = _pair(bound)
    except argparse.ArgumentTypeError:
        separator = ""
    if not separator or not column:
        raise argparse.ArgumentTypeError(f"expected COLUMN=TEXT=VALUE, such as brand=acme=3, got {text}")
    return column, value, number


def _pair(text: str) -> tuple[str, float]:
    """Reads `CLUSTER=VALUE`; a name may contain `=`. Digits alone are a count, any other number a share."""
    cluster, separator, value = text.rpartition("=")
    number: float | None
    try:
        number = int(value) if value.isdecimal() else float(value)
    except ValueError:
        number = None
    if not separator or not cluster or number is None:
        raise argparse.ArgumentTypeError(f"expected CLUSTER=VALUE, such as Comedy=0.2 or Comedy=3, got {text}")
    return cluster, number
