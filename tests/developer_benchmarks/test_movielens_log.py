"""Harder logs: some users, a window of each, or items that are new."""

import pytest

from developer_benchmarks.movielens_log import write_part


@pytest.fixture
def write(tmp_path):
    def write(rows, **sizes):
        (tmp_path / "whole").mkdir(exist_ok=True)
        (tmp_path / "whole" / "ratings.dat").write_text("".join(f"{row}\n" for row in rows))
        (tmp_path / "whole" / "movies.dat").write_text("0::A (1990)::Drama\n")
        found = write_part(tmp_path / "whole", tmp_path / "part", **sizes)
        assert (tmp_path / "part" / "movies.dat").read_text() == "0::A (1990)::Drama\n"
        kept = (tmp_path / "part" / "ratings.dat").read_text().split()
        assert kept == [row for row in rows if row in kept]
        users, items = ({row.split("::")[column] for row in kept} for column in (0, 1))
        assert found == {"users": len(users), "items": len(items), "events": len(kept)}
        return kept

    return write


def test_users_and_windows_are_kept_whole_and_in_the_order_of_the_file(write):
    # User 0 rates in the order of time, user 1 against it, user 2 at one time only.
    rows = [f"{user}::{item}::5::{(item, 9 - item, 7)[user]}" for user in range(3) for item in range(6)]
    assert write(rows) == write(rows, events=6) == write(rows, events=7) == rows
    [user] = {row[0] for row in write(rows, users=1)}
    assert write(rows, users=1) == [row for row in rows if row[0] == user]
    windows = {
        tuple(row.split("::")[1] for row in write(rows, events=4, seed=seed) if row[0] == "1") for seed in range(20)
    }
    assert windows == {tuple("0123"), tuple("1234"), tuple("2345")}
    assert {len(write(rows, users=2, events=4)), len(write(rows, users=1, events=1))} == {8, 1}


def test_hidden_items_stay_where_they_are_held_out(write):
    # User 1 rates in the order of time, user 2 against it; user 3's last three events tie, and the file decides.
    rows = ["1::a::5::1", "1::b::5::2", "1::a::5::3", "1::c::5::4"]
    rows += ["2::c::5::9", "2::a::5::8", "2::b::5::7", "2::c::5::6"]
    rows += ["3::a::5::1", "3::b::5::1", "3::c::5::1"]
    held_out = ["1::a::5::3", "1::c::5::4", "2::c::5::9", "2::a::5::8", "3::b::5::1", "3::c::5::1"]
    assert write(rows, hidden=1) == held_out
    gone = set(rows) - set(write(rows, hidden=1 / 3))
    assert len({row.split("::")[1] for row in gone}) == 1
    assert not gone & set(held_out)
