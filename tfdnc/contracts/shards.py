"""Check that all shards of a data set are there."""

from collections.abc import Sequence
from pathlib import Path

from tfdnc.contracts.errors import UserError
from tfdnc.contracts.schema import shard_name


def check_shards(names: Sequence[str], folder: Path | str, suffix: str, advice: str) -> None:
    """Refuses a folder that a killed or running job has filled in part.

    Args:
        names: of the files found in the folder, in order.
        folder: for the message.
        suffix: of the files.
        advice: remedy, for the message.

    Raises:
        UserError: there is none, one is missing, or one is of another data set.
    """
    if not names:
        raise UserError(f"Expected shards (part-*.{suffix}) in {folder}, found none; {advice}.")
    total = names[0].removesuffix(f".{suffix}").rpartition("-")[2]
    expected = [shard_name(shard, int(total), suffix) for shard in range(int(total))] if total.isdecimal() else []
    if list(names) != expected:
        wanted = f"the {len(expected)} files {expected[0]} .. {expected[-1]}" if expected else "files of one data set"
        raise UserError(f"Expected {wanted} in {folder}, found {len(names)} that are not these; {advice}.")
