"""Verification of a version: it must still give the answers that were recorded at its export."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.bundles import bundle, replay
from serving.bundles.answer_equality import Comparison, compare
from serving.bundles.recorded import read_recorded
from serving.predict import DEFAULT_SIGNATURE
from tfdnc.contracts import bundle as contract
from tfdnc.contracts.errors import UserError

RECOVERY = 0.97
"""Required share of the recorded items in the lists of an approximate index, if its manifest has no recovery."""

_MOST_RECOVERY = 0.99  # even a complete index may end its lists with other tied items

Ask = Callable[[Sequence[predict_pb2.PredictRequest]], Sequence[predict_pb2.PredictResponse]]
"""Requests -> their answers, in the same order."""


@dataclasses.dataclass(frozen=True)
class SignatureReport:
    """Comparison of the answers of one signature.

    Attributes:
        signature: Name of the signature.
        requests: Number of requests.
        equal: Number of answers with the recorded items at the same ranks, and numbers within the tolerance.
        difference: Largest absolute difference of two numbers.
        overlap: Smallest share of the recorded items of a request that its answer holds.
    """

    signature: str
    requests: int
    equal: int
    difference: float
    overlap: float


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of a verification.

    Attributes:
        signatures: One report per signature.
        mismatch: Description of the first wrong answer, "" if the version is verified.
    """

    signatures: list[SignatureReport]
    mismatch: str


def find_version(path: Path) -> Path:
    """Returns the folder of the latest version at `path`, which may be a version itself or a model base path.

    Raises:
        UserError: No version exists there.
    """
    versions = bundle.find_versions(path)
    return versions[max(versions)]


def verify(path: Path, ask: Ask | None = None, logged: Sequence[prediction_log_pb2.PredictLog] | None = None) -> Report:
    """Replays the recorded requests of the version at `path` and compares the answers with the recorded ones.

    Lists of exact bundles must be equal except for ties, and numbers must agree within `answer_equality.TOLERANCE`. The
    lists of a bundle with ScaNN must hold the share of recorded items that its manifest has as its recovery.

    Args:
        path: Folder of the version.
        ask: Function from requests to answers; None for a fresh process that loads the version.
        logged: Requests with their answers instead of the recorded ones, such as those of a request log.

    Raises:
        UserError: The manifest or the recorded requests cannot be used, or a request was not answered.
    """
    manifest = check_manifest(path)
    logs = read_recorded(path) if logged is None else logged
    requests = [log.request for log in logs]
    answers = ask(requests) if ask else replay.ask_fresh_process(path, None if logged is None else requests).responses
    kind = "recorded" if logged is None else "logged"
    approximate = bool(manifest.get("uses_scann"))
    rows: defaultdict[str, list[Comparison]] = defaultdict(list)
    mismatch = ""
    for number, (log, answer) in enumerate(zip(logs, answers, strict=True), 1):
        comparison = compare(log.response, answer, approximate)
        signature = log.request.model_spec.signature_name or DEFAULT_SIGNATURE
        rows[signature].append(comparison)
        if comparison.fault and not mismatch:
            mismatch = f"{kind} request {number} ({signature}): {comparison.fault}"
    if approximate and not mismatch:
        recovery = manifest.get("joint_recovery", RECOVERY)
        mismatch = _too_little_overlap(rows, min(float(recovery), _MOST_RECOVERY))
    return Report([_row(signature, found) for signature, found in rows.items()], mismatch)


def check_manifest(path: Path) -> dict[str, Any]:
    """Returns the manifest of a version, checked against the ops of its graph.

    The versions of libraries are not checked here but by the process that loads the version, perhaps elsewhere.

    Raises:
        UserError: No manifest, an unknown bundle format, or a manifest that is wrong about ScaNN's ops.
    """
    manifest = bundle.read_manifest(path)
    if not manifest:
        raise UserError(
            f"Expected a bundle with {contract.MANIFEST_ASSET} in {path}, found none. Export it with tfdnc."
        )
    uses_scann = bundle.uses_scann_ops(path / bundle.SAVED_MODEL)
    if uses_scann != bool(manifest.get("uses_scann")):
        graph, says = ("has", "denies") if uses_scann else ("lacks", "promises")
        raise UserError(
            f"Expected the graph and the manifest in {path} to agree on ScaNN's ops, the graph {graph} them, the "
            f"manifest {says} it. Files of two exports were mixed: export the version again."
        )
    return manifest


def _too_little_overlap(rows: dict[str, list[Comparison]], required: float) -> str:
    for signature, comparisons in rows.items():
        listed, found = sum(c.listed for c in comparisons), sum(c.found for c in comparisons)
        if found < required * listed:
            return f"the lists of {signature} hold {found / listed:.4f} of the recorded items, expected {required:g}"
    return ""


def _row(signature: str, comparisons: list[Comparison]) -> SignatureReport:
    return SignatureReport(
        signature,
        requests=len(comparisons),
        equal=sum(comparison.identical for comparison in comparisons),
        difference=max(comparison.difference for comparison in comparisons),
        overlap=min(comparison.overlap for comparison in comparisons),
    )
