"""Exports of a few signatures, for tests that ask a bundle themselves."""

import contextlib
from collections.abc import Iterator

import pytest

from serving import messages
from serving.bundles import recorded
from tfdnc.contracts import bundle


@contextlib.contextmanager
def exporting(*signatures: str) -> Iterator[None]:
    """Bundles that are exported meanwhile have these signatures, `encode` among them, and recorded answers of that one.

    Each signature takes a second to save, one to record, and one in each process that loads the bundle, and
    `retrieve_bounded` takes several. All of them are the subject of tests/tfdnc/export and tests/test_end_to_end.py.
    """
    with pytest.MonkeyPatch.context() as patch:
        for table in ("SIGNATURES", "RULE_SIGNATURES"):
            chosen = {name: declared for name, declared in getattr(bundle, table).items() if name in signatures}
            patch.setattr(bundle, table, chosen)
        patch.setattr(recorded, "_requests", _encodings)
        yield


def _encodings(servable, users, lengths, features, rules):
    """The requests to `encode` among those of an export: for each user alone, and for all together."""
    for batch in [[user] for user in users] + [users]:
        histories, known = map(list, zip(*batch, strict=True))
        beside = messages.known_arguments(features, known) | {"declared": messages.declared_rows(features)}
        yield messages.encode_request(histories, **beside)
