"""The intent that a finished model serves, beside its weights: the learned one, or an untrained one in its place."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Final, Literal, get_args

from tfdnc.contracts.errors import UserError
from tfdnc.contracts.schema import CHECKPOINT_INTENT

SERVED_INTENT = "served_intent"
"""Key of the decision in the figures of a training."""

LEARNED: Final = "learned"
"""The intent that was trained, among the names of intents that may serve; the others are those of `model.intent`."""

Served = Literal["learned", "prior", "history"]
"""Names of intents that may serve."""

Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class ServedIntent:
    """The intent of evaluation, bundle and every other reader of a training.

    Attributes:
        learned: kind of the intent that was trained.
        served: kind of the intent that is used, `learned` where the learned one stays.
        objective: the figure of `figures` that compares lists; None where nothing was compared.
        figures: validation figures of the lists by kind, `learned` included: those of an epoch's validation. An
            untrained one has `difference` to the learned one in the objective, and its `standard_error` over the users.
        text: a sentence for the user; None where nothing is to be said.
    """

    learned: str
    served: Served
    objective: str | None = None
    figures: dict[str, Figures] = dataclasses.field(default_factory=dict)
    text: str | None = None

    @property
    def served_figures(self) -> Figures:
        """Validation figures of the lists by an untrained intent that serves; none where the learned one stays."""
        figures = {} if self.served == LEARNED else self.figures.get(self.served, {})
        return {name: value for name, value in figures.items() if name not in ("difference", "standard_error")}

    def entries(self) -> dict[str, Any]:
        """Returns the attributes as JSON has them."""
        return dataclasses.asdict(self)


def write_served_intent(folder: Path, served: ServedIntent) -> None:
    """Writes the decision into the folder of a train station."""
    (folder / CHECKPOINT_INTENT).write_text(json.dumps(served.entries(), indent=1))


def read_served_intent(folder: Path) -> ServedIntent | None:
    """Reads the decision of a train station; None where none was made, and the intent of the config serves.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / CHECKPOINT_INTENT
    if not path.is_file():
        return None
    try:
        choice = ServedIntent(**json.loads(path.read_text()))
        if choice.served not in (known := get_args(Served)):
            raise ValueError(f"served: {choice.served!r}, none of {', '.join(known)}")
        return choice
    except (ValueError, TypeError) as error:
        raise UserError(f"Expected a choice of the intent in {path}, got {error}; train again.") from error
