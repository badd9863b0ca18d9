"""The base of every section of the config, and the types of values that several sections have."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]  # of what is left out
Positive = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Alpha = Finite
Exponent = Annotated[float, Field(ge=-10, le=10)]  # of counts up to billions: their powers stay far from overflow
Sizes = Annotated[tuple[Positive, ...], Field(min_length=1)]
Options = dict[str, JsonValue]
"""Settings that a plug-in's implementation adds to a section; `Registry.register` says how it types them."""


class Section(BaseModel):
    """Base of every section: immutable, and a typing error in a key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
