"""`tfdnc benchmark serving`: a bundle in process, behind servers, under a long load and through reloads."""

import argparse
import contextlib
import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tensorflow_serving.apis import predict_pb2

from serving import messages, tensors
from serving.bundles.recorded import read_recorded
from serving.bundles.verify import find_version
from serving.predict import bind_inputs, choose_outputs
from serving.servable import Servable
from tfdnc.benchmark import pages
from tfdnc.cli import screen
from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError
from tfdnc.load_test import report
from tfdnc.load_test.figures import BATCHING, GRPC, IN_PROCESS, REST, figures, rates
from tfdnc.load_test.load import Load, Processes, Threads
from tfdnc.load_test.measurements import RELOAD_CLIENTS, long_load, measure, reloads
from tfdnc.load_test.server import ServerProcess
from tfdnc.pipeline.working import last_log_line

_USERS = 64
_SIGNATURE = "retrieve"

_BATCHING_PARAMETERS = """
max_batch_size { value: 8 }
batch_timeout_micros { value: 500 }
num_batch_threads { value: 2 }
"""


class Subject(NamedTuple):
    """What is measured: a version of a bundle, and what its clients ask."""

    version: Path
    description: str
    requests: list[predict_pb2.PredictRequest]


def benchmark_serving(arguments: argparse.Namespace) -> None:
    """Measures a bundle, or somebody's server of it, and writes what it found."""
    if arguments.target and not arguments.bundle:
        raise UserError("Expected the bundle that --target serves, its recorded requests are what is sent: name it.")
    with last_log_line("benchmark"), contextlib.ExitStack() as stack:
        subject = _recorded(arguments.bundle) if arguments.bundle else stack.enter_context(_synthetic(arguments))
        results = {"bundle": subject.description, **_measure(arguments, subject, stack)}
    notes = [*report.NOTES, *report.describe(results["load"], results["reloads"])]
    _show(arguments.output, results, notes)
    report.write_pages(arguments.output, pages.describe_machine(_command(arguments)), results, notes)
    screen.console.print(f"serving.md, .json and .png are in {arguments.output}", soft_wrap=True)


def _measure(arguments: argparse.Namespace, subject: Subject, stack: contextlib.ExitStack) -> dict:
    clients = max(*arguments.clients, RELOAD_CLIENTS)
    for request in subject.requests:
        request.model_spec.name = arguments.model_name if arguments.target else schema.MODEL_NAME
    requests = [request.SerializeToString() for request in subject.requests]
    parts = set() if arguments.target else {"batching", "rest", "load", "reloads"} - set(arguments.without)
    server = None if arguments.target else stack.enter_context(ServerProcess(subject.version))
    over_grpc = stack.enter_context(Processes(arguments.target or server.target, requests, clients))
    doors: dict[str, Load] = {IN_PROCESS: _in_process(subject, stack), GRPC: over_grpc}
    if "batching" in parts:
        batching = stack.enter_context(_batching_server(subject))
        doors[BATCHING] = stack.enter_context(Processes(batching.target, requests, clients))
    if "rest" in parts:
        bodies = [_as_json(request) for request in subject.requests]
        path = f"/v1/models/{schema.MODEL_NAME}:predict"
        doors[REST] = stack.enter_context(Processes(server.rest_target, bodies, clients, path))
    measured = measure(doors, sorted(set(arguments.clients)), arguments.rounds, arguments.round_seconds)
    load = long_load(server, over_grpc, max(arguments.clients), arguments.seconds) if "load" in parts else None
    reloaded = reloads(server, over_grpc, arguments.reloads) if "reloads" in parts else None
    return {
        "rates": rates(measured),
        "figures": figures(measured, load, reloaded),
        "measured": measured,
        "load": load,
        "reloads": reloaded,
    }


@contextlib.contextmanager
def _batching_server(subject: Subject) -> Iterator[ServerProcess]:
    with tempfile.NamedTemporaryFile("w", suffix=".config") as parameters:
        parameters.write(_BATCHING_PARAMETERS)
        parameters.flush()
        flags = ["--enable_batching", "--batching_parameters_file", parameters.name]
        with ServerProcess(subject.version, flags) as server:
            yield server


