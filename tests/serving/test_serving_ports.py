"""Ports and flags: TLS, the Unix socket, the health service, gRPC's own arguments, and the reading of flags."""

import argparse
import json
import socket
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving_models import predict_request

from serving import server as embedded
from serving import text_proto
from serving.__main__ import main
from serving.options import ServerOptions, add_flags, default_threads, from_arguments
from tfdnc.contracts.errors import UserError

REQUEST = predict_request({"x": np.ones([1, 1], np.float32)})
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue_cert("localhost")


def ssl_config(folder, authority, certificate, verify):
    """Writes an SSLConfig; JSON's strings are the text format's as well."""
    fields = {
        "server_key": certificate.private_key_pem.bytes().decode(),
        "server_cert": certificate.cert_chain_pems[0].bytes().decode(),
        "custom_ca": authority.cert_pem.bytes().decode(),
    }
    text = "\n".join(f"{name}: {json.dumps(value)}" for name, value in fields.items())
    (folder / "ssl.config").write_text(f"{text}\nclient_verify: {str(verify).lower()}")
    return folder / "ssl.config"


def answer(channel):
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return stub.Predict(REQUEST, timeout=30).outputs["y"].float_val[0]


@pytest.mark.parametrize("verify", [False, True])
def test_tls_with_and_without_certificates_of_clients(tmp_path, half_plus_two, authority, certificate, verify):
    file = ssl_config(tmp_path, authority, certificate, verify)
    root = authority.cert_pem.bytes()
    client = authority.issue_cert("client")
    key, chain = client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
    with embedded.running(half_plus_two, model_name="half", ssl_config_file=file) as server:
        address = f"localhost:{server.port}"
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(root, key, chain)) as channel:
            assert answer(channel) == 20.5
        strangers = [grpc.insecure_channel(address)]
        if verify:
            strangers.append(grpc.secure_channel(address, grpc.ssl_channel_credentials(root)))
        for stranger in strangers:
            with stranger as channel, pytest.raises(grpc.RpcError) as caught:
                answer(channel)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Expected server_key and server_cert as PEM"),
        ('server_key: "k" server_cert: "c" client_verify: true', "Expected custom_ca as PEM"),
        ('server_key: "k" server_cert: "c"', "check the key and the certificate"),
        ("server_keys: 1", "Invalid protobuf file"),
        (None, "could not read it"),
    ],
)
def test_a_wrong_ssl_config_is_told(tmp_path, half_plus_two, text, sentence):
    file = tmp_path / "ssl.config"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        embedded.build_server(half_plus_two, port=0, ssl_config_file=file)


def test_unix_socket_beside_the_port(tmp_path, half_plus_two):
    path = tmp_path / "s"
    with embedded.running(half_plus_two, model_name="half", grpc_socket_path=path) as server:
        for address in (server.address, f"unix:{path}"):
            with grpc.insecure_channel(address) as channel:
                assert answer(channel) == 20.5


def test_a_server_that_does_not_come_up_keeps_no_port(half_plus_two):
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as taken:
        free, port = other.getsockname()[1], taken.getsockname()[1]
        other.close()
        for ports in ({"port": port, "rest_api_port": free}, {"port": free, "rest_api_port": port}):
            with pytest.raises(UserError, match="Expected to listen on"):
                embedded.build_server(half_plus_two, **ports)
            socket.create_server(("127.0.0.1", free)).close()


def test_health_service_has_tf_servings_names_and_reports_the_end_of_the_server(half_plus_two):
    with embedded.running(half_plus_two, model_name="half", enable_grpc_healthcheck_service=True) as server:
        channel = grpc.insecure_channel(server.address)
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "ModelService", "PredictionService"):
            request = health_pb2.HealthCheckRequest(service=name)
            assert stub.Check(request, timeout=30).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="half"), timeout=30)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watch).status == SERVING
        left = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(left).status == SERVING
        left.cancel()
        server.stop(grace=1e6)  # so nothing is waited for: a watch would otherwise last until its client leaves
        assert [answer.status for answer in watch] == [NOT_SERVING]
        channel.close()


