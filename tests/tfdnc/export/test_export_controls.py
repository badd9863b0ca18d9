"""Every combination of controls against an oracle in NumPy for the contract: keys, bounds, excluded and seen items."""

import itertools

import numpy as np
import pytest

from serving.messages import history_array
from tests.tfdnc.export.bundle_cases import DIM, MAX_CANDIDATES, film, make_items, make_tower
from tests.tfdnc.export.controlled_rows import CLUSTERS, SIZES, K, N, draw_rows, keys_of, request_of
from tests.tfdnc.retrieval.rules.rule_oracle import draw_attributes, draw_conditions, passes
from tfdnc.backend import tf
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.config import ExportConfig, MergeConfig
from tfdnc.export.module import RetrievalModule
from tfdnc.retrieval.index import ExactIndex
from tfdnc.retrieval.rules.planes import build_planes
from tfdnc.retrieval.rules.rules import Rules

NAMES = [f"cluster {k}" for k in range(K)]
ATTRIBUTES = draw_attributes(np.random.default_rng(5), N)
BUNDLES = {
    "joint": ("hadamard_per_position", MergeConfig(method="joint", alpha=0.8), "exclude"),
    "quota": ("hadamard_literal", MergeConfig(method="quota", alpha=1.5), "allow"),  # encodes for clusters with results
    "score": ("transformer", MergeConfig(method="score"), "exclude"),
}


@pytest.fixture(scope="module", params=BUNDLES, ids=str)
def bundle(request, tmp_path_factory):
    """The module behind a bundle's signatures, its merge and its rule for seen items, its item vectors `[N, D]`."""
    encoder, merge, seen = BUNDLES[request.param]
    items = make_items(SIZES)
    tower = make_tower(items, encoder)
    vectors = tower.user_vectors(tf.constant([[1]]))[0].shape[1]
    cold = np.random.default_rng(1).normal(size=[vectors, DIM])
    index = ExactIndex(tower.item_embeddings, items.offsets)
    export = ExportConfig(num_candidates=10, max_candidates=MAX_CANDIDATES)
    folder = tmp_path_factory.mktemp("assets")
    module = RetrievalModule(tower, items, index, cold, merge, export, folder, seen)
    return module, merge, seen, tower.item_embeddings.numpy()


def expected(row, vectors, intent, item_vectors, merge, seen):
    """Item rows of the list: first the promised, then the best that no maximum forbids; in the order of the keys."""
    of_cluster = np.broadcast_to(vectors, [K, vectors.shape[-1]])[CLUSTERS]
    scores = np.einsum("nd,nd->n", item_vectors, of_cluster).astype(np.float64)
    had = row["history"] if (row["seen"] or seen) == "exclude" else []
    gone = {int(text.split()[1]) for text in had + row["exclude"]}
    there = np.array([item not in gone for item in range(N)])
    ranks = np.zeros(N)
    for k in range(K):
        mine = np.flatnonzero(there & (k == CLUSTERS))
        ranks[mine[np.argsort(-scores[mine], kind="stable")]] = np.arange(len(mine))
    keys = keys_of(scores, intent, ranks, row, merge)
    maximum = row["maximum"] if row["maximum"].any() else np.full(K, -1)
    most = np.where(maximum < 0, N, maximum)[CLUSTERS]
    order = sorted(np.flatnonzero(there & (ranks < most)), key=lambda i: (-np.float32(keys[i]), CLUSTERS[i], ranks[i]))
    promised = [i for i in order if ranks[i] < row["minimum"][CLUSTERS[i]]]
    rest = [i for i in order if i not in promised]
    chosen = set((promised + rest)[: row["length"]])
    return [i for i in order if i in chosen]


def test_all_controls_of_a_row_hold_together(bundle):
    """`exclude` or bounds beside the joint alpha could not be asked for."""
    module, merge, seen, item_vectors = bundle
    rows = [row for seed in range(3) for row in draw_rows(np.random.default_rng(seed))]
    request = request_of(rows)
    answer = module.retrieve_controlled(**{name: tf.constant(value) for name, value in request.items()})
    encoded = module.encode(tf.constant(request[contract.HISTORY]))
    encoded = {name: value.numpy() for name, value in encoded.items()}
    for place, row in enumerate(rows):
        vectors, intent = (encoded[name][place] for name in (contract.USER_EMBEDDINGS, contract.INTENT))
        items = expected(row, vectors, intent, item_vectors, merge, seen)
        count = int(answer[contract.NUM_RESULTS][place])
        found = [text.decode() for text in answer[contract.ITEM_IDS][place, :count].numpy()]
        assert found == film(*items), row
        np.testing.assert_array_equal(answer[contract.QUOTAS][place], np.bincount(CLUSTERS[items], minlength=K))


