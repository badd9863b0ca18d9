"""The log with new items: only training events are left out."""

from benchmarks.hide_items import hide_items


def test_hidden_items_stay_where_they_are_held_out(tmp_path):
    source, output = tmp_path / "whole", tmp_path / "hidden"
    source.mkdir()
    # User 1 rates in the order of time, user 2 against it; user 3's last three events tie, and the file decides.
    rows = ["1::a::5::1", "1::b::5::2", "1::a::5::3", "1::c::5::4"]
    rows += ["2::c::5::9", "2::a::5::8", "2::b::5::7", "2::c::5::6"]
    rows += ["3::a::5::1", "3::b::5::1", "3::c::5::1"]
    (source / "ratings.dat").write_text("".join(f"{row}\n" for row in rows))
    (source / "movies.dat").write_text("a::A (1990)::Drama\n")
    found = hide_items(source, output, share=1, seed=1)
    kept = ["1::a::5::3", "1::c::5::4", "2::c::5::9", "2::a::5::8", "3::b::5::1", "3::c::5::1"]
    assert (output / "ratings.dat").read_text().split() == kept
    assert (output / "movies.dat").read_text() == "a::A (1990)::Drama\n"
    assert found == {"items": 3, "events": 5, "targets": 6}
    some = hide_items(source, output, share=1 / 3, seed=1)
    assert some["items"] == 1
    gone = set(rows) - set((output / "ratings.dat").read_text().split())
    assert len({row.split("::")[1] for row in gone}) == 1
    assert not gone & set(kept)
