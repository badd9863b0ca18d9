"""The same bytes on engines whose workers share no process, folder or path with the tests."""

import gzip
import os
import shutil
import subprocess
import sys

import apache_beam as beam
import pytest

import beam_jobs
from beam_jobs.engines import check as check_module
from beam_jobs.engines.__main__ import JOB_SERVERS, main, start_cluster
from beam_jobs.engines.check import check
from beam_jobs.engines.packages import UnavailableError, fetch_job_server
from beam_jobs.engines.portable import start_job_service, start_prism, start_worker_pool
from beam_jobs.engines.processes import Processes, free_port, listens
from beam_jobs.sequences import prepare
from tfdnc.contracts.data_config import DataConfig
from tfdnc.contracts.errors import UserError

LOOPBACK = ["--environment_type=LOOPBACK"]
ROWS = 3000


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    with Processes(tmp_path_factory.mktemp("elsewhere")) as running:
        yield running


@pytest.fixture(scope="module")
def job_service(processes):
    return start_job_service(processes)


@pytest.fixture(scope="module")
def worker_pool(processes):
    code = "import beam_jobs; print(beam_jobs.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=processes.folder, env=environment, capture_output=True, text=True, check=True)
    if found.stdout.strip() != beam_jobs.__file__:
        pytest.skip(f"what is installed is {found.stdout.strip()}, and what is tested {beam_jobs.__file__}")
    return start_worker_pool(processes)


@pytest.fixture(scope="module", params=JOB_SERVERS)
def cluster(request, tmp_path_factory):
    with Processes(tmp_path_factory.mktemp(request.param)) as running:
        try:
            yield start_cluster(running, request.param)
        except UnavailableError as error:
            pytest.skip(str(error))


@pytest.mark.timeout(180)
def test_job_service_with_workers_in_this_process(job_service, tmp_path):
    assert check(tmp_path, ROWS, job_service + LOOPBACK).different == []


