"""Questions of the page, as JSON, to arguments of a bundle; what a bundle could not answer is a `UserError`."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from tfdnc.contracts.errors import UserError
from tfdnc.contracts.section import Finite, Positive, Section


class ListQuestion(Section):
    """A list for a user of the log, or for a history that was typed."""

    run: Annotated[int, Field(ge=0)] = 0
    user: str | None = None  # null: `history` was typed, and other inputs of the model are unknown
    history: tuple[str, ...] = ()
    count: Positive = 50
    merge: Literal["own", "quota", "joint"] = "own"
    alpha: Finite = 1.0
    minimum: dict[str, Positive] = Field(default={})  # least results by name of cluster
    exclude: tuple[str, ...] = ()
    seen: Literal["", "exclude", "allow"] = ""  # items of the history; "": the bundle's own rule
    where: tuple[str, ...] = ()  # conditions on attributes, such as in_stock=true

    def controls(self) -> dict[str, Any]:
        """Returns the arguments of `Bundle.retrieve` beside history and count."""
        controls: dict[str, Any] = {}
        if self.merge == "quota":
            controls["alpha"] = self.alpha
        if self.merge == "joint":
            controls["joint_alpha"] = self.alpha
        if self.minimum:
            controls["minimum"] = self.minimum
        if self.seen:
            controls["seen"] = self.seen
        if self.where:
            controls["where"] = list(self.where)
        if self.exclude:
            controls["exclude"] = [self.exclude]
        return controls


def read_question(content: bytes) -> ListQuestion:
    """Returns the question in the body of a request.

    Raises:
        UserError: It is no such question.
    """
    try:
        return ListQuestion.model_validate_json(content)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UserError(f"Expected a question of the page, got another one: {said}.") from error
