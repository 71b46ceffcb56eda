"""What an agent reports: `status`, `info`, `stats`, `P/accelerator`, `P/update`, the page and the metrics, its log."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from edge_agent import __version__, settings
from edge_agent.config.loader import Config
from edge_agent.daemon import inventory
from edge_agent.daemon.state import State
from edge_agent.daemon.stats_pace import StatsPace
from edge_agent.models.language import LanguageModel
from edge_agent.models.model import Model
from edge_agent.mqtt.delivery import Notice
from edge_agent.pipeline.registry import Pipelines
from edge_agent.pipeline.tasks import TASKS_WITH_CONFIDENCE
from edge_agent.pipeline.text import TextPipeline
from edge_agent.postprocess.filters import limits
from edge_agent.samples import Result, timestamp
from edge_agent.sources.observer import ResultObserver
from edge_agent.system.units import counted

PAUSED = "paused by command"


class Problems(NamedTuple):
    """What is wrong, in words; empty where nothing is known to be.

    Attributes:
        connection: with the session at the broker.
        pipelines: why a pipeline gives no results, for each of the configuration.
    """

    connection: str
    pipelines: Mapping[str, str]


class Reports:
    """The documents that an agent publishes, and its state for metrics and the status page (`AgentStatus`).

    Args:
        state: of the agent.

    Attributes:
        announced: the problems that were published last.
        updates: returns the state of updates; None where there are none.
        reload: see `AgentStatus`.
    """

    def __init__(self, state: State) -> None:
        self.announced = Problems("", {})
        self.updates: Callable[[], Mapping[str, Any] | None] = lambda: None
        self.reload: Callable[[], list[str]] = list
        self._state = state
        self._status_topics: set[str] = set()
        self._performance = _Performance(state.pipelines)
        self._pace = StatsPace()

    def announcements(self, update: Mapping[str, Any] | None) -> list[Notice]:
        """What is published, retained, after each connect: the agent is online, what it runs, and on what.

        Args:
            update: the state of updates; None where there are none.
        """
        device = self._state.device
        self._pace.reset()
        return [
            Notice(device.topic("status"), "online", retain=True),
            *self.state_of_pipelines(self.problems()),
            Notice(device.topic("accelerator"), json.dumps(self._accelerators()), retain=True),
            *([] if update is None else [self.update(update)]),
        ]

    def problems(self) -> Problems:
        """What is known to be wrong now."""
        state, running = self._state, self._state.pipelines.problems()
        otherwise = "paused: the battery is low" if state.paused else ""
        pipelines = {name: running.get(name, otherwise) for name in state.settings.pipelines}
        pipelines |= dict.fromkeys(state.paused_pipelines & pipelines.keys(), otherwise or PAUSED)
        return Problems(state.uplink.connection.diagnosis, pipelines)

    def state_of_pipelines(self, problems: Problems) -> list[Notice]:
        """`P/{pipeline}/status` of each, and `P/info`, retained; what a reload has removed leaves nothing there."""
        device, before = self._state.device, self._status_topics
        states = {device.topic(name, "status"): not problem for name, problem in problems.pipelines.items()}
        self.announced, self._status_topics = problems, set(states)
        return [
            *(Notice(topic, "", retain=True) for topic in before - states.keys()),
            *(Notice(topic, "online" if works else "offline", retain=True) for topic, works in states.items()),
            Notice(device.topic("info"), json.dumps(self._info(problems)), retain=True),
        ]

    def update(self, update: Mapping[str, Any]) -> Notice:
        """The state of updates, retained."""
        return Notice(self._state.device.topic("update"), json.dumps(self._device() | dict(update)), retain=True)

    def stats_are_due(self) -> bool:
        """Whether the counters are to be published now; called once an interval."""
        state, totals = self._state, self._totals()
        thermal = state.thermal.as_dict() | {"temperature_c": None}
        models = {name: model.accelerator_facts() for name, model in state.models.items()}
        accelerators = {name: (facts["in_use"], facts["moves"]) for name, facts in models.items()}
        return self._pace.is_due(state.pipelines.counters(), (thermal, accelerators, totals, state.paused))

    def stats(self) -> Notice:
        """The counters, and how fast each pipeline has been since the last call; retained."""
        state = self._state
        models = {name: model.accelerator_facts() for name, model in state.models.items()}
        document = {
            **self._device(),
            "uptime_s": round(time.monotonic() - state.started, 1),
            "thermal": state.thermal.as_dict(),
            "pipelines": state.pipelines.counters(),
            "performance": self._performance.since_last_call(),
            "models": {
                name: {
                    "accelerator": facts["in_use"],
                    "moves": facts["moves"],
                    **{key: facts[key] for key in ("temperature_c",) if key in facts},
                }
                for name, facts in models.items()
            },
            **self._totals(),
        }
        if facts := state.battery.facts:
            document["battery"] = {**facts, "paused": state.paused}
        return Notice(state.device.topic("stats"), json.dumps(document), retain=True)

    def _totals(self) -> dict[str, Any]:
        """What is counted besides inputs and results, where there is any."""
        pipelines = self._state.pipelines
        totals = {
            "lines": pipelines.line_totals(),
            "keep": pipelines.kept(),
            "record": pipelines.recorded(),
            "actions": pipelines.acted(),
        }
        return {name: counts for name, counts in totals.items() if counts}

    def status(self) -> dict[str, Any]:
        """The state of everything, for metrics and the status page; from any thread."""
        state = self._state
        return {
            **self._device(),
            "version": __version__,
            "uptime_s": round(time.monotonic() - state.started, 1),
            "online": state.online,
            "paused": state.paused,
            "hung": state.pipelines.hung(),
            "broker": state.uplink.facts(),
            "outbox": {**state.uplink.outbox.facts(), "max_size": state.settings.outbox.max_size},
            "thermal": state.thermal.as_dict(),
            "battery": state.battery.facts,
            "pipelines": _pipeline_facts(state.pipelines, self.problems().pipelines),
            "counters": state.pipelines.counters(),
            "models": {name: model.facts() for name, model in self._state.models.items()},
            "update": self.updates(),
        }

    def latest(self, pipeline: str) -> Result | None:
        """The last result of a pipeline that was published."""
        publisher = self._state.pipelines.publishers.get(pipeline)
        return None if publisher is None else publisher.record.latest

    def chats(self) -> dict[str, TextPipeline]:
        """The running pipelines whose language model can be asked over HTTP, by name."""
        running = dict(self._state.pipelines.running)
        return {name: one for name, one in running.items() if isinstance(one, TextPipeline) and one.options.text.openai}

    def conversation_of(self, pipeline: str, after: int, *, private: bool) -> dict[str, Any] | None:
        """See `Conversation.look`; None: there is no such pipeline."""
        publisher = self._state.pipelines.publishers.get(pipeline)
        return None if publisher is None else publisher.record.conversation.look(after, private=private)

    def options_of(self, pipeline: str) -> settings.Pipeline:
        """The settings of a pipeline.

        Raises:
            KeyError: there is none of that name.
        """
        return self._state.settings.pipelines[pipeline]

    def config(self) -> Config:
        """The configuration in use."""
        return self._state.config

    def labels_of(self, pipeline: str) -> Sequence[str]:
        """The labels that a pipeline's model can give; empty if it has none."""
        options = self._state.settings.pipelines.get(pipeline)
        model = None if options is None else self._state.models.get(options.model_name)
        return model.labels if isinstance(model, Model) else ()

    def observers_of(self, pipeline: str) -> list[ResultObserver]:
        """Who observes a pipeline; the list may be changed, from any thread."""
        return self._state.pipelines.observers_of(pipeline)

    def summary(self) -> str:
        """The state of everything in one line for a person, as `systemctl status` shows it."""
        pipelines, broker = self._state.pipelines, self._state.uplink.facts()
        counts = {name: pipelines.counters_of(name).as_dict() for name in pipelines.running}
        results = (
            ", ".join(f"{name} {counted(count['produced'], 'result')}" for name, count in counts.items())
            or "no pipelines"
        )
        reached = broker["address"] if broker["connected"] else f"no broker ({broker['problem']})"
        problems = "".join(f"; {name}: {problem}" for name, problem in self.problems().pipelines.items() if problem)
        return f"{results}; {pipelines.queued()} waiting; {reached}{problems}"

    def _info(self, problems: Problems) -> dict[str, Any]:
        device, options = self._state.device, self._state.settings
        return {
            **self._device(),
            "version": __version__,
            **inventory.facts(self._state.loaded),
            "problem": problems.connection,
            "pipelines": {
                name: {
                    "source": pipeline.source.type,
                    **_watch_facts(pipeline.source),
                    "model": pipeline.model_name,
                    "topic": device.topic(name, "result"),
                    "problem": problems.pipelines.get(name, ""),
                    "paused": name in self._state.paused_pipelines,
                    "min_confidence": self._min_confidence(pipeline),
                    **({} if pipeline.keep is None else {"keep": True}),
                    **({} if pipeline.record is None else {"record": True}),
                }
                for name, pipeline in options.pipelines.items()
            },
            "models": {name: model.facts() for name, model in self._state.models.items()},
        }

    def _min_confidence(self, pipeline: settings.Pipeline) -> float | None:
        """The threshold in use; None for a task without confidences."""
        model = self._state.models.get(pipeline.model_name)
        if model is None or isinstance(model, LanguageModel) or model.task not in TASKS_WITH_CONFIDENCE:
            return None
        return limits(pipeline, model.task, model.min_confidence).min_confidence

    def _accelerators(self) -> dict[str, Any]:
        """What each model runs on."""
        return {
            **self._device(),
            "at": timestamp(time.time()),
            "models": {name: model.accelerator_facts() for name, model in self._state.models.items()},
        }

    def _device(self) -> dict[str, str]:
        return {"device_id": self._state.settings.device_id, "boot_id": self._state.boot_id}


