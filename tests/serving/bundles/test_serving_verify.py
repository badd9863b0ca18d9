"""Recorded requests: asked again in a fresh process or on a server, and differences of a changed version."""

import json
import re
import shutil
import sys
from functools import partial

import numpy as np
import pytest
import serving_models
import tensorflow as tf
import trustme
from google.protobuf import text_format
from tensorflow_serving.apis import model_pb2, prediction_log_pb2

from serving import server as embedded
from serving import tensors, tls
from serving.bundles import replay
from serving.bundles import verify as verifying
from serving.bundles.recorded import RECORDED_ASSET, UNKNOWN_ITEM, read_recorded, record, write_recorded
from serving.bundles.verify import find_version, verify
from serving.client import Tls
from tfdnc.cli.main import main
from tfdnc.contracts import bundle
from tfdnc.contracts.errors import UserError

HISTORIES = [["a"], ["a", "b", "c"]]


def write_manifest(version, **content):
    file = version / bundle.MANIFEST_ASSET
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"bundle_format": bundle.BUNDLE_FORMAT, "uses_scann": False} | content))


@pytest.fixture(scope="module")
def recorded(fake_bundle, tmp_path_factory):
    """A version with recorded answers."""
    version = shutil.copytree(fake_bundle / "7", tmp_path_factory.mktemp("recorded") / "7")
    write_manifest(version)
    record(version, HISTORIES, num_candidates=3, max_candidates=serving_models.MAX_CANDIDATES)
    return version


@pytest.fixture
def version(recorded, tmp_path):
    return shutil.copytree(recorded, tmp_path / "base" / "7")


def scaled(output, factor):
    """Answers as recorded, but for one output."""

    def change(response):
        array = tensors.decode(response.outputs[output]) * np.float32(factor)
        response.outputs[output].Clear()
        tensors.encode(array, response.outputs[output])

    return change


def recorded_but_for(version, change):
    def ask(requests):
        responses = [log.response for log in read_recorded(version)]
        for response in responses:
            change(response)
        return responses

    return ask


def test_every_signature_is_recorded_for_one_and_for_many_with_odd_users_and_all_kinds_of_controls(recorded):
    requests = [log.request for log in read_recorded(recorded)]
    for signature in bundle.SIGNATURES:
        mine = [request for request in requests if request.model_spec.signature_name == signature]
        sizes = {request.inputs["history"].tensor_shape.dim[0].size for request in mine}
        assert sizes == {1, len(HISTORIES) + 3}
        if signature == "describe":  # of the clusters, whatever the users
            continue
        users = {
            tuple(item for item in row if item) for r in mine for row in tensors.decode(r.inputs["history"]).tolist()
        }
        assert users >= {(), (UNKNOWN_ITEM.encode(),), (UNKNOWN_ITEM.encode(), b"a"), (b"a", b"b", b"c")}
    batch = max((r for r in requests if r.model_spec.signature_name == "retrieve"), key=lambda r: r.ByteSize())
    assert set(tensors.decode(batch.inputs["alpha"]).tolist()) >= {-1.0, 0.0, 1.0}
    assert set(tensors.decode(batch.inputs["num_candidates"]).tolist()) == {1, 3, 4}
    for signature in ("retrieve_controlled", "search"):
        merges = [
            (r.inputs["alpha"].float_val[0], r.inputs["joint_alpha"].float_val[0])
            for r in requests
            if r.model_spec.signature_name == signature
        ]
        assert any(alpha >= 0 > joint for alpha, joint in merges)
        assert any(joint >= 0 > alpha for alpha, joint in merges)


def test_search_is_asked_with_what_encode_answered(recorded):
    logs = read_recorded(recorded)
    encoded = [log.response.outputs["user_embeddings"] for log in logs if "user_embeddings" in log.response.outputs]
    asked = [log.request.inputs["user_embeddings"] for log in logs if "user_embeddings" in log.request.inputs]
    assert [tensors.decode(a).tolist() for a in asked] == [tensors.decode(e).tolist() for e in encoded]


