"""Bounds on values of attributes, with all other controls, against an oracle that chooses among all items."""

import numpy as np
import pytest

from serving.messages import history_array
from tests.tfdnc.export.bundle_cases import DIM, MAX_CANDIDATES, film, make_items, make_tower
from tests.tfdnc.export.controlled_rows import draw_rows, keys_of, request_of
from tests.tfdnc.retrieval.bounds.bound_oracle import choose, collides, draw_bounds, groups_of, is_barred, read
from tests.tfdnc.retrieval.rules.rule_oracle import draw_attributes, draw_conditions, passes
from tfdnc.backend import tf
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.config import ExportConfig, MergeConfig
from tfdnc.export.module import RetrievalModule
from tfdnc.export.signatures import signature_function
from tfdnc.retrieval.index import ExactIndex
from tfdnc.retrieval.rules.planes import build_planes

SIZES = (1, 30, 80, 189)
K, N = len(SIZES), sum(SIZES)
CLUSTERS = np.repeat(np.arange(K), SIZES)
NAMES = [f"cluster {k}" for k in range(K)]
ATTRIBUTES = draw_attributes(np.random.default_rng(5), N)
BUNDLES = {
    "joint": ("hadamard_per_position", MergeConfig(method="joint", alpha=0.8)),
    "quota": ("hadamard_literal", MergeConfig(method="quota", alpha=1.5)),
}


@pytest.fixture(scope="module", params=BUNDLES, ids=str)
def bundle(request, tmp_path_factory):
    """The module of a bundle with attributes, functions of its signatures, its merge, and its item vectors `[N, D]`."""
    encoder, merge = BUNDLES[request.param]
    items = make_items(SIZES)
    tower = make_tower(items, encoder)
    vectors = tower.user_vectors(tf.constant([[1]]))[0].shape[1]
    cold = np.random.default_rng(1).normal(size=[vectors, DIM])
    index = ExactIndex(tower.item_embeddings, items.offsets)
    export = ExportConfig(num_candidates=10, max_candidates=MAX_CANDIDATES)
    folder, planes = tmp_path_factory.mktemp("assets"), build_planes(ATTRIBUTES, items.offsets)
    module = RetrievalModule(tower, items, index, cold, merge, export, folder, planes=planes)
    ask = signature_function(module, "retrieve_bounded").get_concrete_function()
    return module, ask, merge, tower.item_embeddings.numpy()


def draw(seed):
    """Rows with all combinations of controls, conditions, and bounds."""
    rng = np.random.default_rng(seed)
    for row in draw_rows(rng):
        # The controls are those of a catalogue of 60 items.
        history, exclude = film(*rng.integers(0, N, rng.integers(0, 9))), film(*rng.integers(0, N, 12))
        if rng.random() < 0.3:  # more than the first search may find under bounds that block its items
            row["minimum"] = np.array([0, *rng.multinomial(row["length"], [0.1, 0.3, 0.3, 0.3])[1:]])
            row["maximum"] = np.zeros(K, int)
        conditions = draw_conditions(rng, ATTRIBUTES, NAMES, most=2) if rng.random() < 0.3 else []
        capped = row["maximum"].any() and (row["maximum"] >= 0).all()
        places = min(row["length"], row["maximum"].sum()) if capped else row["length"]
        bounds = draw_bounds(rng, ATTRIBUTES, int(places))
        if rng.random() < 0.3:
            bounds = [*bounds, f"in stock=true<={rng.integers(places // 2, places)}", "brand=brand 0<=1", "tags=new<=2"]
            bounds = [] if collides(bounds, ATTRIBUTES, places) else bounds
        elif rng.random() < 0.2 and places >= 12:  # the first results with new take the places of the others
            bounds = ["in stock=true<=6", "tags=new>=5", "brand=brand 0>=3", "brand=brand 1>=2", "in stock=false<=3"]
        conditions = [] if is_barred(conditions, bounds, ATTRIBUTES) else conditions
        yield row | {"history": history, "exclude": exclude if row["exclude"] else []}, conditions, bounds


