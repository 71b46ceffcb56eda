"""What all settings are made of."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, WithJsonSchema, model_validator

from edge_agent.units import parse_duration, parse_size

Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": ["string", "number"], "examples": ["500ms", "2s", "5m"]}),
]
Bytes = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["64MB", "500kB"]}),
]


class Frozen(BaseModel):
    """Base of all settings: immutable, no unknown keys, documented fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        regex_engine="python-re",
        protected_namespaces=(),
    )

    @model_validator(mode="before")
    @classmethod
    def _look_at_keys(cls, data: object, info: ValidationInfo) -> object:
        """Notes the keys of this part of the file, so that a misspelt one can be named with its neighbour.

        A key without a value (`mqtt:` with all its lines commented out) is as if it were not there.
        """
        if info.context is not None:
            info.context[id(data)] = tuple(cls.model_fields)
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}
