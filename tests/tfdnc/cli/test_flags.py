"""Flags of the command line that are no numbers."""

import argparse

import pytest

from tfdnc.cli.cluster_flags import add_cluster_flags, cluster_controls
from tfdnc.cli.main import main
from tfdnc.contracts.errors import UserError


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["query", "--user", "1", "--alpha", "x"], "--alpha: expected a number, got x"),
        (
            ["query", "--user", "1", "--alpha", "1", "--joint-alpha", "1"],
            "--joint-alpha: not allowed with argument --alpha",
        ),
        (["query", "--user", "1", "--minimum", "Comedy"], "--minimum: expected CLUSTER=VALUE, such as Comedy=0.2 or"),
        (["query", "--user", "1", "--quotas", "Comedy=much"], "--quotas: expected CLUSTER=VALUE, such as Comedy=0.2"),
        (["query", "--user", "1", "--num-candidates", "1.5"], "--num-candidates: expected a whole number, got 1.5"),
        (["sweep", "negatives", "x.yaml", "--ratios", "2"], "--ratios: expected a share in 0..1, got 2"),
        (["query", "--user", "1", "--alpha", "-1"], "--alpha: expected a number of 0 or more, got -1"),
        (
            ["run", "x.yaml", "--set", "a.b=1", "c.d=2"],
            "c.d=2; expected --set before each KEY=VALUE, as in --set",
        ),
    ],
)
def test_the_complaint_says_what_was_expected(flags, complaint, capsys):
    with pytest.raises(SystemExit) as left:
        main(flags)
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err


def test_clusters_are_given_by_name_with_counts_and_shares():
    parser = argparse.ArgumentParser()
    add_cluster_flags(parser)
    flags = ["--minimum", "Comedy=0.2", "a=b=3", "--maximum", "7=1.0", "--quotas", "Film noir=2.5"]
    controls = cluster_controls(parser.parse_args(flags))
    assert controls == {"minimum": {"Comedy": 0.2, "a=b": 3}, "maximum": {"7": 1.0}, "quotas": {"Film noir": 2.5}}
    assert [type(value) for control in controls.values() for value in control.values()] == [float, int, float, float]
    assert cluster_controls(parser.parse_args([])) == {}


def test_values_are_bounded_by_column_beside_clusters():
    parser = argparse.ArgumentParser()
    add_cluster_flags(parser)
    flags = ["--minimum", "Comedy=2", "--at-least", "country=local=0.2", "--at-most", "brand=a=b=3", "brand=*=5"]
    controls = cluster_controls(parser.parse_args(flags))
    assert controls == {"minimum": {"Comedy": 2, "country": {"local": 0.2}}, "maximum": {"brand": {"a=b": 3, "*": 5}}}
    with pytest.raises(UserError, match="Expected brand as a cluster or as a column"):
        cluster_controls(parser.parse_args(["--minimum", "brand=2", "--at-least", "brand=acme=3"]))
    with pytest.raises(SystemExit):
        parser.parse_args(["--at-most", "brand=3"])


def test_flags_add_up_and_name_everything_once():
    """A repeated flag kept its last values only, without a word."""
    parser = argparse.ArgumentParser()
    add_cluster_flags(parser)
    flags = ["--at-least", "country=local=2", "--at-least", "brand=acme=1", "--minimum", "7=1", "--minimum", "8=2"]
    assert cluster_controls(parser.parse_args(flags)) == {
        "minimum": {"7": 1, "8": 2, "country": {"local": 2}, "brand": {"acme": 1}}
    }
    with pytest.raises(UserError, match="Expected brand=acme once in --at-most, got 3 and 0"):
        cluster_controls(parser.parse_args(["--at-most", "brand=acme=3", "--at-most", "brand=acme=0.5"]))
    with pytest.raises(UserError, match="Expected Comedy once in --quotas, got 1 and 2"):
        cluster_controls(parser.parse_args(["--quotas", "Comedy=1", "Comedy=2"]))