def _watch_facts(source: settings.Source) -> dict[str, Any]:
    """Which frames of a stream are decoded, as configured; the addresses of streams are not published."""
    if not isinstance(source, settings.VideoSource) or not source.live:
        return {}
    return {"watch": "second stream" if isinstance(source.watch, settings.SecondStream) else source.watch}


def _pipeline_facts(pipelines: Pipelines, problems: Mapping[str, str]) -> dict[str, Any]:
    """What each running pipeline is."""
    return {
        name: {
            "source": pipeline.options.source.type,
            "model": pipeline.options.model_name,
            "task": pipeline.model.task,
            "pictures": isinstance(pipeline.model, Model) and pipeline.model.takes_pictures,
            "ended": pipeline.ended,
            "problem": problems.get(name, ""),
        }
        for name, pipeline in dict(pipelines.running).items()
    }


class _Performance:
    """How fast each pipeline is."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        self._inferred: dict[str, int] = {}
        self._called = time.monotonic()

    def since_last_call(self) -> dict[str, dict[str, float | None]]:
        """By name: inferences a second since the last call, and milliseconds of the latest one."""
        before, then = self._inferred, self._called
        self._inferred = {name: counts["inferred"] for name, counts in self._pipelines.counters().items()}
        self._called = time.monotonic()
        seconds = max(self._called - then, 0.001)
        return {
            name: {
                "inferred_per_s": round((self._inferred[name] - before.get(name, 0)) / seconds, 2),
                "inference_ms": self._pipelines.publishers[name].record.inference_ms,
            }
            for name in self._pipelines.running
        }


def in_words(counts: Mapping[str, Any]) -> str:
    """The counters of a pipeline in one line."""
    dropped = ", ".join(f"{count} {reason}" for reason, count in counts["dropped"].items() if count) or "none"
    discarded = ", ".join(f"{count} {reason}" for reason, count in counts["discarded"].items() if count) or "none"
    return (
        f"captured {counts['captured']}: {counts['inferred']} inferred, {counts['in_progress']} left, "
        f"dropped: {dropped}; "
        f"produced {counts['produced']}: {counts['acknowledged']} acknowledged, {counts['queued']} waiting, "
        f"discarded: {discarded}"
    )
