"""The examples in serving/deploy: the real messages, flags that both servers have, names that fit together."""

import argparse
import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import serving_models  # noqa: F401 - Keras 2 before TensorFlow
import trustme
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2
from waiting import until_available

import serving
from serving import health, metrics, options, text_proto, tls
from serving import server as embedded
from serving.batching_parameters import BatchingParameters
from serving.metrics import Metrics
from tfdnc.cli.main import main
from tfdnc.contracts.errors import UserError

DEPLOY = Path(serving.__file__).parent / "deploy"

# tensorflow_model_server 2.19, main.cc, without those for TPUs, XLA and TF Lite.
TF_SERVING_FLAGS = """
    port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms rest_api_enable_cors_support
    enable_batching allow_version_labels_for_unavailable_models batching_parameters_file
    enable_per_model_batching_parameters model_config_file model_config_file_poll_wait_seconds model_name
    model_base_path num_load_threads num_unload_threads max_num_load_retries load_retry_interval_micros
    file_system_poll_wait_seconds flush_filesystem_caches tensorflow_session_parallelism tensorflow_session_config_file
    tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism use_alts_credentials ssl_config_file
    platform_config_file per_process_gpu_memory_fraction saved_model_tags grpc_channel_arguments grpc_max_threads
    enable_model_warmup num_request_iterations_for_warmup version monitoring_config_file
    remove_unused_fields_from_bundle_metagraph enable_signature_method_name_check enable_profiler
    thread_pool_factory_config_file enable_grpc_healthcheck_service enable_serialization_as_tensor_content
"""
OUR_FLAGS = set(options.ServerOptions.__dataclass_fields__)


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def kubernetes(kind):
    [document] = [document for document in documents("kubernetes.yaml") if document["kind"] == kind]
    return document


def flags(arguments):
    return dict(re.fullmatch(r"--(\w+)=(.*)", argument).groups() for argument in arguments)


COMPOSE = documents("compose.yaml")[0]["services"]["serving"]
DEPLOYMENT = kubernetes("Deployment")["spec"]
POD = DEPLOYMENT["template"]["spec"]
CONTAINER = POD["containers"][0]
COMMANDS = {"compose": COMPOSE["command"], "kubernetes": CONTAINER["args"]}


def test_every_file_is_described():
    described = (DEPLOY / "README.md").read_text()
    for path in DEPLOY.iterdir():
        assert path.name == "README.md" or f"`{path.name}`" in described


def test_the_models_are_served_under_their_labels(half_plus_two, tmp_path):
    """As in the file, with two versions on disk of which one is listed; then the second one, as its comment says."""
    models = shutil.copytree(half_plus_two, tmp_path / "models" / "tfdnc")
    config = tmp_path / "models.config"
    text = (DEPLOY / "models.config").read_text().replace("/models/tfdnc", str(models))
    config.write_text(text)
    flag = {"allow_version_labels_for_unavailable_models": True}
    with embedded.running(model_config_file=config, enable_grpc_healthcheck_service=True, **flag) as server:
        assert server.manager.available() == {"tfdnc": [1]}
        for label in ("stable", "canary"):
            with server.manager.lease(model_pb2.ModelSpec(name="tfdnc", version_label=label)) as servable:
                assert servable.version == 1
        message = text_proto.read(config, model_server_config_pb2.ModelServerConfig())
        [model] = message.model_config_list.config
        model.model_version_policy.specific.versions.append(2)
        server.source.reload(message)
        until_available(server, "tfdnc", 2)
        model.version_labels["canary"] = 2
        server.source.reload(message)
        with server.manager.lease(model_pb2.ModelSpec(name="tfdnc", version_label="canary")) as servable:
            assert servable.version == 2


def test_the_batching_parameters_are_valid():
    parameters = BatchingParameters.read(DEPLOY / "batching.config")
    assert parameters.allowed_batch_sizes[-1] == parameters.max_batch_size
    assert not parameters.pad_variable_length_inputs


