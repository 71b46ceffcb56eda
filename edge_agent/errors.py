"""The mistakes that somebody can fix.

Every message is one line that says where, what was expected, what was found and what to do. The command line prints it
as it is; anything that is not an `EdgeAgentError` is a defect of ours and keeps its traceback.
"""

from collections.abc import Sequence


class EdgeAgentError(Exception):
    """Base of all errors whose message is meant for the user."""


class ConfigError(EdgeAgentError):
    """The configuration or the command line is wrong.

    Attributes:
        problems: one line each, as `FILE:LINE: key: what is wrong`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ModelError(EdgeAgentError):
    """A model file, its labels or its settings cannot be used."""


class InputError(EdgeAgentError):
    """One input (an image, a window of readings) cannot be used; the next one may be fine."""


class SourceError(EdgeAgentError):
    """A source could not be opened, or has stopped delivering; it is tried again where it is a live one."""


class MissingExtraError(EdgeAgentError):
    """A package is needed that is an optional part of edge-agent.

    Args:
        what: what was asked for, as a phrase ("running .onnx models").
        extra: the name of the extra that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs a package that is not installed: pip install 'edge-agent[{extra}]'")


class UpdateError(EdgeAgentError):
    """A release can't be had or can't be trusted; what runs goes on."""


class ReleaseError(EdgeAgentError):
    """A repository of releases can't be made or changed as was asked."""
