"""The shop's rules in the arguments of a client: conditions on attributes, and the only items that are allowed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from serving import arguments
from tfdnc.contracts.conditions import Rule, checked, forbidden, required

Rules = Rule | Iterable[str] | Iterable[Rule | Iterable[str] | None]
"""A rule for all users, as a dict or as texts such as `price<=20`, or [B] of these; None for a user without."""

AllowedRows = Iterable[Iterable[str] | None]
"""[B] sequences of item ids; None for a user of whom all items may come back."""


def condition_rows(where: Rules | None, forbid: Rules | None, rows: int) -> list[list[str]] | None:
    """Returns the conditions of each of `rows` users; None if there is no rule.

    Raises:
        ValueError: Rules that no bundle could read.
    """
    if where is None and forbid is None:
        return None
    kept = _per_user(where, rows, "where", required)
    gone = _per_user(forbid, rows, "forbid", forbidden)
    return [[*one, *other] for one, other in zip(kept, gone, strict=True)]


def allowed_rows(allow: AllowedRows | None, rows: int) -> list[list[str]] | None:
    """Returns the allowed items of each of `rows` users, [] for all; None if every user may see all.

    Raises:
        ValueError: Other values than one sequence of ids, or None, for each user; or a sequence without ids.
    """
    if allow is None:
        return None
    each = arguments.listed(allow)
    if each is None or len(each) != rows:
        got = arguments.shown(allow if each is None else each)
        raise ValueError(f"Expected one sequence to allow per history, {rows}, got {got}.")
    found = [[] if row is None else arguments.text_rows([row], "allow")[0] for row in each]
    for place, (row, ids) in enumerate(zip(each, found, strict=True)):
        if row is not None and not any(ids):
            raise ValueError(f"Expected at least one item id to allow for history {place}, got none. None allows all.")
    return found


def _per_user(rules: Any, rows: int, name: str, read: Callable[[Rule], list[str]]) -> list[list[str]]:
    if rules is None or isinstance(rules, Mapping):
        return [_conditions(rules, name, read)] * rows
    each = arguments.listed(rules)
    if each is not None and all(isinstance(one, str) for one in each):
        return [_conditions(each, name, read)] * rows
    if each is None or len(each) != rows:
        raise ValueError(
            f"Expected {name} as a dict of columns, as conditions, or {rows} of these, one per history, got "
            f"{arguments.shown(rules if each is None else each)}."
        )
    return [_conditions(one, name, read) for one in each]


def _conditions(rule: Any, name: str, read: Callable[[Rule], list[str]]) -> list[str]:
    if rule is None:
        return []
    if isinstance(rule, Mapping):
        return read(rule)
    texts = arguments.listed(rule)
    if texts is None:
        raise ValueError(
            f"Expected {name} as a dict of columns or as a list of conditions, got {arguments.shown(rule)}."
        )
    if name == "forbid":
        raise ValueError(
            f"Expected forbid as a dict of columns, got {arguments.shown(rule)}. Give conditions with != in where."
        )
    return checked(texts)
