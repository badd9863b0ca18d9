"""Flags of the command line that are no numbers."""

import pytest

from tfdnc.cli.main import main


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["query", "--user", "1", "--alpha", "x"], "--alpha: expected a number, got x"),
        (
            ["query", "--user", "1", "--alpha", "1", "--joint-alpha", "1"],
            "--joint-alpha: not allowed with argument --alpha",
        ),
        (["query", "--user", "1", "--num-candidates", "1.5"], "--num-candidates: expected a whole number, got 1.5"),
        (["sweep", "negatives", "x.yaml", "--ratios", "2"], "--ratios: expected a share in 0..1, got 2"),
        (["query", "--user", "1", "--alpha", "-1"], "--alpha: expected a number of 0 or more, got -1"),
    ],
)
def test_the_complaint_says_what_was_expected(flags, complaint, capsys):
    with pytest.raises(SystemExit) as left:
        main(flags)
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err
