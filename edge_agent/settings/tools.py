"""The settings of tools: what a language model may have done, as messages to devices."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from edge_agent.settings.base import Frozen, Seconds, accepted
from edge_agent.settings.topics import as_level, problem_of_name

FUNCTION = r"^[A-Za-z0-9_-]{1,64}$(?!\n)"
_PLACEHOLDER = re.compile(r"\{(\w{1,64})\}")
# Messages that one tool can lead to, in all combinations of the values in its topic.
MAX_TOPICS = 1000


class Range(Frozen):
    """Whole numbers that a parameter may have."""

    minimum: int = Field(ge=-(2**31), lt=2**31)
    """The least one."""
    maximum: int = Field(ge=-(2**31), lt=2**31)
    """The largest one."""

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.minimum > self.maximum:
            raise ValueError(f"minimum must be at most maximum (got {self.minimum} and {self.maximum})")
        return self


def _words_of_switches(value: object) -> object:
    # YAML reads `on` and `off` as true and false.
    switches = {True: "on", False: "off"}
    return [switches[one] if isinstance(one, bool) else one for one in value] if isinstance(value, list) else value


ValueText = Annotated[str, Field(min_length=1, max_length=64)]
Values = Annotated[tuple[ValueText, ...], Field(min_length=1, max_length=100), BeforeValidator(_words_of_switches)]


class ToolMessage(Frozen):
    """The message of a call. `{parameter}` is replaced by the value of a parameter."""

    topic: Annotated[str, Field(min_length=1, max_length=1024), accepted(problem_of_name)]
    """Topic of the device. Only parameters with a list of values may stand in it: no other topics are possible than
    those with these values."""
    payload: str = Field("", max_length=10_000)
    """What is sent."""
    retain: bool = False
    """The broker keeps the message for later subscribers."""
    confirm: Annotated[str, Field(min_length=1, max_length=1024), accepted(problem_of_name)] | None = None
    """Topic on which the device says its new state: a call is confirmed when the payload comes back there."""
    timeout: Seconds = Field(3.0, gt=0, le=10)
    """How long a confirmation is waited for."""


class Tool(Frozen):
    """A function that the model may call, and the message that this leads to."""

    description: str = Field("", max_length=1000)
    """What it does, for the model."""
    parameters: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,63}$(?!\n)")], Values | Range] = Field(
        {}, max_length=16
    )
    """For each parameter the values that it may have: a list of texts, or the range of a whole number. A call must have
    all of them, and no others."""
    mqtt: ToolMessage
    """The message."""

    @model_validator(mode="after")
    def _listed(self) -> "Tool":
        message, count = self.mqtt, 1
        for name in {*_PLACEHOLDER.findall(message.topic), *_PLACEHOLDER.findall(message.confirm or "")}:
            values = self.parameters.get(name)
            if not isinstance(values, tuple):
                raise ValueError(  # noqa: TRY004 - a setting is wrong
                    f"mqtt: {{{name}}} in a topic must be a parameter with a list of values"
                )
            count *= len(values)
        for name in _PLACEHOLDER.findall(message.payload):
            if name not in self.parameters:
                raise ValueError(f"mqtt.payload: there is no parameter {name!r}")
        if count > MAX_TOPICS:
            raise ValueError(f"mqtt.topic: {count} topics are possible: at most {MAX_TOPICS} may be")
        return self

    def function(self, name: str) -> dict[str, Any]:
        """What the model gets: name, description, and the parameters as a JSON Schema."""
        properties: dict[str, Any] = {
            key: {"enum": list(values)}
            if isinstance(values, tuple)
            else {"type": "integer", "minimum": values.minimum, "maximum": values.maximum}
            for key, values in self.parameters.items()
        }
        schema = {
            "type": "object",
            "additionalProperties": False,
            "required": list(properties),
            "properties": properties,
        }
        return {"name": name, "description": self.description, "parameters": schema}

    def problem_of(self, arguments: dict[str, Any]) -> str:
        """Why a call with these arguments is not one that is listed; empty: it is."""
        if missing := self.parameters.keys() - arguments.keys():
            return f"{', '.join(sorted(missing))}: missing"
        if more := arguments.keys() - self.parameters.keys():
            return f"{', '.join(sorted(more))}: not a parameter"
        for name, values in self.parameters.items():
            value = arguments[name]
            if isinstance(values, tuple):
                allowed = value in values
            else:
                whole = isinstance(value, int) and not isinstance(value, bool)
                allowed = whole and values.minimum <= value <= values.maximum
            if not allowed:
                return f"{name}: not one of the values that it may have"
        return ""


def topics_of(tool: Tool, template: str | None) -> list[str]:
    """The topics that a template of a tool can become."""
    topics = [template] if template is not None else []
    for name, values in tool.parameters.items():
        if isinstance(values, tuple) and f"{{{name}}}" in (template or ""):
            topics = [topic.replace(f"{{{name}}}", as_level(value)) for topic in topics for value in values]
    return topics


def filled_in(template: str, arguments: dict[str, Any], *, topic: bool) -> str:
    """A template with the arguments of a call; in a topic, what can't stand in one of its levels becomes `_`."""
    texts = {name: as_level(str(value)) if topic else str(value) for name, value in arguments.items()}
    return _PLACEHOLDER.sub(lambda found: texts.get(found[1], found[0]), template)
