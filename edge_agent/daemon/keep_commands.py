"""The remote commands `keep` and `record`: inputs of a pipeline are kept on this device, and not published."""

from collections.abc import Mapping
from typing import Any

from edge_agent.daemon.command_request import Command
from edge_agent.errors import EdgeAgentError
from edge_agent.pipeline.registry import Pipelines
from edge_agent.settings import Settings

MAX_LATEST = 100


def commands_of(pipelines: Pipelines, options: Settings) -> dict[str, Command]:
    """The commands, by name; none where no pipeline keeps or records anything.

    Args:
        pipelines: of the agent.
        options: of the agent.
    """

    def keep(request: Mapping[str, Any]) -> Mapping[str, Any]:
        count = request.get("last", 1)
        if not 1 <= count <= MAX_LATEST:
            raise EdgeAgentError(f"last: expected a number from 1 to {MAX_LATEST}, found {count}")
        return {"kept": pipelines.keep_latest(str(request.get("pipeline")), count)}

    def record(request: Mapping[str, Any]) -> Mapping[str, Any]:
        pipelines.record_now(str(request.get("pipeline")))
        return {}

    commands = {}
    if any(pipeline.keep for pipeline in options.pipelines.values()):
        commands["keep"] = Command(keep, {"pipeline": str, "last": int})
    if any(pipeline.record for pipeline in options.pipelines.values()):
        commands["record"] = Command(record, {"pipeline": str})
    return commands
