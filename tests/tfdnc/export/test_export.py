"""Bundles, loaded in fresh processes by the loader of TF Serving and by `tf.saved_model.load`."""

import os
import pickle
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.tfdnc.export.bundle_cases import (
    LENGTH,
    MAX_CANDIDATES,
    MAX_LENGTH,
    Case,
    ThreeInterests,
    film,
    history,
    make_items,
    retrieve_inputs,
)
from tests.tfdnc.export.graph_ops import SCANN_OPS, foreign, ops_of, readers_of
from tfdnc.backend import tf
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.config import ExportConfig, MergeConfig
from tfdnc.contracts.errors import UserError
from tfdnc.export.recent import last_items
from tfdnc.export.signatures import signature_function
from tfdnc.export.vocabulary import ItemVocabulary

INVALID_ARGUMENT = 3
READER = Path(__file__).with_name("export_reader.py")
LOADED = {"tf1_session": ("exact", "scann", "auto", "interests"), "saved_model_load": ("exact", "scann")}
"""Loader -> bundles it loads. All that Python's could do with the others, it does with one of either index."""


@pytest.fixture(scope="session")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    small, uneven = (1, 5, 14, 40), (1, 40, 300, 2500)
    return {
        "exact": Case(folder / "exact", small, "exact", "hadamard_per_position"),
        "scann": Case(folder / "scann", uneven, "scann", "hadamard_per_position"),
        "auto": Case(folder / "auto", small, "auto", "transformer", MergeConfig(method="quota", alpha=2.0)),
        "interests": Case(
            folder / "interests", (5, 300, 2500), "scann", "transformer", MergeConfig(method="score"), ThreeInterests
        ),
    }


def controlled_inputs(rows):
    """Controls that mean something to bundles with any number of clusters."""
    return retrieve_inputs(rows, [20, 5, 9], [-1, 2, -1]) | {
        contract.EXCLUDE: history(film(30, 31), [], ["nobody knows"]),
        contract.CLUSTER_QUOTAS: np.zeros([3, 0], np.float32),
        contract.CLUSTER_MIN: np.zeros([3, 1], np.int32),
        contract.CLUSTER_MAX: np.zeros([3, 1], np.int32),
        contract.JOINT_ALPHA: np.float32([0.5, -1, -1]),
        contract.SEEN: np.array(["exclude", "", "exclude"], object),
    }


LONG = film(*range(3, 13))  # longer than MAX_LENGTH
HISTORIES = {
    "plain": film(0, 7, 25),
    "padding in the middle": ["", *film(0), "", "", *film(7, 25), ""],
    "unknown ids": ["nobody knows", *film(0, 7), "7", *film(25)],
    "long": LONG,
    "empty": [],
    "all padding": [""] * 12,
    "only unknown ids": ["x", "y"],
    "everything": film(*range(60)),
}

