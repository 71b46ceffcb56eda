"""Base class and common types of the settings."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from edge_agent.settings.topics import problem_of_text
from edge_agent.system.units import parse_duration, parse_size

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
Fraction = Annotated[float, Field(ge=0, le=1)]
# In a file, every value is a text.
Qos = Annotated[Literal[0, 1], BeforeValidator(lambda value: int(value) if value in ("0", "1") else value)]

# Names in topics must not contain separators or wildcards. Python's `$` alone would also match before a final newline.
TOPIC_LEVEL = r"^[^/+#$\x00-\x1f\x7f][^/+#\x00-\x1f\x7f]*$(?!\n)"
TOPIC_PREFIX = r"^[^/+#$\s\x00-\x1f\x7f]([^+#\s\x00-\x1f\x7f]*[^/+#\s\x00-\x1f\x7f])?$(?!\n)"


def accepted(problem_of: Callable[[str], str]) -> AfterValidator:
    """A validator of texts.

    Args:
        problem_of: returns why a text is not accepted, or an empty string.
    """

    def check(text: str) -> str:
        if problem := problem_of(text):
            raise ValueError(problem)
        return text

    return AfterValidator(check)


TopicLevel = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=TOPIC_LEVEL), accepted(problem_of_text)
]
TopicPrefix = Annotated[str, StringConstraints(max_length=256, pattern=TOPIC_PREFIX), accepted(problem_of_text)]


class Frozen(BaseModel):
    """Base of all settings: immutable, no unknown keys, documented fields."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        regex_engine="python-re",
        protected_namespaces=(),
        defer_build=True,  # the validators of a section are made with those of what it is part of, once
    )

    @model_validator(mode="before")
    @classmethod
    def _look_at_keys(cls, data: object, info: ValidationInfo) -> object:
        """Records the keys of this part of the file, so that a suggestion can be made for a misspelt one.

        A key without a value (`mqtt:` with all its lines commented out) counts as absent.
        """
        known = tuple(field.alias or name for name, field in cls.model_fields.items())
        if info.context is not None:
            info.context[id(data)] = known
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in known}


Channels = float | tuple[float, ...]


class Normalize(Frozen):
    """Input values of the model: (value - mean) / std. A pixel is 0..255."""

    mean: Channels = 0.0
    """One number, or one per channel in the model's order, in units of the pixels or readings."""
    std: Channels = 1.0
    """One number, or one per channel, in the same units."""

    @field_validator("std")
    @classmethod
    def _not_zero(cls, value: Channels) -> Channels:
        if any(v <= 0 for v in (value if isinstance(value, tuple) else (value,))):
            raise ValueError("must be > 0")
        return value
