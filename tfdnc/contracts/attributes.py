"""Attributes of items, by which requests filter: columns of the item file, in order of the item table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

AttributeKind = Literal["value", "values", "boolean", "number"]
"""Kind of a column: one text, several texts (see `data.items.separator`), true or false, or a number."""


@dataclass(frozen=True)
class Attribute:
    """One column of N items.

    Attributes:
        name: of the column.
        kind: of its contents.
        texts: [N] distinct texts of every item, none for an item without; "true" or "false" for kind `boolean`, ()
            for kind `number`.
        numbers: [N] float64 for kind `number`, NaN for an item without; None for the other kinds.
    """

    name: str
    kind: AttributeKind
    texts: Sequence[tuple[str, ...]] = ()
    numbers: np.ndarray | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.texts) if self.numbers is None else len(self.numbers)

    def at(self, rows: np.ndarray) -> "Attribute":
        """Returns the column of the items at `rows`, in this order."""
        if self.numbers is not None:
            return replace(self, numbers=self.numbers[rows])
        return replace(self, texts=[self.texts[row] for row in rows])


def example_rules(attributes: Sequence[Attribute]) -> list[list[str]]:
    """Returns rules that the items know, for requests that check a bundle: one per column, then all together.

    A column of text gives its most frequent value, a column of numbers the lower half. A column without any value has
    no rule. Without attributes there is none: the bundle has no signature for it.
    """
    rules = []
    for attribute in attributes:
        if attribute.numbers is not None:
            known = np.sort(attribute.numbers[~np.isnan(attribute.numbers)])
            rules += [[f"{attribute.name}<={float(known[len(known) // 2])!r}"]] if len(known) else []
        elif counts := Counter(text for own in attribute.texts for text in own):
            rules.append([f"{attribute.name}={max(sorted(counts), key=counts.__getitem__)}"])
    return [*rules, [condition for rule in rules for condition in rule]] if attributes else []
