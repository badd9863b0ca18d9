"""A slow oracle for rules: every item is asked by itself, by the words of docs/rules.md."""

import re

import numpy as np

from tfdnc.contracts.attributes import Attribute
from tfdnc.contracts.conditions import CONDITION


def draw_attributes(rng, size):
    """Columns of every kind, with frequent, rare and missing values."""
    brands = [f"brand {n}" for n in range(9)]
    shares = np.array([0.5, 0.2, 0.1, 0.08, 0.05, 0.03, 0.02, 0.01, 0.01])
    tags = np.array(["new", "local=1", "sale!", "é", "rare"])
    prices = np.where(rng.random(size) < 0.1, np.nan, np.round(rng.gamma(2, 10, size), 1))
    return [
        Attribute(
            "brand", "value", [(str(b),) if rng.random() < 0.9 else () for b in rng.choice(brands, size, p=shares)]
        ),
        Attribute(
            "tags", "values", [tuple(map(str, tags[rng.random(5) < [0.5, 0.3, 0.1, 0.1, 0.02]])) for _ in range(size)]
        ),
        Attribute("in stock", "boolean", [(str(flag).lower(),) for flag in rng.random(size) < 0.7]),
        Attribute("price", "number", numbers=prices),
        Attribute("days", "number", numbers=rng.integers(-3, 4, size).astype(float)),
    ]


def draw_conditions(rng, attributes, cluster_names, most=4):
    """Up to `most` known conditions."""
    found = []
    for _ in range(rng.integers(0, most + 1)):
        column = rng.integers(0, len(attributes) + 1)
        if column == len(attributes):
            found.append(f"cluster{rng.choice(['=', '!='])}{rng.choice(cluster_names)}")
        elif attributes[column].numbers is not None:
            numbers = attributes[column].numbers
            limit = rng.choice(numbers[~np.isnan(numbers)]) + rng.choice([0, 0, 0.05, -1000, 1000])
            found.append(f"{attributes[column].name}{rng.choice(['<', '<=', '>', '>='])}{limit:g}")
        else:
            known = sorted({text for own in attributes[column].texts for text in own})
            found.append(f"{attributes[column].name}{rng.choice(['=', '=', '!='])}{rng.choice(known)}")
    return found


def passes(item, conditions, attributes, cluster_name):
    """True if an item passes all conditions."""
    alternatives = {}
    for condition in filter(None, conditions):
        column, sign, value = re.match(CONDITION, condition).groups()
        attribute = next((one for one in attributes if one.name == column), None)
        if sign in ("=", "!="):
            own = (cluster_name,) if attribute is None else attribute.texts[item]
            if sign == "!=" and value in own:
                return False
            if sign == "=":
                alternatives[column] = alternatives.get(column, False) or value in own
        else:
            number, limit = attribute.numbers[item], float(value)
            inside = {"<": number < limit, "<=": number <= limit, ">": number > limit, ">=": number >= limit}
            if not inside[sign]:  # False for NaN
                return False
    return all(alternatives.values())
