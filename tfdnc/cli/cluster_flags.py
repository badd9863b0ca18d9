"""Flags of `tfdnc query` that control the results of clusters: `--minimum Comedy=0.2 "Film noir=3"`."""

import argparse

_HELP = {
    "minimum": "least results of clusters: a share of the list (0.2) or a count (3)",
    "maximum": "most results of clusters: a share of the list (0.2) or a count (3)",
    "quotas": "weights by which these clusters share the list, instead of by the intent",
}


def add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each argument of `RetrievalClient.retrieve` about clusters by name."""
    for name, text in _HELP.items():
        parser.add_argument(f"--{name}", nargs="+", type=_pair, metavar="CLUSTER=VALUE", help=text)


def cluster_controls(arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Returns the arguments of `RetrievalClient.retrieve` for the flags that were given.

    If a flag names a cluster twice, the last value counts, as for any flag.
    """
    return {name: dict(pairs) for name in _HELP if (pairs := getattr(arguments, name))}


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
