"""Base of every section of the config, and types of values that several sections have."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]  # share that is left out
Positive = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Alpha = Finite
Exponent = Annotated[float, Field(ge=-10, le=10)]  # of counts up to billions: their powers stay far from overflow
Sizes = Annotated[tuple[Positive, ...], Field(min_length=1)]


class _Options(dict[str, Any]):
    """A dict with a hash, which frozen sections need; like them it is never changed."""

    def __hash__(self) -> int:  # type: ignore[override]  # `dict` declares None, because a dict may change
        return hash(json.dumps(self, sort_keys=True))


Options = Annotated[dict[str, JsonValue], AfterValidator(_Options)]
"""Settings that a plug-in's implementation adds to a section; `Registry.register` takes their types."""

NO_OPTIONS = _Options()
"""Default of sections with options."""


class Section(BaseModel):
    """Base of every section: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
