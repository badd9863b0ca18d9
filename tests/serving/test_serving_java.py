"""A runtime that is not Python's: TensorFlow for Java answers every signature of an exact bundle as it was recorded."""

import java_runtime
import pytest

from serving.bundles.recorded import record
from serving.bundles.verify import verify
from tfdnc.contracts import bundle
from tfdnc.load_test.bundle import Size, make_bundle, make_histories
from tfdnc.model.encoders import USER_ENCODERS

CANDIDATES = 8


@pytest.fixture(scope="module")
def jars():
    return java_runtime.fetch()


def exported(folder, encoder):
    """Returns a version with random weights and recorded requests."""
    size = Size(items=90, clusters=3, dim=8, history_length=6, max_candidates=CANDIDATES, encoder=encoder)
    version = make_bundle(size, folder / encoder)
    record(version, make_histories(size, 2), 5, CANDIDATES)
    return version


@pytest.mark.slow  # some 15 s of CPU, and 160 MB of jars the first time
@pytest.mark.parametrize("encoder", USER_ENCODERS)
def test_every_encoder_answers_from_java_as_recorded(jars, tmp_path, encoder):
    version = exported(tmp_path, encoder)
    report = verify(version, lambda requests: java_runtime.ask(jars, version, requests))
    assert not report.mismatch
    assert {row.signature for row in report.signatures} == set(bundle.SIGNATURES)
    assert all(row.requests > 0 and row.overlap == 1 for row in report.signatures)


@pytest.mark.slow
def test_an_answer_from_java_that_differs_is_found(jars, tmp_path):
    """The check can fail: one version answers what the other was asked."""
    one, other = (exported(tmp_path, encoder) for encoder in ("transformer", "item_counts"))
    assert verify(one, lambda requests: java_runtime.ask(jars, other, requests)).mismatch