def test_monitoring_has_the_path_that_is_scraped():
    path = Metrics.configured(DEPLOY / "monitoring.config").path
    annotations = DEPLOYMENT["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == path == metrics.DEFAULT_PATH
    assert annotations["prometheus.io/port"] == "8501"


def test_the_tls_example_lacks_only_the_secrets(half_plus_two):
    config = text_proto.read(DEPLOY / "ssl.config", tls.SSLConfig())
    assert config.server_key.splitlines()[0] == "-----BEGIN PRIVATE KEY-----"
    assert config.server_cert.splitlines()[0] == "-----BEGIN CERTIFICATE-----"
    assert not config.client_verify
    with pytest.raises(UserError, match="check the key and the certificate"):
        embedded.build_server(half_plus_two, port=0, ssl_config_file=DEPLOY / "ssl.config")


def test_the_command_of_the_readme_writes_the_tls_config(tmp_path):
    pair = trustme.CA().issue_cert("localhost")
    pair.private_key_pem.write_to_path(tmp_path / "server.key")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "server.crt")
    command = re.search(r"^    pem\(\) \{.*> ssl\.config\)$", (DEPLOY / "README.md").read_text(), re.M | re.S).group()
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True)
    config = text_proto.read(tmp_path / "ssl.config", tls.SSLConfig())
    assert config.server_key.encode() == pair.private_key_pem.bytes()
    assert config.server_cert.encode() == pair.cert_chain_pems[0].bytes()
    assert (tmp_path / "ssl.config").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_the_flags_are_those_of_both_servers(name):
    given = flags(COMMANDS[name])
    assert given.keys() <= set(TF_SERVING_FLAGS.split())
    assert given.keys() <= OUR_FLAGS
    for flag, value in given.items():
        if value.startswith("/config/"):
            assert (DEPLOY / Path(value).name).is_file(), flag


@pytest.mark.parametrize("name", COMMANDS)
def test_the_embedded_server_follows_them_and_is_healthy(name, tmp_path, half_plus_two):
    """Started with the flags of the example; asked with the health checks of compose and of Kubernetes."""
    shutil.copytree(half_plus_two, tmp_path / "models" / "tfdnc")
    for file in DEPLOY.glob("*.config"):
        text = file.read_text().replace('"/models/', f'"{tmp_path}/models/')
        (tmp_path / file.name).write_text(text)
    ports = {"port": free_port(), "rest_api_port": free_port()}
    given = [f"--{flag}={port}" for flag, port in ports.items()]
    given += [argument.replace("=/config/", f"={tmp_path}/") for argument in COMMANDS[name]]
    parser = argparse.ArgumentParser()
    options.add_flags(parser)
    server = embedded.Server(options.from_arguments(parser.parse_args(given)))
    server.start()
    try:
        check = [word.replace("8501", str(ports["rest_api_port"])) for word in COMPOSE["healthcheck"]["test"][1:]]
        assert subprocess.run(check, timeout=30, check=False).returncode == 0
        missing = [word.replace("models/tfdnc", "models/nobody") for word in check]
        assert subprocess.run(missing, timeout=30, check=False).returncode != 0
        with grpc.insecure_channel(server.address) as channel:
            request = health_pb2.HealthCheckRequest(service=CONTAINER["readinessProbe"]["grpc"]["service"])
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    finally:
        server.stop()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_what_an_example_needs_is_switched_on():
    for command in COMMANDS.values():
        given = flags(command)
        assert given["enable_grpc_healthcheck_service"] == "true"  # readiness asks it
        assert given["allow_version_labels_for_unavailable_models"] == "true"  # or the labels stop the first start
        assert given["enable_batching"] == "true"


def test_the_embedded_image_starts_with_our_flags():
    text = (DEPLOY / "embedded.Dockerfile").read_text()
    entry = yaml.safe_load(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE).group(1))
    assert entry[:3] == ["python", "-m", "serving"]
    assert flags(entry[3:]).keys() <= OUR_FLAGS
    for source in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
        assert (DEPLOY.parents[1] / source).exists()


