"""README's commands, run as they stand, in their order, in a fresh folder."""

import shlex
import socket
import subprocess

import pytest
from readme import ROOT, commands, fenced, follow

from tfdnc.cli.main import build_parser
from tfdnc.contracts.config import load_config

EXEMPT = {
    "make run": "installs everything from a package index, and takes minutes; its lines are read below",
    "make test": "this is it",
    "tfdnc explore": "serves until it is interrupted; tests/test_explore.py asks for the page",
    "tfdnc run configs/ml1m": "reads MovieLens-1M",
    "tfdnc picture": "of a run on MovieLens-1M; tests/test_explore.py draws one",
    "tfdnc run mine.yaml --final": "a second training; tests/test_final_fit.py runs one",
    "tfdnc run mine.yaml --set name=today": "a second training; tests/test_warm_start_end_to_end.py runs one",
    "tfdnc serve models/mine": "its port is in use above; tests/serving/test_serving_lifecycle.py has versions",
    "tfdnc publish runs/today": "there is no such run; tests/serving/bundles/test_serving_publish.py publishes twice",
    "tfdnc refresh": "a model without item features; tests/tfdnc/operations/test_refresh.py runs one",
    "tfdnc diff": "needs a log of later events; tests/tfdnc/operations/test_next_events.py reads one",
    "tfdnc rollback": "needs two versions; tests/serving/bundles/test_serving_publish.py rolls back",
}
"""Beginnings of commands that are not run here, with the reason."""


def is_exempt(command):
    return any(command.startswith(beginning) for beginning in EXEMPT)


def parsed(command):
    """The arguments of a `tfdnc` command, after the shell has expanded it; leaves if the command line knows no such."""
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    program = next(i for i, word in enumerate(words.stdout.splitlines()) if word.endswith("tfdnc"))
    return build_parser().parse_args(words.stdout.splitlines()[program + 1 :])


def test_no_exemption_is_out_of_date():
    for beginning in EXEMPT:
        assert any(command.startswith(beginning) for command in commands()), beginning


@pytest.mark.parametrize("command", [one for one in commands() if is_exempt(one) and "tfdnc" in one])
def test_what_is_not_run_is_a_command_with_the_files_it_names(command):
    arguments = parsed(command.replace("&", ""))
    named = [getattr(arguments, "config", None), *getattr(arguments, "configs", [])]
    for path in (path for path in named if path and path.is_relative_to("configs")):
        assert load_config(ROOT / path)


def test_make_run_is_made_of_commands():
    lines = (ROOT / "Makefile").read_text().partition("\nrun:")[2].partition("\n\n")[0].splitlines()[1:]
    recipe = [line.strip() for line in lines if line.strip().startswith("$(RUN)")]
    assert len(recipe) == 3
    for line in recipe:
        arguments = parsed(line.removeprefix("$(RUN)/"))
        config = load_config(ROOT / (getattr(arguments, "config", None) or "configs/planted/dnc.yaml"))
        assert getattr(arguments, "run", None) in (None, arguments.runs / config.name)


def test_it_is_read_in_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_configs_of_a_comparison_load(readme_folder):
    config = load_config(readme_folder / "mine_softmax.yaml")
    assert (config.name, config.data.columns.user, config.train.loss) == ("mine-softmax", "customer", "softmax")


def test_the_commands_work_as_they_stand(readme_folder):
    """The server is started and asked at once, by the command line and by the Python of README."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8500)) == 0:
            pytest.skip("another server has port 8500, which README's commands mean")
    todo = [command for command in commands() if not is_exempt(command)]
    first = next(i for i, command in enumerate(todo) if command.startswith("tfdnc run")) + 1  # done by the fixture
    [snippet] = fenced("python")
    stop_server = "trap 'kill $(jobs -p); wait' EXIT"
    steps = [todo[0], *todo[first:], f"python -c {shlex.quote(snippet)}", "kill %1", "wait %1", "trap - EXIT"]
    done = follow([stop_server, *steps], readme_folder, seconds=400)
    assert done.stderr == ""
    for said in (
        "asking for user c",
        "50 candidates by quota, alpha 1",
        "Published runs/mine/bundle/1 as models/mine/1",
    ):
        assert said in done.stdout
    assert done.stdout.splitlines()[-1].startswith("['s")  # what the Python prints: ids and quotas