def test_a_fresh_process_gives_the_recorded_answers(version):
    report = verify(version)
    assert report.mismatch == ""
    assert {row.signature for row in report.signatures} == set(bundle.SIGNATURES)
    assert all(row.equal == row.requests == len(HISTORIES) + 4 for row in report.signatures)
    assert all(row.overlap == 1.0 for row in report.signatures)


def test_a_server_is_asked_under_its_own_name_and_for_a_version_of_its_own(recorded, bundle_server):
    def ask(model):
        return verify(recorded, partial(replay.ask_server, target=bundle_server.address, model=model))

    named = model_pb2.ModelSpec(name=bundle.MODEL_NAME)
    assert ask(named).mismatch == ""
    named.version.value = 7
    assert ask(named).mismatch == ""
    named.version.value = 8
    with pytest.raises(UserError, match=r"recorded request 1 \(serving_default\), it failed with NOT_FOUND"):
        ask(named)
    with pytest.raises(UserError, match="Unrecognized servable version label: canary"):
        ask(model_pb2.ModelSpec(name=bundle.MODEL_NAME, version_label="canary"))
    with pytest.raises(UserError, match="NOT_FOUND: Servable not found for request: Latest"):
        ask(model_pb2.ModelSpec(name="unknown"))


def write_request_log(path, logs):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def test_a_server_is_asked_what_a_request_log_holds(recorded, bundle_server, tmp_path, capsys):
    logs = [log for log in read_recorded(recorded) if log.request.model_spec.signature_name == "retrieve"]
    logs[0].request.model_spec.name = "a name of then"
    write_request_log(tmp_path / "log-1.tfrecord", logs[:2])
    write_request_log(tmp_path / "log-2.tfrecord", logs[2:3])
    verify = ["verify", str(recorded), "--target", bundle_server.address, "--requests"]
    assert main([*verify, str(tmp_path)]) == 0
    assert re.search(r"retrieve +3 +3 ", capsys.readouterr().out)
    scaled(bundle.SCORES, 1.01)(logs[2].response)
    write_request_log(tmp_path / "log-2.tfrecord", logs[2:3])
    assert main([*verify, str(tmp_path)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "does not answer what the request log holds: logged request 3 (retrieve): scores differs" in said
    write_request_log(tmp_path / "log-2.tfrecord", [])
    assert main([*verify, str(tmp_path / "log-2.tfrecord")]) == 2
    assert "Expected calls of Predict in the request log, found none" in capsys.readouterr().err


def test_a_fresh_process_is_asked_what_a_request_log_holds(recorded, monkeypatch):
    """The process itself is in other tests."""
    [log, *_] = read_recorded(recorded)
    log.request.model_spec.signature_name = ""  # as of a client that leaves the default signature out
    asked = []

    def ask(path, requests):
        asked.append((path, requests))
        return replay.Answered([log.response], [0.0])

    monkeypatch.setattr(replay, "ask_fresh_process", ask)
    report = verify(recorded, logged=[log])
    assert asked == [(recorded, [log.request])]
    assert [(row.signature, row.equal) for row in report.signatures] == [("serving_default", 1)]


def test_a_server_may_want_encryption(recorded, fake_bundle, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "roots.pem")
    pair = authority.issue_cert("127.0.0.1")
    config = tls.SSLConfig(
        server_key=pair.private_key_pem.bytes().decode(), server_cert=pair.cert_chain_pems[0].bytes().decode()
    )
    (tmp_path / "ssl.config").write_text(text_format.MessageToString(config))
    model = model_pb2.ModelSpec(name=bundle.MODEL_NAME)
    with embedded.running(fake_bundle, ssl_config_file=tmp_path / "ssl.config") as server:
        ask = partial(replay.ask_server, target=server.address, model=model, tls=Tls(tmp_path / "roots.pem"))
        assert verify(recorded, ask).mismatch == ""


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (bundle.USER_EMBEDDINGS, r"recorded request 3 \(encode\): user_embeddings differs by up to 0\.01"),
        (bundle.SCORES, r"recorded request 1 \(serving_default\): scores differs"),
    ],
)
def test_the_first_answer_that_differs_is_named(version, output, sentence):
    def change(response):
        if output in response.outputs:
            scaled(output, 1.01)(response)

    report = verify(version, recorded_but_for(version, change))
    assert re.match(sentence, report.mismatch)
    [encode] = [row for row in report.signatures if row.signature == "encode"]
    assert (encode.equal < encode.requests) == (output == bundle.USER_EMBEDDINGS)