def test_the_manifest_fits_together():
    assert DEPLOYMENT["selector"]["matchLabels"] == DEPLOYMENT["template"]["metadata"]["labels"]
    assert kubernetes("Service")["spec"]["selector"] == DEPLOYMENT["selector"]["matchLabels"]
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == volumes.keys()
    claim = kubernetes("PersistentVolumeClaim")["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == claim
    job = kubernetes("Job")["spec"]["template"]["spec"]
    assert {"name": "models", "persistentVolumeClaim": {"claimName": claim}} in job["volumes"]
    [generated] = documents("kustomization.yaml")[0]["configMapGenerator"]
    assert volumes["config"]["configMap"]["name"] == generated["name"]
    mounted = {Path(value).name for value in flags(CONTAINER["args"]).values() if value.startswith("/config/")}
    assert mounted == set(generated["files"])
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert CONTAINER[probe]["grpc"]["port"] == ports["grpc"]
        assert CONTAINER[probe]["grpc"]["service"] in health.NAMES


def test_publishing_in_kubernetes_is_a_command_of_ours(monkeypatch):
    given = []
    monkeypatch.setattr("tfdnc.cli.publish.run", given.append)
    command = kubernetes("Job")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[0] == "tfdnc"
    assert main(command[1:]) == 0
    assert (given[0].base_path, given[0].keep) == (Path("/models/tfdnc"), 5)


DAILY_STUB = """#!{python}
import json, sys
from tfdnc.cli.main import build_parser
given = build_parser().parse_args(sys.argv[1:])  # refuses what is no command
with open("{log}", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
sys.exit({status} if sys.argv[1] == "publish" else 0)
"""


@pytest.fixture
def daily(tmp_path):
    """Runs daily.sh on three days of events with a `tfdnc` that only reads its arguments; returns the commands."""
    events, runs = tmp_path / "events", tmp_path / "runs"
    for folder in (events, runs, tmp_path / "bin", *(runs / f"mine-2026-11-2{day}" for day in (4, 5, 6))):
        folder.mkdir()
    for day in (25, 26, 27):
        (events / f"2026-11-{day}.csv").touch()
    (runs / "mine-latest").symlink_to("mine-2026-11-26")
    log, stub = tmp_path / "commands", tmp_path / "bin" / "tfdnc"

    def run(*arguments, status=0):
        log.unlink(missing_ok=True)
        stub.write_text(DAILY_STUB.format(python=sys.executable, log=log, status=status))
        stub.chmod(0o755)
        places = {"CONFIG": "mine.yaml", "EVENTS": events, "RUNS": runs, "MODELS": tmp_path / "models", "KEEP": 3}
        environment = os.environ | {name: str(value) for name, value in places.items()}
        environment["PATH"] = f"{stub.parent}:{environment['PATH']}"
        ended = subprocess.run(["bash", DEPLOY / "daily.sh", *arguments], env=environment, check=False)
        (runs / "mine-2026-11-27").mkdir(exist_ok=True)
        return ended.returncode, [json.loads(line) for line in log.read_text().splitlines()]

    run.runs, run.events = runs, events
    return run


def test_a_day_trains_on_the_past_and_is_judged_on_today(daily):
    status, (train, publish) = daily("warm", "2026-11-27")
    assert status == 0
    assert f"data.path=[{daily.events}/2026-11-25.csv,{daily.events}/2026-11-26.csv]" in train
    assert f"train.initial={daily.runs}/mine-2026-11-26" in train
    assert publish[publish.index("--since") + 1] == "2026-11-27"
    assert str(daily.events / "2026-11-27.csv") in publish
    assert (daily.runs / "mine-latest").readlink() == Path("mine-2026-11-27")
    status, (train, _) = daily("full", "2026-11-27")
    assert not any(argument.startswith("train.initial") for argument in train)
    assert sorted(path.name for path in daily.runs.glob("mine-2*")) == [f"mine-2026-11-2{day}" for day in (5, 6, 7)]


def test_a_version_that_is_refused_is_not_what_tomorrow_starts_from(daily):
    status, _ = daily("warm", "2026-11-27", status=2)
    assert status == 2
    assert (daily.runs / "mine-latest").readlink() == Path("mine-2026-11-26")


def test_schedules_run_the_daily_script():
    """The CronJob and the crontab are read as they are, the DAG as Python: there is no Airflow, no cluster here."""
    [job] = documents("cronjob.yaml")
    [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert {entry["name"] for entry in container["env"]} == {"CONFIG", "EVENTS", "RUNS", "MODELS"}
    assert subprocess.run(["bash", "-nc", container["command"][2]], check=False).returncode == 0
    assert "serving/deploy/daily.sh $way" in container["command"][2]
    lines = (DEPLOY / "crontab").read_text().splitlines()
    entries = [line for line in lines if re.match(r"\d", line)]
    assert all(re.match(r"(\S+ ){5}\S", line) for line in entries)
    assert sum("daily.sh" in line for line in entries) == 2
    tree = ast.parse((DEPLOY / "airflow_dag.py").read_text())
    [operator] = [node for node in ast.walk(tree) if getattr(getattr(node, "func", None), "id", "") == "BashOperator"]
    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in operator.keywords}
    assert "daily.sh" in given["bash_command"]
    assert {"CONFIG", "EVENTS", "RUNS", "MODELS", "WAY", "DAY"} == given["env"].keys()
