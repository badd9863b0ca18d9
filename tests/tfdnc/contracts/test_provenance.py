"""Provenance of results: the commit is that of this package, and of no repository around it."""

import subprocess

from tfdnc.contracts import provenance


def fresh(monkeypatch, folder):
    """The provenance of a copy of the module in another folder."""
    package = folder / "tfdnc"
    (package / "contracts").mkdir(parents=True)
    file = package / "contracts" / "provenance.py"
    file.write_text("")
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    monkeypatch.setattr(provenance, "__file__", str(file))
    return provenance._of_process.__wrapped__


def git(folder, *arguments):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_the_commit_is_known_in_a_repository_and_changed_sources_are_said(tmp_path, monkeypatch):
    of_process = fresh(monkeypatch, tmp_path)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "x")
    assert len(of_process()["commit"]) == 40
    assert of_process()["changed"] is False
    (tmp_path / "notes.txt").write_text("no source")
    assert of_process()["changed"] is False
    (tmp_path / "tfdnc" / "new.py").write_text("")
    assert of_process()["changed"] is True


def test_an_installed_package_has_no_commit_even_inside_another_repository(tmp_path, monkeypatch):
    """A virtual environment often lies in the repository of the project that uses the package."""
    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "x")
    found = fresh(monkeypatch, tmp_path / "site-packages")()
    assert (found["commit"], found["changed"]) == (None, None)


def test_the_date_is_in_utc_and_the_versions_are_of_installed_libraries():
    found = provenance.provenance()
    assert found["date"].endswith("Z")
    assert {"tfdnc", "Python", "numpy"} <= found["versions"].keys()