REQUESTS = {
    "histories": ("retrieve", retrieve_inputs(list(HISTORIES.values()))),
    "default": ("serving_default", {contract.HISTORY: history(*HISTORIES.values())}),
    "encode": ("encode", {contract.HISTORY: history(*HISTORIES.values())}),
    "tail of the long one": ("encode", {contract.HISTORY: history(LONG[-MAX_LENGTH:])}),
    "no columns": ("retrieve", retrieve_inputs(np.zeros([2, 0], dtype=object))),
    "more than there are": ("retrieve", retrieve_inputs([film(0, 7, 25), LONG], num_candidates=MAX_CANDIDATES)),
    "per row": ("retrieve", retrieve_inputs([film(0, 7, 25)] * 4, [1, 20, 5, 7], [-1, 0, np.inf, -np.inf])),
    "joint": ("retrieve_joint", retrieve_inputs([film(0, 7, 25), LONG, []] * 2, 40, [0.7, 0.7, 0.7, -1, 0, np.inf])),
    "joint, all": ("retrieve_joint", retrieve_inputs([film(0, 7, 25), LONG], MAX_CANDIDATES, 0.7)),
    "controlled": ("retrieve_controlled", controlled_inputs([film(0, 7, 25), [], LONG])),
    "seen ones too": (
        "retrieve_controlled",
        controlled_inputs([film(0, 7, 25), LONG, LONG]) | {contract.SEEN: np.array(["allow"] * 3, object)},
    ),
    "none": ("retrieve", retrieve_inputs([film(1), film(2)], num_candidates=[0, 3])),
    "too many": ("retrieve", retrieve_inputs([film(1)], num_candidates=MAX_CANDIDATES + 1)),
    "alpha is NaN": ("retrieve", retrieve_inputs([film(1)], alpha=np.nan)),
    "joint alpha is NaN": ("retrieve_joint", retrieve_inputs([film(1)], alpha=np.nan)),
    "uneven batch": ("retrieve", retrieve_inputs([film(1), film(2)]) | {contract.ALPHA: np.float32([1.0])}),
    "no rows": ("retrieve", retrieve_inputs(np.zeros([0, 3], dtype=object))),
    "too many rows": ("retrieve", retrieve_inputs(np.zeros([1025, 0], dtype=object))),
}
ALONE = ("unknown ids", "long", "empty", "everything")
SINGLES = {
    f"single {name}": ("retrieve", retrieve_inputs(history(row))) for name, row in HISTORIES.items() if name in ALONE
}


@pytest.fixture(scope="session")
def answers(cases, tmp_path_factory):
    """Loader -> bundle -> request -> answer; one fresh process per loader."""
    requests = {}
    for name, case in cases.items():
        found = {"search": ("search", case.search_each_cluster())}
        bad = case.search_each_cluster()
        bad[contract.USER_EMBEDDINGS][0, 0, 0] = np.nan
        found["NaN vector"] = ("search", bad)
        for number, request in enumerate(read_warmup(case.folder)):
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            found[f"warm-up {number}"] = (request.model_spec.signature_name, inputs)
        requests[name] = REQUESTS | SINGLES | found
    folder = tmp_path_factory.mktemp("answers")
    for loader, names in LOADED.items():
        asked = {cases[name].folder: list(requests[name].values()) for name in names}
        (folder / f"{loader} requests").write_bytes(pickle.dumps(asked))
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, READER, loader, folder / f"{loader} requests", folder / loader],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for loader in LOADED
    ]
    complaints = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], complaints
    # A screenful of TensorFlow's optimiser about a softmax without a rank was all that `tfdnc serve` printed once.
    assert not [words for words in complaints if "PredictCost" in words]
    result = {}
    for loader, names in LOADED.items():
        raw = pickle.loads((folder / loader).read_bytes())
        result[loader] = {name: dict(zip(requests[name], raw[cases[name].folder], strict=True)) for name in names}
    return result


@pytest.fixture(params=[(name, loader) for loader, names in LOADED.items() for name in names], ids="-".join)
def served(request, cases, answers):
    name, loader = request.param
    return SimpleNamespace(case=cases[name], answers=answers[loader][name])


def read_warmup(folder):
    from tensorflow_serving.apis import prediction_log_pb2  # here: it imports TensorFlow, tfdnc.backend must be first

    file = str(folder / "assets.extra/tf_serving_warmup_requests")
    for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
        yield prediction_log_pb2.PredictionLog.FromString(record).predict_log.request


def test_every_cluster_answers_with_its_own_items(served):
    case, answer = served.case, served.answers["search"]
    request = case.search_each_cluster()
    for cluster, size in enumerate(case.sizes):
        count = min(50, size)
        start = case.items.offsets[cluster]
        vectors = request[contract.USER_EMBEDDINGS][cluster]
        interests = vectors[[cluster]] if case.tower.vectors_per_cluster else vectors
        scores = (case.item_vectors[start : start + size] @ interests.T).max(axis=1)
        oracle = start + np.argsort(-scores)[:count]
        got = case.rows(answer[contract.ITEM_IDS][cluster, :count])
        assert (answer[contract.CLUSTER_IDS][cluster, :count] == cluster).all()
        assert answer[contract.QUOTAS][cluster, cluster] == count
        if case.manifest["index"][cluster]["kind"] in ("exact", "scann_brute_force"):
            np.testing.assert_array_equal(got, oracle)
        else:
            # One query; the mean over many is at least .98, which calibration measures and another test reads.
            assert len(set(got) & set(oracle)) / count >= 0.94