def without_first_item(response):
    """Every list has another item in front."""
    if bundle.ITEM_IDS in response.outputs:
        response.outputs[bundle.ITEM_IDS].string_val[0] = b"another"


def test_approximate_lists_must_overlap_as_much_as_the_manifest_says(version, monkeypatch):
    ask = recorded_but_for(version, without_first_item)
    assert "item 'i0' is missing" in verify(version, ask).mismatch
    monkeypatch.setattr(verifying.bundle, "uses_scann_ops", lambda file: True)
    write_manifest(version, uses_scann=True)
    assert re.match(r"the lists of serving_default hold 0\.\d+ of .* expected 0\.97", verify(version, ask).mismatch)
    write_manifest(version, uses_scann=True, joint_recovery=1.0)
    assert verify(version, ask).mismatch.endswith("expected 0.99")
    write_manifest(version, uses_scann=True, joint_recovery=0.5)
    report = verify(version, ask)
    assert report.mismatch == ""
    assert min(row.overlap for row in report.signatures) == 0.0  # a list of one


def test_another_model_under_the_same_manifest_is_found(version, half_plus_two, capsys):
    """The work of the fresh process, called here without a process."""
    for name in ("saved_model.pb", "variables"):
        target = version / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        source = half_plus_two / "1" / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    assert replay.main([str(version), str(version.parent / "answers")]) == 2
    [sentence] = capsys.readouterr().err.splitlines()
    assert "recorded request 1 (serving_default), it failed with INVALID_ARGUMENT" in sentence


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        ("exit 2", "^something broke$"),
        ("exit 1", r"(?s)ended with status 1\. Do not serve it.*something broke"),
        ("kill -SEGV $$", r"(?s)ended with signal SIGSEGV\. Do not serve it.*something broke"),
    ],
)
def test_a_process_that_fails_is_a_sentence(version, tmp_path, monkeypatch, end, sentence):
    process = tmp_path / "python"
    process.write_text(f"#!/bin/sh\necho a warning >&2\necho something broke >&2\n{end}\n")
    process.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(process))
    with pytest.raises(UserError, match=sentence):
        verify(version)


def test_a_folder_that_cannot_be_verified_is_refused(version, half_plus_two):
    with pytest.raises(UserError, match=r"found none\. Export it with tfdnc"):
        verify(half_plus_two / "2")
    write_manifest(version, uses_scann=True)
    with pytest.raises(UserError, match="the graph lacks them, the manifest promises it"):
        verify(version)
    write_manifest(version, bundle_format=99)
    with pytest.raises(UserError, match="Expected bundle format 1, found 99"):
        verify(version)


def test_recorded_requests_must_be_there_and_whole(version):
    file = version / RECORDED_ASSET
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match="the file is damaged"):
        verify(version)
    write_recorded(version, [])
    with pytest.raises(UserError, match="the file is empty"):
        verify(version)
    file.unlink()
    with pytest.raises(UserError, match="nothing can be verified"):
        verify(version)


def test_the_latest_version_of_a_base_path_is_verified(version):
    assert find_version(version.parent) == find_version(version) == version
