"""Tables of the documents: rendered from the files of docs/results, and not out of date."""

import json
import shutil

import pytest
import yaml

from developer_benchmarks import render_results
from developer_benchmarks.render_results import DOCUMENTS, RESULTS, ROOT, render, table_of
from tests.developer_benchmarks.small_results import COMMIT, OTHER, result
from tfdnc.comparison.cells import read_cells, write_cells
from tfdnc.contracts.errors import UserError

TRANSCRIBED = sorted((RESULTS / "transcribed").glob("*.json"))
VIEWS = yaml.safe_load((RESULTS / "tables.yaml").read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_stands_in_a_document_is_what_the_files_say(document):
    """`python -m developer_benchmarks.render_results` renders them anew."""
    text = document.read_text(encoding="utf-8")
    assert render(text) == text


def test_every_described_table_stands_in_a_document_and_every_file_in_a_table():
    texts = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert [name for name in VIEWS if f"<!-- table: {name} -->" not in texts] == []
    used = {source["from"] for view in VIEWS.values() for source in (view, view.get("above", view))}
    folders = [path for path in RESULTS.iterdir() if path.is_dir() and path.name != "transcribed"]
    assert {*(f"transcribed/{path.name}" for path in TRANSCRIBED), *(path.name for path in folders)} == used


@pytest.mark.parametrize("path", TRANSCRIBED, ids=lambda path: path.stem)
def test_a_transcribed_file_says_its_source_and_claims_no_other_provenance(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["source"].startswith("transcribed from docs/results.md of ")
    assert content.keys() == {"source", "commands", "dates", "heads", "columns", "rows"}
    labels = [row["label"] for row in content["rows"]]
    assert len(set(labels)) == len(labels)
    keys = {column["key"] for column in content["columns"]}
    assert all(row["cells"].keys() <= keys for row in content["rows"])


def test_a_measured_cell_has_its_whole_provenance():
    """Measured on a commit without changed sources, from a command that has no folder of a machine."""
    cells = [cell for folder in RESULTS.iterdir() if folder.is_dir() and folder.name != "transcribed"
             for cell in read_cells(folder)]  # fmt: skip
    assert cells
    for cell in cells:
        assert cell.command.startswith("tfdnc compare configs/")
        assert " /" not in cell.command
        for made in cell.made.values():
            assert len(made["commit"]) == 40
            assert made["changed"] is False
            assert made["date"]
            assert made["machine"]
            assert made["versions"]["tensorflow"]


def test_a_changed_file_makes_the_document_out_of_date(tmp_path, monkeypatch, capsys):
    """`--check` changes nothing and fails; without it the document is written anew."""
    results, document = tmp_path / "results", tmp_path / "results.md"
    shutil.copytree(RESULTS / "transcribed", results / "transcribed")
    view = {"from": "transcribed/ml1m_methods.json"}
    (results / "tables.yaml").write_text(yaml.safe_dump({"one": view}))
    (results / "plots.yaml").write_text("")
    document.write_text("before\n<!-- table: one -->\n<!-- end of table -->\nafter\n")
    for name, value in {"ROOT": tmp_path, "RESULTS": results, "DOCUMENTS": (document,)}.items():
        monkeypatch.setattr(render_results, name, value)
    monkeypatch.setattr(render_results, "render", lambda text: render(text, results))

    def status(*flags):
        monkeypatch.setattr("sys.argv", ["render_results", *flags])
        return render_results.main()

    assert (status("--check"), "| mf |" in document.read_text()) == (1, False)
    assert (status(), status("--check")) == (0, 0)
    assert "| mf | 0.0805 |" in document.read_text()
    assert document.read_text().endswith("<!-- end of table -->\nafter\n")
    file = results / "transcribed" / "ml1m_methods.json"
    file.write_text(file.read_text().replace("0.0805", "0.0806"))
    assert status("--check") == 1
    assert "results.md: out of date" in capsys.readouterr().out


def test_an_unknown_table_row_or_column_is_an_error():
    with pytest.raises(UserError, match="Expected 'absent' in"):
        render("<!-- table: absent -->\n<!-- end of table -->")
    file = "transcribed/ml1m_methods.json"
    for wrong in ({"rows": {"absent": "x"}}, {"columns": ["recall@7"]}):
        with pytest.raises(UserError, match=r"got (absent|recall@7): tables\.yaml names them"):
            table_of({"from": file, **wrong}, RESULTS)


def test_a_transcribed_table_has_its_bests_in_bold_and_texts_as_they_were():
    lines = table_of({"from": "transcribed/ml1m_methods.json"}, RESULTS).splitlines()
    assert next(line for line in lines if line.startswith("| dnc_mmoe |")).startswith(
        "| dnc_mmoe | **0.3093** | 0.4161"
    )
    published = table_of(VIEWS["readme"], RESULTS)
    assert "HSTU; with ties in time in stable order, as here | .310; .323 |  | .575; .589 |" in published
    assert published.endswith("transcribed from docs/results.md of fb4c9c8, no cells of these runs exist.")


def test_a_cell_of_another_commit_or_an_earlier_one_is_no_repetition_and_is_marked(tmp_path):
    """A generated log has another split with every seed, so splits tell no repetitions apart."""
    results = [result(1, OTHER, 0.1, 1), result(1, COMMIT, 0.2, 2), result(2, COMMIT, 0.4, 2, split="other")]
    results.append(result(2, COMMIT, 0.25, 1))
    write_cells(results, "tfdnc compare x", tmp_path)
    text = table_of({"from": tmp_path, "table": "lists", "commands": True}, RESULTS)
    assert "| x-dnc | **0.3000 ± 0.1414** |" in text
    assert "| x-dnc, commit bbbbbbb | 0.1000 |" in text
    assert "| x-dnc, run of 2026-11-01 | 0.2500 |" in text
    assert "commit `bbbbbbb`, `aaaaaaa`, 2026-11-01 and 2026-11-02, m, split DIFFERENT data" in text
    assert text.startswith("    tfdnc compare x\n\n| method |")
    with pytest.raises(UserError, match="Expected the table 'absent'"):
        table_of({"from": tmp_path, "table": "absent"}, RESULTS)


def test_rows_of_cells_stand_above_transcribed_ones_with_a_line_each_that_tells_their_source(tmp_path):
    shutil.copytree(RESULTS / "transcribed", tmp_path / "transcribed")
    (tmp_path / "mine").mkdir()
    write_cells([result(1, COMMIT, 0.2, 1), result(2, COMMIT, 0.4, 1)], "tfdnc compare x", tmp_path / "mine")
    view = {"from": "transcribed/ml1m_methods.json", "columns": ["recall@10"], "rows": {"mf": "other"}}
    lines = table_of(view | {"above": {"from": "mine", "rows": {"x-dnc": "mine"}}}, tmp_path).splitlines()
    assert lines[2:4] == ["| mine | 0.3000 ± 0.1414 |", "| other | 0.0805 |"]
    assert lines[5].startswith("First 1 rows: 2 cells in `docs/results/mine`, commit `aaaaaaa`, 2026-11-01")
    assert lines[6].startswith("Others: measured on ")
    with pytest.raises(UserError, match=r"got absent: tables\.yaml names them"):
        table_of(view | {"above": {"from": "mine", "rows": {"absent": "x"}}}, tmp_path)


def test_the_command_is_named_where_the_tables_are_explained():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert "python -m developer_benchmarks.render_results" in text
