"""What is set from afar and kept on the device: pipelines that are paused, and their thresholds."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from edge_agent.config.loader import Config
from edge_agent.daemon.command_request import Command
from edge_agent.daemon.state import State
from edge_agent.errors import EdgeAgentError
from edge_agent.postprocess import persisted
from edge_agent.system.terminal import printable

FILE = "controls.json"


class Controls:
    """Carries out the commands `pause` and `threshold`. Main thread only.

    Args:
        state: of the agent; `paused_pipelines` is kept up to date.
        changed: called when another threshold is to be used.
        announce: called when there is something to publish.
    """

    def __init__(self, state: State, changed: Callable[[], None], announce: Callable[[], None]) -> None:
        self._state = state
        self._changed = changed
        self._announce = announce
        self._file = state.loaded.state_folder() / FILE
        document = persisted.read(self._file)
        paused, thresholds = document.get("paused"), document.get("thresholds")
        state.paused_pipelines = {one for one in paused if isinstance(one, str)} if isinstance(paused, list) else set()
        self._thresholds = {
            name: float(value)
            for name, value in (thresholds if isinstance(thresholds, dict) else {}).items()
            if isinstance(value, int | float) and 0 <= value <= 1
        }

    def commands(self) -> dict[str, Command]:
        """The commands, by name."""
        return {
            "pause": Command(self._pause, {"pipeline": str, "paused": bool}),
            "threshold": Command(self._set_threshold, {"pipeline": str, "min_confidence": float}),
        }

    def applied(self, config: Config) -> Config:
        """The configuration with the thresholds that have been set."""
        pipelines = {
            name: pipeline.model_copy(update={"min_confidence": self._thresholds[name]})
            if name in self._thresholds
            else pipeline
            for name, pipeline in config.settings.pipelines.items()
        }
        return replace(config, settings=config.settings.model_copy(update={"pipelines": pipelines}))

    def _pause(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Pauses a pipeline, or with `"paused": false` resumes it.

        Raises:
            EdgeAgentError: there is no such pipeline.
        """
        name, state = self._pipeline(request), self._state
        if request.get("paused", True):
            state.paused_pipelines.add(name)
            state.stop_pipelines([name] if name in state.pipelines.running else [])
        elif name in state.paused_pipelines:
            state.paused_pipelines.discard(name)
            state.pipelines.start(state.prepare_pipelines([name], state.config, state.models, state.uplink))
        self._save()
        self._announce()
        return {"pipeline": name, "paused": name in state.paused_pipelines}

    def _set_threshold(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Sets the `min_confidence` of a pipeline; without a value, that of the configuration holds again.

        Raises:
            EdgeAgentError: there is no such pipeline, or the value is no fraction.
        """
        name, value = self._pipeline(request), request.get("min_confidence")
        if value is None:
            self._thresholds.pop(name, None)
        elif not (math.isfinite(value) and 0 <= value <= 1):
            raise EdgeAgentError(f"min_confidence: expected a number from 0 to 1, found {value:g}")
        else:
            self._thresholds[name] = value
        self._save()
        self._changed()
        self._announce()
        return {"pipeline": name, "min_confidence": self._state.settings.pipelines[name].min_confidence}

    def _pipeline(self, request: Mapping[str, Any]) -> str:
        name, known = str(request.get("pipeline")), self._state.settings.pipelines
        if name not in known:
            raise EdgeAgentError(f"pipeline: expected one of {', '.join(known)}, found {printable(name[:64])}")
        return name

    def _save(self) -> None:
        known = self._state.loaded.settings.pipelines
        document = {
            "paused": sorted(self._state.paused_pipelines & known.keys()),
            "thresholds": {name: value for name, value in self._thresholds.items() if name in known},
        }
        persisted.write(self._file, document, "agent", "what is paused")