@pytest.mark.parametrize("joint", [0.0, 0.5, 1.0])
def test_users_who_bring_their_vectors_may_ask_for_the_joint_merge(bundle, joint):
    module, _, seen, _ = bundle
    history = tf.constant(history_array([film(0, 7, 25), film(9), []]))
    controls = {contract.NUM_CANDIDATES: tf.constant([20, 5, 9]), contract.ALPHA: tf.constant([joint, -1.0, joint])}
    by_history = module.retrieve_joint(history=history, **controls)
    asked = controls | {contract.JOINT_ALPHA: controls[contract.ALPHA], contract.ALPHA: tf.fill([3], -1.0)}
    left_out = history if seen == "exclude" else tf.fill([3, 1], "")  # `search` itself knows no other rule
    answer = module.search(**module.encode(history), history=left_out, **asked)
    for name in (contract.ITEM_IDS, contract.QUOTAS, contract.NUM_RESULTS):
        np.testing.assert_array_equal(answer[name], by_history[name])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected joint_alpha or an alpha of 0 or more in a row"):
        module.search(**module.encode(history), history=history, **(asked | {contract.ALPHA: tf.fill([3], 1.0)}))


def test_a_bundle_says_what_its_clusters_are_called(bundle):
    module, _, _, _ = bundle
    names = module.describe(tf.constant([["", "x"], ["", ""]]))[contract.CLUSTER_NAMES].numpy()
    assert names.tolist() == [[f"cluster {k}".encode() for k in range(K)]] * 2


@pytest.fixture
def filtering(bundle, tmp_path):
    """The bundle of the controls, with attributes."""
    module, *others = bundle
    module._rules = Rules(build_planes(ATTRIBUTES, np.concatenate([[0], np.cumsum(SIZES)])), NAMES, tmp_path)
    yield module, *others
    module._rules = None


def draw_filtered(rng):
    """Rows with all combinations of controls, each with a rule, and some with allowed items."""
    for row in draw_rows(rng):
        conditions = draw_conditions(rng, ATTRIBUTES, NAMES)
        allowed = rng.integers(0, N, 25) if rng.random() < 0.2 else np.arange(N)
        mask = np.array([passes(i, conditions, ATTRIBUTES, NAMES[CLUSTERS[i]]) for i in range(N)])
        yield row, conditions, film(*allowed) if len(allowed) < N else [], mask & np.isin(np.arange(N), allowed)


def check_filtered(filtering, seeds):
    module, merge, rule, item_vectors = filtering
    rows, rules, allowed, masks = zip(
        *itertools.chain.from_iterable(draw_filtered(np.random.default_rng(seed)) for seed in seeds), strict=True
    )
    for start in range(0, len(rows), 512):
        part = slice(start, start + 512)
        request = request_of(rows[part]) | {
            contract.WHERE: history_array(rules[part]),
            contract.ALLOW: history_array(allowed[part]),
        }
        answer = module.retrieve_filtered(**{name: tf.constant(value) for name, value in request.items()})
        encoded = module.encode(tf.constant(request[contract.HISTORY]))
        answer, encoded = ({name: value.numpy() for name, value in one.items()} for one in (answer, encoded))
        for place, (row, mask) in enumerate(zip(rows[part], masks[part], strict=True)):
            vectors, intent = (encoded[name][place] for name in (contract.USER_EMBEDDINGS, contract.INTENT))
            gone = row | {"exclude": [*row["exclude"], *film(*np.flatnonzero(~mask))]}
            items = expected(gone, vectors, intent, item_vectors, merge, rule)
            found = [text.decode() for text in answer[contract.ITEM_IDS][place, : answer[contract.NUM_RESULTS][place]]]
            assert found == film(*items), (row, rules[start + place])
            np.testing.assert_array_equal(answer[contract.QUOTAS][place], np.bincount(CLUSTERS[items], minlength=K))


def test_a_filter_equals_excluding_every_other_item(filtering):
    """Keys do not change: probabilities are those of the whole cluster, so alpha means what it means without."""
    check_filtered(filtering, range(6))


@pytest.mark.slow
def test_ten_thousand_filters_equal_excluding_every_other_item(filtering):
    check_filtered(filtering, range(100, 205))  # 32 rows each, for three bundles


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {contract.WHERE: [["brand=absent"]]},
            "Expected a condition on an attribute of this bundle, got brand=absent",
        ),
        ({contract.WHERE: [["price"]]}, "got price. Columns: brand, tags, in stock, price, days, cluster"),
        ({contract.WHERE: [[""], [""]]}, "same number of rows"),
        ({contract.ALLOW: [["a"], ["b"]]}, "same number of rows"),
    ],
)
def test_bad_rules_are_refused(filtering, change, message):
    module, *_ = filtering
    row = next(draw_rows(np.random.default_rng(0)))
    request = request_of([row]) | {contract.WHERE: [[""]], contract.ALLOW: [[""]]} | change
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        module.retrieve_filtered(**{name: tf.constant(value) for name, value in request.items()})


def test_a_bundle_names_the_conditions_that_it_knows(filtering):
    known = filtering[0].describe_rules(tf.constant([["", "x"], ["", ""]]))[contract.KNOWN_CONDITIONS].numpy()
    texts = [condition.decode() for condition in known[0]]
    assert (known[0] == known[1]).all()
    assert texts[0] == "brand=brand 0"
    assert {"in stock=true", "tags=local=1", "tags=é", "cluster=cluster 3", "days>=-3", "days<=3"} <= set(texts)


def test_a_bundle_without_attributes_has_the_signatures_of_before(bundle):
    module, *_ = bundle
    assert not module.has_rules
    assert contract.signatures_of(module.has_rules) == contract.SIGNATURES
