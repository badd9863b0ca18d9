"""Names of the stations, and of the folders in a run that they write."""

from enum import StrEnum


class StationName(StrEnum):
    """A station of the pipeline; also the command that runs it."""

    GENERATE = "generate"
    PREPARE = "prepare"
    CLUSTER = "cluster"
    JUDGE = "judge"
    EXAMPLES = "examples"
    TRAIN = "train"
    EVALUATE = "evaluate"
    EXPORT = "export"

    @property
    def folder(self) -> str:
        """The folder in a run that the station writes."""
        return "bundle" if self is StationName.EXPORT else self.value