def expected(row, conditions, bounds, vectors, intent, item_vectors, merge):
    """Item rows of the list: the choice of the oracle among all items that pass, and whether it made exchanges."""
    of_cluster = np.broadcast_to(vectors, [K, vectors.shape[-1]])[CLUSTERS]
    scores = np.einsum("nd,nd->n", item_vectors, of_cluster).astype(np.float64)
    gone = {int(text.split()[1]) for text in (row["history"] if row["seen"] != "allow" else []) + row["exclude"]}
    there = np.array([i not in gone and passes(i, conditions, ATTRIBUTES, NAMES[CLUSTERS[i]]) for i in range(N)])
    ranks = np.zeros(N)
    for k in range(K):
        mine = np.flatnonzero(there & (k == CLUSTERS))
        ranks[mine[np.argsort(-scores[mine], kind="stable")]] = np.arange(len(mine))
    keys = keys_of(scores, intent, np.minimum(ranks, row["length"]), row, merge, CLUSTERS)
    order = sorted(np.flatnonzero(there), key=lambda i: (-np.float32(keys[i]), CLUSTERS[i], ranks[i]))
    most = np.where(row["maximum"] < 0, 10**9, row["maximum"]) if row["maximum"].any() else np.full(K, 10**9)
    groups = {i: groups_of(i, bounds, ATTRIBUTES, CLUSTERS[i], row["minimum"], most) for i in order}
    promised = sum(read(bounds)[0].values()) + row["minimum"].sum()
    items = choose(order, groups, promised, row["length"], CLUSTERS.__getitem__)
    return items, items != choose(order, groups, promised, row["length"])


def asked(rows, conditions, bounds):
    return request_of(rows) | {
        contract.WHERE: history_array(conditions),
        contract.ALLOW: history_array([[]] * len(rows)),
        contract.BOUNDS: history_array(bounds),
    }


def tensors_of(request):
    names = contract.inputs_of("retrieve_bounded")
    return {row.name: tf.constant(request[row.name]) for row in names}


def check(bundle, seeds):
    module, ask, merge, item_vectors = bundle
    exchanges = 0
    for seed in seeds:
        rows, conditions, bounds = zip(*draw(seed), strict=True)
        request = asked(rows, conditions, bounds)
        answer = ask(*tensors_of(request).values())
        encoded = module.encode(tf.constant(request[contract.HISTORY]))
        answer, encoded = ({name: value.numpy() for name, value in one.items()} for one in (answer, encoded))
        for place, row in enumerate(rows):
            vectors, intent = (encoded[name][place] for name in (contract.USER_EMBEDDINGS, contract.INTENT))
            items, exchanged = expected(row, conditions[place], bounds[place], vectors, intent, item_vectors, merge)
            found = [text.decode() for text in answer[contract.ITEM_IDS][place, : answer[contract.NUM_RESULTS][place]]]
            assert found == film(*items), (seed, place, row, bounds[place])
            np.testing.assert_array_equal(answer[contract.QUOTAS][place], np.bincount(CLUSTERS[items], minlength=K))
            exchanges += exchanged
    assert exchanges > len(seeds)


def test_lists_are_those_of_a_choice_among_all_items(bundle):
    check(bundle, range(3))


@pytest.mark.slow
def test_ten_thousand_lists_are_those_of_a_choice_among_all_items(bundle):
    check(bundle, range(100, 260))  # 32 rows each, for two bundles


def one_row(bundle, bounds, where=(), **change):
    """The answer of `retrieve_bounded` to one user without history, with 20 results."""
    neutral = {
        "history": [], "exclude": [], "length": 20, "alpha": -1.0, "joint": -1.0, "seen": "",
        "weights": np.zeros(K), "minimum": np.zeros(K, int), "maximum": np.zeros(K, int),
    }  # fmt: skip
    answer = bundle[1](*tensors_of(asked([neutral | change], [list(where)], [bounds])).values())
    count = int(answer[contract.NUM_RESULTS][0])
    return [int(text.decode().split()[1]) for text in answer[contract.ITEM_IDS][0, :count].numpy()]


def number_of(items, column, value):
    texts = next(one.texts for one in ATTRIBUTES if one.name == column)
    return sum(value in texts[item] for item in items)


def test_minima_maxima_and_clusters_hold_together(bundle):
    """Results with the rare value are all items that have it, wherever they are in their clusters."""
    rare = number_of(range(N), "tags", "rare")
    assert 0 < rare < 10
    found = one_row(
        bundle,
        ["tags=rare>=10", "tags=sale!>=3", "brand=*<=8", "brand=brand 0<=12"],
        minimum=np.array([0, 0, 6, 0]), maximum=np.array([0, -1, -1, -1]),
    )  # fmt: skip
    assert len(found) == 20
    assert number_of(found, "tags", "rare") == rare
    assert number_of(found, "tags", "sale!") >= 3
    assert number_of(found, "brand", "brand 0") <= 12
    assert all(number_of(found, "brand", f"brand {n}") <= 8 for n in range(1, 9))
    assert 0 not in CLUSTERS[found]
    assert sum(CLUSTERS[found] == 2) >= 6


