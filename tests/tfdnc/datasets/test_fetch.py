"""fetch against a server made of files: no test here touches the network."""

import hashlib
import io
import zipfile

import pytest

from tfdnc.contracts.errors import UserError
from tfdnc.datasets.fetch import DATA_SETS, DataSet, fetch

FILES = {"ratings.dat": b"1::1193::5::978300760\n" * 10_000, "movies.dat": b"1::Toy Story (1995)::Animation\n"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder served by file:// URLs, and a data set in it called `toy`."""
    folder = tmp_path / "server"
    folder.mkdir()
    publish(folder, {f"toy/{name}": content for name, content in FILES.items()})
    url = (folder / "toy.zip").as_uri()
    monkeypatch.setitem(DATA_SETS, "toy", DataSet(url, url + ".md5", "toy", tuple(FILES)))
    return folder


def publish(folder, members):
    with zipfile.ZipFile(folder / "toy.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    digest = hashlib.md5((folder / "toy.zip").read_bytes()).hexdigest()
    (folder / "toy.zip.md5").write_text(f"{digest}  toy.zip\n")


def test_the_files_arrive(server, tmp_path):
    output = fetch("toy", tmp_path / "data" / "toy")
    assert {path.name: path.read_bytes() for path in output.iterdir()} == FILES
    assert list(output.parent.iterdir()) == [output]


def test_both_layouts_of_md5_files_are_read(server, tmp_path):
    digest = (server / "toy.zip.md5").read_text().split()[0]
    (server / "toy.zip.md5").write_text(f"MD5 (toy.zip) = {digest.upper()}\n")
    assert fetch("toy", tmp_path / "toy").is_dir()


def test_a_damaged_download_leaves_nothing(server, tmp_path):
    content = bytearray((server / "toy.zip").read_bytes())
    content[50] ^= 1
    (server / "toy.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"Expected MD5 \w{32} .* got \w{32}.*damaged"):
        fetch("toy", tmp_path / "toy")
    assert list(tmp_path.iterdir()) == [server]


def test_a_download_that_breaks_off_says_so(server, tmp_path):
    def opener(url):
        response = io.BytesIO((server / url.rsplit("/", 1)[1]).read_bytes())
        response.headers = {"Content-Length": "1000000"}
        return response

    with pytest.raises(UserError, match=r"Expected 1000000 bytes .*broke off"):
        fetch("toy", tmp_path / "toy", opener=opener)


def test_no_network_says_what_to_do_by_hand(tmp_path):
    def opener(url):
        raise OSError("Name or service not known")

    with pytest.raises(UserError, match=r"ml-1m\.zip: Name or service.*unpack it so that ratings\.dat lies in"):
        fetch("ml-1m", tmp_path / "ml-1m", opener=opener)
    assert not list(tmp_path.iterdir())


def test_only_the_named_files_leave_the_archive(server, tmp_path):
    members = {f"toy/{name}": content for name, content in FILES.items()}
    publish(server, members | {"../../evil": b"x", "/evil": b"x", "toy/../evil": b"x", "toy/more.dat": b"x"})
    output = fetch("toy", tmp_path / "toy")
    assert {path.name for path in output.iterdir()} == set(FILES)
    assert not list(tmp_path.rglob("evil"))


def test_an_archive_without_the_files_is_refused(server, tmp_path):
    publish(server, {"toy/other.dat": b"x"})
    with pytest.raises(UserError, match=r"ratings\.dat, movies\.dat in toy/"):
        fetch("toy", tmp_path / "toy")


def test_no_zip_is_refused(server, tmp_path):
    (server / "toy.zip").write_bytes(b"<html>sorry</html>")
    digest = hashlib.md5(b"<html>sorry</html>").hexdigest()
    (server / "toy.zip.md5").write_text(digest)
    with pytest.raises(UserError, match="Expected a zip archive"):
        fetch("toy", tmp_path / "toy")


def test_an_md5_file_without_md5_is_refused(server, tmp_path):
    (server / "toy.zip.md5").write_text("<html>moved</html>")
    with pytest.raises(UserError, match="Expected an MD5"):
        fetch("toy", tmp_path / "toy")


def test_an_existing_folder_is_left_alone(server, tmp_path):
    (tmp_path / "toy").mkdir()
    with pytest.raises(UserError, match="it exists"):
        fetch("toy", tmp_path / "toy")


def test_unknown_names_list_the_known(tmp_path):
    with pytest.raises(UserError, match=r"Unknown data set 'ml-2m'; known: ml-1m\."):
        fetch("ml-2m", tmp_path / "x")
