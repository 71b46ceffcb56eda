"""Publishes what is wrong with pipelines: a dead camera, a refused subscription, a sample that takes for ever."""

from edge_agent.daemon.state import State
from edge_agent.daemon.status import Problems, Reports
from edge_agent.errors import EdgeAgentError

# Seconds between two looks; fewer while something is wrong, since its end has to be known soon.
CHECK_EVERY = 5.0
CHECK_TROUBLE_EVERY = 1.0


class PipelineHealth:
    """Compares the problems of the pipelines and of the connection with those that are published. Main thread only.

    Args:
        state: of the agent.
        reports: of the agent.
    """

    def __init__(self, state: State, reports: Reports) -> None:
        self._state = state
        self._reports = reports
        self._last = Problems("", {})
        self._on_error_topic: dict[str, str] = {}  # by pipeline

    def interval(self) -> float:
        """Seconds until the next `check`."""
        wrong = self._last.connection or any(self._last.pipelines.values())
        return CHECK_TROUBLE_EVERY if wrong else min(CHECK_EVERY, self._state.settings.stats_interval)

    def check(self) -> None:
        """Publishes what has changed; nothing before the agent is online."""
        if not self._state.online:
            return
        self._state.pipelines.check_overdue()
        before, self._last = self._last, self._reports.problems()
        if self._last != self._reports.announced:
            self._state.uplink.notify(self._reports.state_of_pipelines(self._last))
        for name, problem in self._last.pipelines.items():
            self._report(name, problem, lasts=before.pipelines.get(name) == problem)

    def _report(self, name: str, problem: str, *, lasts: bool) -> None:
        """Publishes on `error` what an MQTT source lacks, if it lasts. Other sources do it themselves."""
        pipeline = self._state.pipelines.running.get(name)
        if pipeline is None or pipeline.options.source.type != "mqtt":
            return
        if not problem:
            self._on_error_topic.pop(name, None)
        elif lasts and self._on_error_topic.get(name) != problem:
            self._on_error_topic[name] = problem
            self._state.pipelines.publishers[name].report(EdgeAgentError(problem), None)