@pytest.mark.parametrize(
    ("bundle", "request_name", "alpha"),
    [("exact", "more than there are", 1.0), ("exact", "joint, all", 0.7), ("auto", "joint, all", 0.7)],
)
def test_the_joint_list_is_the_exact_sort_by_probability(cases, answers, bundle, request_name, alpha):
    case, served = cases[bundle], answers["tf1_session"][bundle]
    answer, encoded = served[request_name], served["encode"]
    for row, name in enumerate(["plain", "long"]):
        place = list(HISTORIES).index(name)
        vectors, intent = encoded[contract.USER_EMBEDDINGS][place], encoded[contract.INTENT][place]
        vector_of_cluster = np.broadcast_to(vectors, [len(case.sizes), vectors.shape[-1]])
        scores = np.einsum("nd,nd->n", case.item_vectors, vector_of_cluster[case.items.clusters]).astype(np.float64)
        partition = np.log([np.exp(scores[case.items.clusters == k]).sum() for k in range(len(case.sizes))])
        keys = alpha * np.log(intent)[case.items.clusters] + scores - partition[case.items.clusters]
        seen = [case.items.item_ids.index(item_id) for item_id in HISTORIES[name]]
        keys[seen] = -np.inf
        order = np.argsort(-keys)[: 60 - len(seen)]
        assert answer[contract.NUM_RESULTS][row] == len(order)  # all unseen items
        np.testing.assert_array_equal(case.rows(answer[contract.ITEM_IDS][row, : len(order)]), order)
        np.testing.assert_allclose(answer[contract.SCORES][row, : len(order)], keys[order], rtol=1e-4)


def is_hashed(case):
    return any("hashing" in cluster["kind"] for cluster in case.manifest["index"])


def compare_hashed(served, expected):
    """Hashing rounds a query to 8 bits: one that another graph rounds in its last bit may find some other items.

    The rest of a cluster is then estimated from other items, which moves all scores of that cluster. One row in a
    hundred differs, by one item or two of ten: the items of all rows are counted together.
    """
    shared = 0
    for row, count in enumerate(expected[contract.NUM_RESULTS]):
        found, wanted = (
            {
                item: (cluster, score)
                for item, cluster, score in zip(
                    of[contract.ITEM_IDS][row, :count],
                    of[contract.CLUSTER_IDS][row, :count],
                    of[contract.SCORES][row, :count],
                    strict=True,
                )
            }
            for of in (served, expected)
        )
        common = found.keys() & wanted.keys()
        shared += len(common)
        assert all(found[item][0] == wanted[item][0] for item in common)
        np.testing.assert_allclose(
            [found[item][1] for item in common], [wanted[item][1] for item in common], atol=0.05, rtol=0
        )
    assert shared >= 0.9 * expected[contract.NUM_RESULTS].sum()


def test_a_served_answer_equals_the_in_process_answer(served):
    for name in ("histories", "default", "encode", "search", "per row", "joint", "controlled"):
        signature, inputs = (REQUESTS | {"search": ("search", served.case.search_each_cluster())})[name]
        expected = getattr(served.case.module, signature)(**{k: tf.constant(v) for k, v in inputs.items()})
        assert set(expected) == set(served.answers[name]) == set(contract.SIGNATURES[signature].output_names)
        compared = served.answers[name]
        if is_hashed(served.case) and contract.ITEM_IDS in compared:
            compared = {output: compared[output] for output in {contract.INTENT, contract.NUM_RESULTS} & set(compared)}
            compare_hashed(served.answers[name], {output: tensor.numpy() for output, tensor in expected.items()})
        for output, value in compared.items():
            if value.dtype == np.float32:
                np.testing.assert_allclose(value, expected[output].numpy(), rtol=1e-4, atol=1e-5, err_msg=output)
            else:
                np.testing.assert_array_equal(value, expected[output].numpy(), err_msg=output)


