"""The file of users: its rows are joined to the sequences, counted, and refused if they are of another log."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfdnc.contracts import schema
from tfdnc.contracts.errors import UserError

FEATURES = {"country": "value", "age": "number"}
LOG = [(user, f"i{time}", time) for user in "abc" for time in range(4)]
UNKNOWN = pytest.approx(schema.UNKNOWN_NUMBER)


def users_of(prepared):
    rows = pq.read_table(prepared / schema.SEQUENCES).to_pylist()
    return {row["user_id"]: (row["user_country"], row["user_age"]) for row in rows}


def _csv():
    return b'id,age,country\na,30,"D,E"\nb,,\nz,1,FR\na,31,AT\nc,old,DE\n'


def _jsonl():
    rows = [{"id": "a", "age": 30, "country": "D,E"}, {"id": "b"}, {"id": "z", "age": 1, "country": "FR"}]
    rows += [{"id": "a", "age": 31}, {"id": "c", "age": "old", "country": "DE"}]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet():
    sink = pa.BufferOutputStream()
    columns = {"id": [*"abzac"], "age": ["30", None, "1", "31", "old"], "country": ["D,E", None, "FR", "AT", "DE"]}
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"), [("users.csv", _csv()), ("users.jsonl", _jsonl()), ("users.parquet", _parquet())]
)
def test_in_every_format_users_are_joined_and_every_row_is_counted(name, content, write_csv, prepare_log, tmp_path):
    (tmp_path / name).write_bytes(content)
    users = {"path": tmp_path / name, "user": "id", "features": FEATURES}
    figures, prepared = prepare_log(write_csv(LOG), users=users)
    assert users_of(prepared) == {"a": ("D,E", 30), "b": ("", UNKNOWN), "c": ("", UNKNOWN)}
    assert figures["user_file"] == {
        "file": name,
        "rows": 5,
        "repeated": 1,
        "users": 3,
        "described": 2,
        "malformed": {"age is neither empty nor a finite number above -1e+30": 1},
        "with": {"country": 1, "age": 1},
    }
    [letter] = (prepared / schema.DEAD_LETTER / "user file.jsonl").read_text().splitlines()
    assert json.loads(letter)["file"] == name


def test_sessions_have_the_inputs_of_their_user(write_csv, prepare_log, tmp_path):
    (tmp_path / "users.csv").write_text("user_id,country,age\na,DE,30\n")
    rows = [("a", f"i{time}", time) for time in (0, 1, 2, 100, 101, 102)]
    users = {"path": tmp_path / "users.csv", "features": FEATURES}
    _, prepared = prepare_log(write_csv(rows), users=users, session_gap=50)
    assert users_of(prepared) == {"a:1": ("DE", 30), "a:2": ("DE", 30)}


def test_movielens_brings_its_users(prepare_log, tmp_path):
    (tmp_path / "ratings.dat").write_text("".join(f"1::{item}::3::{item}\n" for item in range(1, 6)))
    (tmp_path / "users.dat").write_text("1::F::25::10::48067\n2::M::56\n")
    figures, prepared = prepare_log(tmp_path, format="movielens", users={}, num_shards=1)
    [row] = pq.read_table(prepared / schema.SEQUENCES).to_pylist()
    assert (row["user_gender"], row["user_age"], row["user_occupation"]) == ("F", "25", "10")
    assert figures["user_file"]["malformed"] == {"not user::gender::age::occupation::zip": 1}
    with pytest.raises(UserError, match=r"Expected gender, age, occupation, zip of users\.dat in data\.users"):
        prepare_log(tmp_path, format="movielens", users={"features": {"height": "number"}})


def test_kuairand_brings_its_users(prepare_log, tmp_path):
    log = "user_id,video_id,time_ms,is_click,tab\n"
    (tmp_path / "log_standard_1.csv").write_text(log + "".join(f"1,{video},{video},1,0\n" for video in range(4)))
    with gzip.open(tmp_path / "user_features_pure.csv.gz", "wt") as stream:
        stream.write("user_id,user_active_degree,register_days\n1,full_active,799\n")
    users = {"features": {"user_active_degree": "value", "register_days": "number"}}
    _, prepared = prepare_log(tmp_path, format="kuairand", users=users, num_shards=1)
    [row] = pq.read_table(prepared / schema.SEQUENCES).to_pylist()
    assert (row["user_user_active_degree"], row["user_register_days"]) == ("full_active", 799)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,age\na,3\n", r"Expected column 'country' in .*; set data\.users\.features"),
        ("id,country,age\na,DE,3\n", r"Expected column 'user_id' in .*; set data\.users\.user"),
        ("user_id,country,age\nx,DE,3\n", r"Expected users of the log in users\.csv, found none of 3; set data\.users"),
        ("user_id,country,age\na,DE,?\nb,DE,?\n", "Mend the file of users, check data.users"),
    ],
)
def test_a_file_that_cannot_be_joined_is_refused(text, message, write_csv, prepare_log, tmp_path):
    (tmp_path / "users.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        prepare_log(write_csv(LOG), users={"path": tmp_path / "users.csv", "features": FEATURES})
