"""Dependence of stations on the source of a plug-in."""

import pytest

from tfdnc.contracts.config import parse_config
from tfdnc.contracts.errors import UserError
from tfdnc.contracts.registry import Choice, Registry
from tfdnc.pipeline import engine
from tfdnc.pipeline.engine import Station, check_stations, run_station, standing


def ours():
    """An implementation of this project."""


def yours():
    """An implementation of a plug-in."""


@pytest.fixture
def stations(monkeypatch):
    """One that looks nothing up, and one that looks up the config's encoder; the plug-in has no module to import."""
    encoders = Registry("user encoder")
    ours.__module__, yours.__module__ = "tfdnc.model", "my_module"
    encoders.register("plain")(ours)
    encoders.register("pool")(yours)
    monkeypatch.setattr(engine, "import_plugins", lambda plugins: None)
    monkeypatch.setattr(engine, "source_digests", lambda plugins: {"my_module": source[0]})
    source = ["as it was"]
    first = Station("first", "first", (), settings=lambda config: {}, work=lambda place: {}, headline=str)
    second = Station(
        "second",
        "second",
        needs=(first,),
        settings=lambda config: {},
        work=lambda place: {},
        headline=str,
        choices=lambda config: [Choice(encoders, config.model.encoder)],
    )
    return [first, second], source


def config(encoder, plugins=("my_module",)):
    return parse_config({"name": "x", "plugins": plugins, "model": {"encoder": encoder}})


def run_all(stations, config, run):
    return [run_station(station, config, run).skipped for station in stations]


def test_an_edit_reaches_the_station_that_uses_a_name_of_it_and_no_other(stations, tmp_path):
    """Every station took a changed encoder of the user for unchanged."""
    stations, source = stations
    run = tmp_path / "runs" / "x"
    assert run_all(stations, config("pool"), run) == [False, False]
    assert run_all(stations, config("pool"), run) == [True, True]
    source[0] = "edited"
    assert list(standing(stations, config("pool"), run)) == ["first"]
    assert run_all(stations, config("pool"), run) == [True, False]


def test_a_station_that_uses_none_of_its_names_does_not_depend_on_it(stations, tmp_path):
    """Nor does its result differ from that of a config without the plug-in, so each adopts what the other has."""
    stations, source = stations
    runs = tmp_path / "runs"
    assert run_all(stations, config("plain", plugins=()), runs / "x") == [False, False]
    source[0] = "edited"
    assert run_all(stations, config("plain"), runs / "y") == [True, True]


def test_an_unknown_name_is_said_before_any_station_works(stations):
    with pytest.raises(UserError, match="Unknown user encoder 'pol'; known: plain, pool"):
        check_stations(stations[0], config("pol"))
