"""Mutated conditions: every request is answered by its rule, as the oracle reads it, or is an INVALID_ARGUMENT."""

import re

import numpy as np
import pytest

from tests.tfdnc.export.bundle_cases import DIM, MAX_CANDIDATES, make_items, make_tower
from tests.tfdnc.retrieval.rules.rule_oracle import draw_attributes, draw_conditions, passes
from tfdnc.backend import tf
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.conditions import CONDITION, MAX_CONDITIONS, NUMBER
from tfdnc.contracts.config import ExportConfig, MergeConfig
from tfdnc.export.module import RetrievalModule
from tfdnc.export.signatures import example_inputs, signature_function
from tfdnc.retrieval.index import ExactIndex
from tfdnc.retrieval.rules.planes import build_planes

SIZES = (1, 5, 14, 40)
N = sum(SIZES)
CLUSTERS = np.repeat(np.arange(len(SIZES)), SIZES)
NAMES = [f"cluster {k}" for k in range(len(SIZES))]
ATTRIBUTES = draw_attributes(np.random.default_rng(5), N)
KNOWN = {f"{one.name}={text}" for one in ATTRIBUTES for own in one.texts for text in own}
KNOWN |= {f"cluster={name}" for name in NAMES}
NUMBERS = {one.name for one in ATTRIBUTES if one.numbers is not None}
PIECES = [
    "=",
    "!=",
    "<",
    "<=",
    ">",
    "é",
    "\x00",
    "\n",
    " ",
    "1e5",
    "-0",
    ".",
    "nan",
    "inf",
    "0x1",
    "brand",
    "price",
    "x",
]


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """A function of conditions: ids of the list, or None for an INVALID_ARGUMENT."""
    items = make_items(SIZES)
    tower = make_tower(items, "transformer")
    index, export = (
        ExactIndex(tower.item_embeddings, items.offsets),
        ExportConfig(num_candidates=10, max_candidates=MAX_CANDIDATES),
    )
    folder, planes = tmp_path_factory.mktemp("assets"), build_planes(ATTRIBUTES, items.offsets)
    module = RetrievalModule(tower, items, index, np.zeros([1, DIM]), MergeConfig(), export, folder, planes=planes)
    graph = signature_function(module, "retrieve_filtered").get_concrete_function()
    inputs = example_inputs(module, "retrieve_filtered", [["film 0 é"]])
    inputs[contract.NUM_CANDIDATES] = np.int32([MAX_CANDIDATES])

    def answer(conditions):
        given = inputs | {contract.WHERE: np.array([["", *(one.encode() for one in conditions)]], object)}
        try:
            found = graph(*(tf.constant(value) for value in given.values()))
        except tf.errors.InvalidArgumentError:
            return None
        ids = found[contract.ITEM_IDS].numpy()[0, : found[contract.NUM_RESULTS].numpy()[0]]
        return {items.item_ids.index(item.decode()) for item in ids}

    return answer


def mutate(rng, conditions):
    """Conditions with pieces cut out, put in, doubled or taken from another."""
    found = list(conditions) or ["price<20"]
    for _ in range(rng.integers(0, 3)):
        place = rng.integers(0, len(found))
        text = found[place]
        start, end = sorted(rng.integers(0, len(text) + 1, 2))
        middle = [str(rng.choice(PIECES)), "", text[start:end] * 2][rng.integers(0, 3)]
        found[place] = text[:start] + middle + text[end:]
    return found * (MAX_CONDITIONS if rng.random() < 0.01 else 1)


def is_known(condition):
    """True for a condition that the bundle knows, by the words of docs/rules.md."""
    match = re.match(CONDITION, condition)
    if not condition or not match:
        return not condition
    column, sign, value = match.groups()
    if sign in ("=", "!="):
        return f"{column}={value}" in KNOWN
    return column in NUMBERS and re.fullmatch(NUMBER, value) is not None


def check(ask, seeds):
    outcomes = set()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        conditions = mutate(rng, draw_conditions(rng, ATTRIBUTES, NAMES, most=3))
        found = ask(conditions)
        good = all(map(is_known, conditions)) and sum(map(bool, conditions)) <= MAX_CONDITIONS
        assert (found is not None) == good, conditions
        outcomes.add(good)
        if good:
            distinct = dict.fromkeys(conditions)
            wanted = {i for i in range(1, N) if passes(i, distinct, ATTRIBUTES, NAMES[CLUSTERS[i]])}  # 0 is seen
            assert found == wanted, conditions
    assert outcomes == {True, False}


def test_mutated_rules(ask):
    check(ask, range(300))


@pytest.mark.slow
def test_ten_thousand_mutated_rules(ask):
    check(ask, range(1000, 11_000))