@pytest.mark.timeout(180)
def test_job_service_with_a_separate_worker_pool(job_service, worker_pool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = check(tmp_path.relative_to(tmp_path), ROWS, job_service + worker_pool)  # a relative path
    assert outcome.different == []
    first, second = outcome.figures
    assert outcome.files == 4 + 1 + 1 + 3 * 4  # sequences, vocabulary, dead letters, records
    assert first["rows_malformed"] == {"time is not an integer": ROWS // 1000}
    assert second["records"] == dict.fromkeys(("train", "validation", "test"), first["users"])


@pytest.mark.timeout(180)
def test_prism_with_a_separate_worker_pool(processes, worker_pool, tmp_path):
    program = shutil.which("prism")
    if not program:
        pytest.skip("no prism in the PATH; it is built with Go, see beam_jobs/README.md")
    assert check(tmp_path, ROWS, start_prism(processes, program) + worker_pool).different == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("workers", ["loopback", "external"])
def test_bad_input_on_an_engine_is_the_same_sentence(job_service, workers, request, tmp_path, write_csv):
    pool = LOOPBACK if workers == "loopback" else request.getfixturevalue("worker_pool")
    assert_truncated_gzip_is_a_sentence(job_service + pool, tmp_path, write_csv)


def assert_truncated_gzip_is_a_sentence(flags, tmp_path, write_csv):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(write_csv([(1, 1, 1)] * 1000).read_bytes())[:-9])
    with pytest.raises(
        UserError, match=r"^Expected a whole gzip file at .*log.csv.gz, could not decompress it: [^\n]*$"
    ):
        prepare(DataConfig(path=path), tmp_path / "prepared", flags)


def test_all_inputs_of_a_flatten_have_one_coder(tmp_path, monkeypatch):
    # Flink joins encoded collections; other runners encode them again, which hides the difference.
    graphs, run = [], beam.Pipeline.run

    def spy(pipeline):
        graphs.append(pipeline.to_runner_api().components)
        return run(pipeline)

    monkeypatch.setattr(beam.Pipeline, "run", spy)
    check(tmp_path, ROWS, [])
    flattens = [
        {graph.pcollections[name].coder_id for name in [*step.inputs.values(), *step.outputs.values()]}
        for graph in graphs
        for step in graph.transforms.values()
        if step.spec.urn == beam.portability.common_urns.primitives.FLATTEN.urn
    ]
    assert flattens
    assert {len(coders) for coders in flattens} == {1}


def test_a_difference_is_found_and_named(tmp_path, monkeypatch):
    real, calls = check_module.build_examples, []

    def build_examples(sequences, items, config, seed, output, runner_args):
        calls.append(output)
        config = config.model_copy(update={"num_negatives": len(calls)})
        return real(sequences, items, config, seed, output, runner_args)

    monkeypatch.setattr(check_module, "build_examples", build_examples)
    different = check(tmp_path, ROWS, []).different
    assert different[:4] == [f"records/train/part-0000{shard}-of-00004.tfrecord" for shard in range(4)]
    assert different[4:] == ["the figures that the jobs returned"]


@pytest.mark.parametrize("engine", ["flink", "spark", "prism"])
def test_a_missing_engine_is_one_sentence(engine, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main([engine]) == 2
    assert main([engine, "--if-possible"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{engine}: not run. Expected ")
    assert "in the PATH" in lines[0]


def test_processes_end_with_all_that_they_started(tmp_path):
    port = free_port()
    child = f"""
import signal, socket, threading
signal.signal(signal.SIGINT, signal.SIG_IGN)
server = socket.create_server(("127.0.0.1", {port}))
threading.Event().wait()
"""
    with Processes(tmp_path) as running:
        parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
        running.start("parent", [sys.executable, "-c", parent])
        running.wait_until(lambda: listens(port), "a child")
    with Processes(tmp_path) as none_left:
        none_left.wait_until(lambda: not listens(port), "no child")


def test_waiting_ends_when_a_process_does(tmp_path):
    with Processes(tmp_path) as running:
        running.start("worker", [sys.executable, "-c", "import no_such_module"])
        with pytest.raises(RuntimeError, match=r"worker ended with status 1:\n(.*\n)*.*no_such_module"):
            running.wait_until(lambda: False, "a worker")


@pytest.fixture
def maven(tmp_path, monkeypatch):
    """Returns a function that puts a Maven into the PATH which succeeds only for arguments with a word."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls = tmp_path / "calls"

    def knows(word):
        (tmp_path / "java").touch(0o755)
        (tmp_path / "mvn").write_text(f"""#!/bin/sh
echo "$*" >> {calls}
case "$*" in
*{word}*) for last; do :; done; /bin/mkdir "${{last#*=}}"; echo jar > "${{last#*=}}/some.jar";;
*) echo "[ERROR] nothing here"; exit 1;;
esac
""")
        (tmp_path / "mvn").chmod(0o755)
        return calls

    return knows


@pytest.mark.parametrize("engine", JOB_SERVERS)
def test_the_job_server_is_that_of_the_installed_beam_if_maven_has_it(maven, engine):
    calls = maven(JOB_SERVERS[engine])
    server = fetch_job_server(engine, JOB_SERVERS[engine])
    assert server.name == f"org.apache.beam:{JOB_SERVERS[engine]}:{beam.__version__}"
    assert [jar.name for jar in server.jars.iterdir()] == ["some.jar"]
    assert fetch_job_server(engine, JOB_SERVERS[engine]) == server
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize("engine", JOB_SERVERS)
def test_the_job_server_is_an_assembled_one_if_maven_has_no_other(maven, engine):
    maven(f"engines/{engine}_parts.xml")
    server = fetch_job_server(engine, JOB_SERVERS[engine])
    assert server.name == f"assembled from {engine}_parts.xml"
    assert [jar.name for jar in server.jars.iterdir()] == ["some.jar"]


def test_no_job_server_at_all_is_one_sentence(maven):
    maven("no-such-word")
    with pytest.raises(UnavailableError, match=r"^Expected spark-job-server-parts-\w+ from Maven, .*: nothing here$"):
        fetch_job_server("spark", JOB_SERVERS["spark"])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", ["loopback", "external"])
def test_a_cluster_of_two_nodes(cluster, workers, request, tmp_path):
    pool = LOOPBACK if workers == "loopback" else request.getfixturevalue("worker_pool")
    assert check(tmp_path, ROWS, cluster + pool).different == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bad_input_on_a_cluster_is_the_same_sentence(cluster, worker_pool, tmp_path, write_csv):
    assert_truncated_gzip_is_a_sentence(cluster + worker_pool, tmp_path, write_csv)