def test_answers_have_the_shapes_of_the_contract(served):
    batch, K = len(HISTORIES), len(served.case.sizes)
    for name, width in (("histories", MAX_CANDIDATES), ("default", LENGTH)):
        answer = served.answers[name]
        for output in (contract.ITEM_IDS, contract.SCORES, contract.CLUSTER_IDS):
            assert answer[output].shape == (batch, width)
        assert answer[contract.QUOTAS].shape == answer[contract.INTENT].shape == (batch, K)
        np.testing.assert_array_equal(answer[contract.QUOTAS].sum(axis=1), answer[contract.NUM_RESULTS])
        assert np.isfinite(answer[contract.SCORES]).all()
        assert (np.diff(answer[contract.SCORES]) <= 0).all()
        for row, count in enumerate(answer[contract.NUM_RESULTS]):
            assert (answer[contract.ITEM_IDS][row, count:] == b"").all()
            assert (answer[contract.CLUSTER_IDS][row, count:] == -1).all()
            assert (answer[contract.SCORES][row, count:] == np.float32(contract.SCORE_PAD)).all()
            assert len(set(answer[contract.ITEM_IDS][row, :count])) == count


def test_the_default_is_retrieve_with_the_configured_length_and_merge(served):
    short, long = served.answers["default"], served.answers["histories"]
    for output in (contract.ITEM_IDS, contract.CLUSTER_IDS):
        np.testing.assert_array_equal(short[output], long[output][:, :LENGTH])


def test_seen_items_never_come_back(served):
    answer = served.answers["histories"]
    for row, seen in enumerate(HISTORIES.values()):
        assert not {item_id.encode() for item_id in seen if item_id} & set(answer[contract.ITEM_IDS][row])
    everything = list(HISTORIES).index("everything")
    left = len(served.case.items.item_ids) - 60
    assert answer[contract.NUM_RESULTS][everything] == min(left, LENGTH)


@pytest.mark.parametrize("variant", ["padding in the middle", "unknown ids"])
def test_padding_and_unknown_ids_carry_no_signal(served, variant):
    plain, other = (list(HISTORIES).index(name) for name in ("plain", variant))
    for value in (*served.answers["histories"].values(), *served.answers["encode"].values()):
        np.testing.assert_array_equal(value[plain], value[other])


def test_a_long_history_is_encoded_by_its_end(served):
    long = list(HISTORIES).index("long")
    for output, value in served.answers["tail of the long one"].items():
        np.testing.assert_allclose(value[0], served.answers["encode"][output][long], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["empty", "all padding", "only unknown ids"])
def test_a_cold_start_is_answered_from_the_prior(served, name):
    row = list(HISTORIES).index(name)
    prior = served.case.items.cluster_prior()
    np.testing.assert_allclose(served.answers["histories"][contract.INTENT][row], prior, rtol=1e-5)
    np.testing.assert_array_equal(served.answers["encode"][contract.USER_EMBEDDINGS][row], served.case.cold_vectors)
    assert served.answers["histories"][contract.NUM_RESULTS][row] == LENGTH
    np.testing.assert_array_equal(
        served.answers["no columns"][contract.ITEM_IDS][0], served.answers["histories"][contract.ITEM_IDS][row]
    )


def test_a_row_does_not_depend_on_its_batch(served):
    together, manifest = served.answers["histories"], served.case.manifest
    shared, asked = 0, 0
    for name in ALONE:
        row = list(HISTORIES).index(name)
        alone = {output: values[0] for output, values in served.answers[f"single {name}"].items()}
        np.testing.assert_allclose(alone[contract.INTENT], together[contract.INTENT][row], rtol=1e-4, atol=1e-5)
        shared += len(set(alone[contract.ITEM_IDS]) & set(together[contract.ITEM_IDS][row]) - {b""})
        asked += together[contract.NUM_RESULTS][row]
        if any("hashing" in cluster["kind"] for cluster in manifest["index"]):
            continue  # a batch searches wider than one row, and wider means that hashing misses other items
        for output, values in alone.items():
            if values.dtype == np.float32:
                np.testing.assert_allclose(values, together[output][row], rtol=1e-4, atol=1e-5)
            else:
                np.testing.assert_array_equal(values, together[output][row])
    assert shared >= manifest["joint_recovery"] * asked - 2  # a mean over many queries, and these are four


