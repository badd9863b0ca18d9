"""Manifests of stations that cannot be read."""

import pytest

from tfdnc.pipeline.manifests import MANIFEST, read_manifest


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "{}", '{"files": null}', '{"files": {"gone": 1}}'])
def test_a_damaged_manifest_is_of_an_unfinished_station(tmp_path, text):
    """`"files": null` ended in an AttributeError."""
    (tmp_path / MANIFEST).write_text(text)
    assert read_manifest(tmp_path) is None