def _in_process(subject: Subject, stack: contextlib.ExitStack) -> Threads:
    """Feeds in, arrays out: what is left of a request when everything around the graph is taken away."""
    servable = Servable.load(schema.MODEL_NAME, 1, subject.version)
    stack.callback(servable.close)

    def ask(request: tuple[str, Mapping]) -> str:
        key, feeds = request
        servable.run(key, feeds, choose_outputs(servable.signature(key), []))
        return ""

    asked = []
    for request in subject.requests:
        key = request.model_spec.signature_name
        asked.append((key, bind_inputs(servable.signature(key), request.inputs)))
        ask(asked[-1])
    return Threads(ask, asked)


def _recorded(base_path: Path) -> Subject:
    """The latest version under a base path, and its recorded requests of one user each."""
    version = find_version(base_path)
    requests = [log.request for log in read_recorded(version) if _is_one_users(log.request)]
    if not requests:
        raise UserError(f"Expected recorded requests to {_SIGNATURE} for one user in {version}, found none.")
    return Subject(version, f"The bundle {base_path}, {len(requests)} recorded requests.", requests)


def _is_one_users(request: predict_pb2.PredictRequest) -> bool:
    rows = request.inputs[schema.HISTORY].tensor_shape.dim[0].size
    return request.model_spec.signature_name == _SIGNATURE and rows == 1


@contextlib.contextmanager
def _synthetic(arguments: argparse.Namespace) -> Iterator[Subject]:
    from tfdnc.load_test.bundle import Size, make_bundle, make_histories

    size = Size(arguments.items, arguments.clusters, arguments.dim, index=arguments.index, encoder=arguments.encoder)
    requests = [messages.retrieve_request([history], size.max_candidates) for history in make_histories(size, _USERS)]
    description = (
        f"A synthetic bundle with random weights: {size.encoder}, {size.items:,} items, {size.clusters} clusters, "
        f"D = {size.dim}, index {size.index}; histories of {size.history_length}, {size.max_candidates} candidates."
    )
    with tempfile.TemporaryDirectory() as folder:
        yield Subject(make_bundle(size, Path(folder)), description, requests)


def _as_json(request: predict_pb2.PredictRequest) -> bytes:
    """The body of the REST API that asks the same, in columns."""
    inputs = {name: tensors.decode(proto) for name, proto in request.inputs.items()}
    columns = {
        name: array.astype(str).tolist() if array.dtype == object else array.tolist() for name, array in inputs.items()
    }
    return json.dumps({"signature_name": request.model_spec.signature_name, "inputs": columns}).encode()


def _show(output: Path, results: dict, notes: list[str]) -> None:
    screen.console.print(results["bundle"], soft_wrap=True)
    for title, headers, cells, rows in (
        ("Latency by load", report.RATE_HEADERS, report.rate_cells, results["rates"]),
        ("Figures", report.FIGURE_HEADERS, report.figure_cells, results["figures"]),
    ):
        made = screen.table_of_figures(title, *headers)
        for row in rows:
            made.add_row(*cells(row))
        screen.print_figures(made, output / "serving.md")
    for note in notes:
        screen.console.print(note, soft_wrap=True)


def _command(arguments: argparse.Namespace) -> str:
    """The command again, but for where files lie and who was asked."""
    words = ["tfdnc", "benchmark", "serving", *(["BUNDLE"] if arguments.bundle else [])]
    words += ["--target", "HOST:PORT"] if arguments.target else []
    sizes = [] if arguments.bundle else ["items", "clusters", "dim", "index", "encoder"]
    for name in (*sizes, "rounds", "round_seconds", "seconds", "reloads"):
        words += [f"--{name.replace('_', '-')}", f"{getattr(arguments, name)}"]
    return shlex.join([*words, "--clients", *map(str, arguments.clients)])