def test_maxima_may_leave_the_list_short(bundle):
    """Two values that all items share, of at most 3 and 4 results."""
    assert len(one_row(bundle, ["in stock=true<=3", "in stock=false<=4"])) == 7
    assert len(one_row(bundle, ["in stock=*<=2"])) == 4


@pytest.mark.parametrize(
    ("bounds", "change", "message"),
    [
        (["brand=brand 0>=5", "brand=brand 0<=4"], {}, "got brand=brand 0>=5 and brand=brand 0<=4 in row 0"),
        (["tags=é>=3", "tags=*<=2"], {}, r"got tags=é>=3 and tags=\*<=2 in row 0"),
        (["brand=brand 0>=21"], {}, "got brand=brand 0>=21 and num_candidates 20 in row 0"),
        (
            ["brand=brand 0>=9", "brand=brand 1>=8", "brand=brand 2>=4"],
            {},
            "got brand=brand 0>=9 and brand=brand 1>=8, where the minima of this column add up to 21, above "
            "num_candidates 20 in row 0",
        ),
        (["tags=new>=5"], {"maximum": np.array([1, 1, 1, 1])}, "tags=new>=5 and cluster_max, which add up to 4 in"),
        (
            ["brand=brand 0>=3", "brand=brand 1>=2"],
            {"maximum": np.array([1, 1, 1, 1])},
            "brand 0>=3 and brand=brand 1>=2, where the minima of this column add up to 5, above cluster_max, which "
            "add up to 4 in row 0",
        ),
        (["tags=new>=2"], {"where": ["in stock=true", "tags!=new"]}, "got tags=new>=2 and the condition tags!=new in"),
        (
            ["brand=brand 0>=2"],
            {"where": ["brand=brand 1", "brand=brand 2"]},
            "got brand=brand 0>=2 and the condition brand=brand 1 in row 0",
        ),
        (["brand=brnd>=5"], {}, "got brand=brnd>=5. brand: brand 0, brand 1"),
        (["brnd=a>=5"], {}, "Expected a bound on a value of this bundle.*got brnd=a>=5. Columns: brand, tags"),
        (["price=3>=5"], {}, "got price=3>=5. price: numbers between"),
        (["cluster=cluster 1>=5"], {}, "Clusters have cluster_min and cluster_max"),
        (["brand=*>=5"], {}, "Each value of a column of texts can have a maximum"),
        (["brand=brand 0"], {}, "got brand=brand 0. Columns: brand"),
        (["brand=brand 0>=0.5"], {}, "got brand=brand 0>=0.5"),
        (["brand=brand 0>=1"] * 33, {}, "at most 32 bounds"),
    ],
)
def test_bounds_that_no_list_can_keep_are_refused_by_name(bundle, bounds, change, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        one_row(bundle, bounds, **change)


def test_a_minimum_and_a_condition_on_its_column_may_go_together(bundle):
    conditions = ["brand=brand 0", "brand=brand 1", "brand!=brand 2", "tags=new"]
    bounds = ["brand=brand 0>=2", "tags=sale!>=1", "brand=brand 2>=0", "brand=brand 2<=3"]
    found = one_row(bundle, bounds, conditions)
    assert number_of(found, "brand", "brand 0") >= 2
    assert number_of(found, "tags", "sale!") >= 1


def test_without_bounds_the_answer_is_that_of_a_filter(bundle):
    """Also in a batch with rows that have bounds."""
    module, ask, _, _ = bundle
    rows, conditions, bounds = zip(*draw(3), strict=True)
    request = asked(rows, conditions, [[] if place % 2 else own for place, own in enumerate(bounds)])
    answer = ask(*tensors_of(request).values())
    names = [row.name for row in contract.inputs_of("retrieve_filtered")]
    filtered = module.retrieve_filtered(**{name: tf.constant(request[name]) for name in names})
    for name in (contract.ITEM_IDS, contract.CLUSTER_IDS, contract.NUM_RESULTS, contract.QUOTAS):
        np.testing.assert_array_equal(answer[name][1::2], filtered[name][1::2], err_msg=name)
    np.testing.assert_allclose(answer[contract.SCORES][1::2], filtered[contract.SCORES][1::2], rtol=1e-4)
