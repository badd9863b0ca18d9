"""Smaller logs: some users, or a window of each."""

from benchmarks.cut_log import cut_log


def test_users_and_windows_are_kept_whole_and_in_the_order_of_the_file(tmp_path):
    source = tmp_path / "whole"
    source.mkdir()
    # User 0 rates in the order of time, user 1 against it, user 2 at one time only.
    rows = [f"{user}::{item}::5::{(item, 9 - item, 7)[user]}" for user in range(3) for item in range(6)]
    (source / "ratings.dat").write_text("".join(f"{row}\n" for row in rows))
    (source / "movies.dat").write_text("0::A (1990)::Drama\n")

    def cut(users=None, events=None, seed=1):
        found = cut_log(source, tmp_path / "cut", users, events, seed)
        assert (tmp_path / "cut" / "movies.dat").read_text() == "0::A (1990)::Drama\n"
        kept = (tmp_path / "cut" / "ratings.dat").read_text().split()
        assert kept == [row for row in rows if row in kept]
        users_left = [row.split("::")[0] for row in kept]
        assert found == {"users": len(set(users_left)), "events": len(kept)}
        return kept

    assert cut() == cut(events=6) == cut(events=7) == rows
    [user] = {row[0] for row in cut(users=1)}
    assert cut(users=1) == [row for row in rows if row[0] == user]
    windows = {tuple(row.split("::")[1] for row in cut(events=4, seed=seed) if row[0] == "1") for seed in range(20)}
    assert windows == {tuple("0123"), tuple("1234"), tuple("2345")}