def test_a_server_whose_threads_are_all_taken_is_healthy(half_plus_two):
    """Taken by requests of which only the beginning came: gRPC for Python waits for the rest on a thread."""
    flags = {"model_name": "half", "grpc_max_threads": 2, "enable_grpc_healthcheck_service": True}
    finish = threading.Event()

    def slowly():
        assert finish.wait(30)
        yield REQUEST.SerializeToString()

    with embedded.running(half_plus_two, **flags) as server, grpc.insecure_channel(server.address) as channel:
        assert answer(channel) == 20.5
        predict = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        begun = [predict.future(slowly(), timeout=30) for _ in range(2)]
        request = health_pb2.HealthCheckRequest(service="PredictionService")
        assert health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status == SERVING
        assert not any(call.done() for call in begun)
        finish.set()
        assert all(call.result() for call in begun)


def test_without_the_flag_there_is_no_health_service(bundle_server):
    with grpc.insecure_channel(bundle_server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_channel_arguments_reach_grpc(half_plus_two):
    flags = {"model_name": "half", "grpc_channel_arguments": "grpc.max_receive_message_length=10"}
    with embedded.running(half_plus_two, **flags) as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            answer(channel)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def read(*flags, **defaults):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, **defaults)
    return from_arguments(parser.parse_args(["--model_base_path=/m", *flags]))


def test_flags_have_tf_servings_defaults():
    options = read()
    assert options == ServerOptions(model_base_path=Path("/m"))
    assert (options.port, options.rest_api_port, options.rest_api_timeout_in_ms) == (8500, 0, 30_000)
    assert (options.model_name, options.file_system_poll_wait_seconds) == ("default", 1)
    assert (options.max_num_load_retries, options.load_retry_interval_micros) == (5, 60_000_000)
    assert options.enable_model_warmup
    assert not options.enable_batching
    assert options.grpc_threads == options.rest_threads == default_threads()


def test_flags_are_read_as_tf_serving_reads_them():
    options = read("--port=1", "--rest_api_port", "2", "--enable_batching", "--enable_model_warmup=false")
    assert (options.port, options.rest_api_port) == (1, 2)
    assert (options.enable_batching, options.enable_model_warmup) == (True, False)
    assert read(model_name="tfdnc").model_name == "tfdnc"
    arguments = read("--grpc_channel_arguments=grpc.max_connection_age_ms=2000,x=y,z=2147483648,n=-1,o=--1")
    numbers = [("grpc.max_connection_age_ms", 2000), ("x", "y"), ("z", "2147483648"), ("n", -1), ("o", "--1")]
    assert arguments.channel_arguments() == numbers
    with pytest.raises(argparse.ArgumentError, match="expected true or false, got 'yes'"):
        read("--enable_batching=yes")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"port": -1}, "Expected a port from 0 to 65535, got -1"),
        ({"port": 70000}, "Expected a port from 0 to 65535, got 70000"),
        ({"rest_api_port": 8500}, "Expected two ports, got 8500"),
        ({"grpc_max_threads": -1}, "Expected grpc_max_threads of 0 or more"),
        ({"file_system_poll_wait_seconds": -1}, "Expected file_system_poll_wait_seconds of 0 or more"),
        ({"batching_parameters_file": Path("b")}, "Expected enable_batching"),
        ({"grpc_channel_arguments": "a=1,b"}, "Expected KEY=VALUE in grpc_channel_arguments, got 'b'"),
        ({"max_message_bytes": 2**31}, "Expected max_message_bytes of less than 2 GB"),
        ({"model_base_path": None}, "Expected model_base_path or model_config_file"),
    ],
)
def test_impossible_flags_are_told(flags, sentence):
    with pytest.raises(UserError, match=sentence):
        ServerOptions(**({"model_base_path": Path("/m")} | flags))


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("TensorFlow ModelServer: ")


def test_text_format_of_messages_that_the_api_package_lacks(tmp_path):
    kind = text_proto.FieldType
    message = text_proto.define("Toy", {"text": kind.TYPE_STRING, "yes": kind.TYPE_BOOL})
    (tmp_path / "toy").write_text("# a comment\ntext: \"a\" 'b'\nyes: true")
    toy = text_proto.read(tmp_path / "toy", message())
    assert (toy.text, toy.yes) == ("ab", True)
    assert message.DESCRIPTOR.full_name == "tensorflow.serving.Toy"