def test_rows_choose_their_length_and_merge(served):
    answer = served.answers["per row"]
    np.testing.assert_array_equal(answer[contract.NUM_RESULTS], [1, 20, 5, 7])
    unseen = np.array(served.case.sizes) - np.bincount(
        served.case.items.clusters[[0, 7, 25]], minlength=len(served.case.sizes)
    )
    quotas = answer[contract.QUOTAS]
    below = quotas[1] < unseen
    assert np.ptp(quotas[1][below]) <= 1  # alpha = 0: equal shares of all that are not exhausted
    best = np.argmax(answer[contract.INTENT][2])
    assert quotas[2][best] == min(5, unseen[best])
    np.testing.assert_array_equal(answer[contract.ITEM_IDS][0, :1], answer[contract.ITEM_IDS][3, :1])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none", "Expected num_candidates in 1..64 in every row."),
        ("too many", "Expected num_candidates in 1..64 in every row."),
        ("alpha is NaN", "Expected alpha to be a number"),
        ("joint alpha is NaN", "Expected alpha to be a number"),
        ("uneven batch", "Expected the same number of rows in every input."),
        ("no rows", "Expected 1 to 1024 rows in the request."),
        ("too many rows", "Expected 1 to 1024 rows in the request."),
        ("NaN vector", "Expected finite user_embeddings."),
    ],
)
def test_a_bad_request_is_an_invalid_argument_with_a_sentence(served, name, sentence):
    code, message = served.answers[name]
    assert code == INVALID_ARGUMENT
    assert sentence in message


def test_warmup_covers_every_signature_at_every_batch_size(served):
    requests = list(read_warmup(served.case.folder))
    sizes = {(r.model_spec.signature_name, r.inputs["history"].tensor_shape.dim[0].size) for r in requests}
    assert sizes == {(signature, batch) for signature in contract.SIGNATURES for batch in (1, 3)}
    assert all(isinstance(served.answers[f"warm-up {number}"], dict) for number in range(len(requests)))


def test_what_stock_tf_serving_lacks_is_found_out():
    assert foreign({"MatMul", "PyFunc", "XlaLaunch", "SentencepieceOp"}) == {"PyFunc", "XlaLaunch", "SentencepieceOp"}


@pytest.mark.parametrize(("name", "custom"), [("exact", False), ("auto", False), ("scann", True)])
def test_only_a_scann_bundle_has_ops_that_stock_tf_serving_lacks(cases, name, custom):
    lacking = foreign(ops_of(cases[name].folder))
    assert lacking == (SCANN_OPS if custom else set())
    assert cases[name].manifest["uses_scann"] == custom


def test_the_manifest_says_what_the_bundle_is(cases):
    case = cases["scann"]
    kinds = [*["scann_brute_force"] * 2, "scann_hashing", "scann_tree_hashing"]
    assert [cluster["kind"] for cluster in case.manifest["index"]] == kinds
    assert [cluster["items"] for cluster in case.manifest["index"]] == list(case.sizes)
    assert min(effort["recall"] for effort in case.manifest["index"][-1]["effort"]) >= 0.98
    assert 0.97 <= case.manifest["joint_recovery"] <= 1
    assert cases["exact"].manifest["joint_recovery"] == 1
    assert case.manifest["bundle_format"] == contract.BUNDLE_FORMAT
    assert set(case.manifest["libraries"]) == {"tensorflow", "scann"}
    assert case.manifest["metrics"] == {"recall@10": 0.3}
    assert case.manifest["config"]["export"]["max_candidates"] == MAX_CANDIDATES
    assert "scann" not in cases["exact"].manifest["libraries"]
    assert cases["exact"].figures["index"] == "4 x exact"
    assert cases["exact"].figures["megabytes"] > 0


def test_serving_never_makes_reads_of_the_item_matrix_copies(cases):
    # One ResourceGather on a variable switches it to copy-on-read: every cluster would copy the matrix, every request.
    case = cases["exact"]
    graph = signature_function(case.module, "retrieve").get_concrete_function().graph
    matrix = next(inner for outer, inner in graph.captures if outer is case.tower.item_embeddings.handle)
    readers = readers_of(graph.as_graph_def(), matrix.op.name)
    assert "ReadVariableOp" in readers
    assert "ResourceGather" not in readers


def test_item_ids_stay_out_of_the_graph(cases):
    graph = (cases["scann"].folder / "saved_model.pb").read_bytes()
    assert b"film 2000" not in graph
    assert b"film 2000" in (cases["scann"].folder / "assets/item_ids.txt").read_bytes()


def test_an_existing_version_is_never_overwritten(cases, tmp_path):
    with pytest.raises(UserError, match="another version number"):
        cases["exact"].export(cases["exact"].folder.parent)


def test_contradictions_are_refused_before_anything_is_written(cases, tmp_path):
    case = cases["exact"]
    with pytest.raises(UserError, match="item table the model was trained on"):
        case.export(tmp_path / "a", items=make_items((2, 5, 13, 40)))
    unknown = case.config.model_copy(update={"export": ExportConfig(index="fais")})
    with pytest.raises(UserError, match="auto, exact, scann"):
        case.export(tmp_path / "b", config=unknown)
    assert not (tmp_path / "a").exists()
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.parametrize("item_ids", [["a", ""], ["a", "b\nc"], ["a", "b\rc"], ["a", "b", "a"]])
def test_ids_a_request_could_not_carry_are_refused(item_ids, tmp_path):
    with pytest.raises(UserError, match="item ids"):
        ItemVocabulary(item_ids, tmp_path)


def test_the_last_items_move_to_the_left():
    items = tf.constant([[0, 1, 0, 2, 3], [0, 0, 0, 0, 0], [4, 5, 6, 7, 8], [9, 0, 0, 0, 0]])
    np.testing.assert_array_equal(last_items(items, 3)[0], [[1, 2, 3], [0, 0, 0], [6, 7, 8], [9, 0, 0]])
    np.testing.assert_array_equal(last_items(items[1:2], 3)[0], [[0]])
    np.testing.assert_array_equal(last_items(items[:, :0], 3)[0], [[0]] * 4)


def test_an_answer_does_not_depend_on_the_batch_that_a_server_puts_it_in(cases):
    from serving import messages, tensors
    from serving.batching import BatchingServable
    from serving.batching_parameters import BatchingParameters
    from serving.predict import predict
    from serving.servable import Servable

    groups = [["plain"], ["empty", "long"], ["everything"], ["unknown ids", "all padding", "plain"]]
    requests = [
        messages.retrieve_request([HISTORIES[name] for name in names], num_candidates=10 + len(names), alpha=1.0)
        for names in groups
    ]
    servable = Servable.load(contract.MODEL_NAME, 1, cases["exact"].folder)
    alone = [predict(servable, request) for request in requests]
    rows, hour = sum(map(len, groups)), 3_600_000_000
    # All together or, at the deadline, not at all.
    together = BatchingServable(servable, BatchingParameters(rows, hour, pad_variable_length_inputs=True))
    with futures.ThreadPoolExecutor(len(groups)) as threads:
        batched = list(threads.map(lambda request: predict(together, request, None, time.monotonic() + 60), requests))
    together.close()
    for one, other in zip(alone, batched, strict=True):
        for name in contract.SIGNATURES["retrieve"].output_names:
            expected, got = tensors.decode(one.outputs[name]), tensors.decode(other.outputs[name])
            if got.dtype == np.float32:
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(got, expected, err_msg=name)
