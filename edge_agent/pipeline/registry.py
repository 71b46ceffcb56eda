"""The running pipelines, and what is kept when one is restarted: counters, observers, ids of tracked objects."""

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from edge_agent import settings
from edge_agent.config.loader import Config
from edge_agent.counters import Counters
from edge_agent.errors import EdgeAgentError
from edge_agent.keeping.documents import head_of
from edge_agent.keeping.keep import Keeper
from edge_agent.keeping.record import Recorder, packet_ring
from edge_agent.language.questions import PromptTemplate
from edge_agent.models.language import LanguageModel
from edge_agent.models.loading import AnyModel
from edge_agent.models.model import Model
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.outbox import Outbox
from edge_agent.pipeline.pipeline import Pipeline
from edge_agent.pipeline.poison import PoisonInputs
from edge_agent.pipeline.text import TextPipeline
from edge_agent.publish.object_pictures import ObjectPictures
from edge_agent.publish.publisher import Device, Publisher, events_of
from edge_agent.publish.refused import RefusedReadings
from edge_agent.publish.snapshots import Snapshots
from edge_agent.publish.tool_calls import ToolCalls
from edge_agent.samples import Timing
from edge_agent.settings.own_topics import OwnTopics, own_topics
from edge_agent.sources import Context, Source, open_source
from edge_agent.sources.observer import ResultObserver
from edge_agent.sources.packet_ring import PacketRing

log = logging.getLogger(__name__)

Own = Snapshots | Keeper | Recorder | RefusedReadings | ObjectPictures
"""Observers that come and go with their pipeline."""

# Seconds; stopping takes at most the sum.
DRAIN_TIMEOUT = 2.0
DELIVER_TIMEOUT = 0.8
CLOSE_TIMEOUT = 0.4
# Seconds after which a pipeline that works on the same sample counts as hung.
HUNG_AFTER = 30.0


class Broker(NamedTuple):
    """What pipelines need for sending and receiving.

    Attributes:
        endpoint: of the broker.
        mqtt: its settings; the embedded broker's are filled in.
        outbox: takes results.
    """

    endpoint: Endpoint
    mqtt: settings.Mqtt
    outbox: Outbox


class Prepared(NamedTuple):
    """A pipeline that can be started, and what belongs to it.

    Attributes:
        observers: of its own; others may come and go while it runs.
        counters: its own and those of its events, by the names under which they are published.
    """

    pipeline: Pipeline | TextPipeline
    publisher: Publisher
    observers: Sequence[Own]
    counters: dict[str, Counters]


class Pipelines:
    """All pipelines of one agent.

    Args:
        factor: returns the share of its work that a live source may do now, above 0 to 1.
        observe: takes the name of a pipeline and the durations of one of its inputs.
        poison: the inputs at which the agent has ended.

    Attributes:
        running: the running pipelines, by name.
        publishers: by name of the pipeline; those of stopped pipelines are kept.
    """

    def __init__(
        self, factor: Callable[[], float], observe: Callable[[str, Timing], None], poison: PoisonInputs
    ) -> None:
        self.running: dict[str, Pipeline | TextPipeline] = {}
        self.publishers: dict[str, Publisher] = {}
        self._factor = factor
        self._poison = poison
        self._observe = observe
        self._counters: dict[str, Counters] = {}
        self._observers: dict[str, list[ResultObserver]] = {}
        self._own: dict[str, Sequence[Own]] = {}
        self._track_ids: dict[str, Iterator[int]] = {}

    def prepare(
        self,
        names: Iterable[str],
        config: Config,
        models: Mapping[str, AnyModel],
        device: Device,
        broker: Broker,
    ) -> list[Prepared]:
        """Makes pipelines of a configuration. Those that run are not affected; nothing is opened or connected.

        Returns:
            The pipelines, in the order in which they have to be started.
        """
        wanted = config.settings.pipelines
        # Pipelines that observe another one first, so that they miss none of its results.
        names = sorted(names, key=lambda name: wanted[name].source.type != "pipeline")
        return [self._prepare(name, config, models[wanted[name].model_name], device, broker) for name in names]

    def start(self, prepared: Iterable[Prepared]) -> None:
        """Starts pipelines that do not run yet."""
        for pipeline, publisher, observers, counters in prepared:
            name, options = pipeline.name, pipeline.options
            self._counters |= counters
            self.running[name], self.publishers[name] = pipeline, publisher
            self.observers_of(name).extend(observers)
            self._own[name] = observers
            for keeper in self.keepers(name):
                self._attach(keeper, options)
            for recorder in self.recorders(name):
                recorder.start()
            pipeline.start()
            log.debug("%s: started, source %s, model %s", name, options.source.type, options.model_name)

    def _prepare(self, name: str, config: Config, model: AnyModel, device: Device, broker: Broker) -> Prepared:
        options = config.settings.pipelines[name]
        learns = isinstance(options.model, settings.Statistics)
        has_events = learns or options.tracking is not None or options.smoothing is not None
        # Not registered before the start: a pipeline that is never started must not appear in `stats`.
        names = (name, events_of(name)) if has_events else (name,)
        counters = {name: self._counters.get(name) or Counters() for name in names}
        events = counters.get(events_of(name)) or Counters()
        calibrated = None if isinstance(model, LanguageModel) else model.min_confidence
        publisher = Publisher(
            device, name, options, model.task, counters[name], events, broker.outbox, self._observe, calibrated
        )
        observers: list[Own] = []
        packets: PacketRing | None = None
        if options.meter is not None:
            observers.append(RefusedReadings(name, config.state_folder() / "refused" / name))
        if options.object_pictures is not None:
            observers.append(ObjectPictures(options.object_pictures, publisher.show_object))
        if options.snapshot is not None:
            observers.append(Snapshots(options, options.snapshot, publisher.show))
        if options.keep is not None:
            store, base = config.kept_path("samples", name), config.path.parent
            observers.append(Keeper(name, options, options.keep, device, store, base))
        if options.record is not None and isinstance(model, Model):
            folder, head = config.kept_path("recordings", name), partial(self._head, name, config, model, device)
            packets = packet_ring(options.record, options.source)
            observers.append(Recorder(name, options.record, device, folder, head, counters[name].as_dict, packets))
        tools = ToolCalls(name, options.text.tools, publisher.send)
        source = self._source(name, config, model, device, broker, counters[name], tools, packets)
        if isinstance(model, LanguageModel):
            template = PromptTemplate(options.text, device.device_id)
            text = TextPipeline(
                name,
                options,
                source,
                model,
                counters[name],
                template,
                publisher,
                self._poison,
                tools,
                observers,
            )
            return Prepared(text, publisher, observers, counters)
        pipeline = Pipeline(
            name,
            options,
            source,
            model,
            counters[name],
            publisher,
            self._track_ids.setdefault(name, itertools.count(1)),
            self.observers_of(name),
            self._factor,
            config.state_folder(),
            self._poison,
        )
        return Prepared(pipeline, publisher, observers, counters)

    def _source(
        self,
        name: str,
        config: Config,
        model: AnyModel,
        device: Device,
        broker: Broker,
        counters: Counters,
        tools: ToolCalls,
        packets: PacketRing | None,
    ) -> Source:
        options, answers_text = config.settings.pipelines[name], isinstance(model, LanguageModel)
        context = Context(
            folder=config.path.parent,
            topic=device.topic(name),
            endpoint=broker.endpoint,
            mqtt=broker.mqtt,
            cancel=partial(self._cancel, name) if answers_text else None,
            prompt_template=PromptTemplate(options.text, device.device_id) if answers_text else None,
            own_topics=OwnTopics(own_topics(config.settings)),
            counters=counters,
            model_file=model.file.path.absolute() if isinstance(model, Model) else None,
            gate=options.gate,
            packets=packets,
            regions=options.regions,
            observers_of=self.observers_of,
            state_topics=tools.topics,
            hear=tools.hear,
        )
        return open_source(options.source, context)

    def _cancel(self, name: str, request_id: str) -> None:
        running = self.running.get(name)
        if isinstance(running, TextPipeline):
            running.cancel(request_id)

    def line_totals(self) -> dict[str, Mapping[str, Mapping[str, int]]]:
        """How many objects have crossed the lines of each pipeline that has some."""
        running = {name: pipeline for name, pipeline in self.running.items() if isinstance(pipeline, Pipeline)}
        return {name: pipeline.line_totals for name, pipeline in running.items() if pipeline.options.lines}

    def switch(self, names: Iterable[str], models: Mapping[str, AnyModel]) -> None:
        """Switches running pipelines to other models, from their next sample on."""
        for name in names:
            pipeline = self.running[name]
            model = models[pipeline.options.model_name]
            if isinstance(model, Model) and isinstance(pipeline, Pipeline):
                pipeline.switch(model)
                self.publishers[name].switch(model)

    def stop(self, names: list[str], outbox: Outbox) -> None:
        """Stops pipelines together, and closes them once their results are delivered or saved."""
        deadline = time.monotonic() + DRAIN_TIMEOUT
        stopped = [self.running.pop(name) for name in names]
        log.debug("stopping %s", ", ".join(names) or "no pipelines")
        for pipeline in stopped:
            pipeline.stop()
        for pipeline in stopped:
            pipeline.finish(deadline)
            self._detach(pipeline.name, deadline)
        outbox.drain(DELIVER_TIMEOUT)
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for pipeline in stopped:
            pipeline.close(deadline)

    def keepers(self, name: str) -> list[Keeper]:
        """What keeps samples of a running pipeline: one at most."""
        return [one for one in self._own.get(name, ()) if isinstance(one, Keeper)]

    def recorders(self, name: str) -> list[Recorder]:
        """What records a running pipeline: one at most."""
        return [one for one in self._own.get(name, ()) if isinstance(one, Recorder)]

    def _head(self, name: str, config: Config, model: Model, device: Device) -> dict[str, Any]:
        serving = self.running[name].model if name in self.running else model
        return head_of(name, config, serving if isinstance(serving, Model) else model, device)

    def recorded(self) -> dict[str, dict[str, Any]]:
        """What has been recorded of each running pipeline that records, as published in `stats`."""
        return {name: recorder.facts() for name in self.running for recorder in self.recorders(name)}

    def acted(self) -> dict[str, dict[str, int]]:
        """How often each running pipeline that has actions has taken them, as published in `stats`."""
        return {
            name: self.publishers[name].actions.facts() for name, one in self.running.items() if one.options.actions
        }

    def record_now(self, name: str) -> None:
        """Has a running pipeline record from now on, with what came before.

        Raises:
            EdgeAgentError: it does not record, or not on command.
        """
        recorders = self.recorders(name)
        if not recorders:
            known = ", ".join(other for other in self.running if self.recorders(other)) or "none"
            raise EdgeAgentError(f"pipeline: expected one that records ({known})")
        for recorder in recorders:
            recorder.record_now()

    def kept(self) -> dict[str, dict[str, Any]]:
        """What has been kept of each running pipeline that keeps samples, as published in `stats`."""
        return {name: keeper.facts() for name in self.running for keeper in self.keepers(name)}

    def keep_latest(self, name: str, count: int) -> int:
        """Keeps the latest samples of a running pipeline; returns how many.

        Raises:
            EdgeAgentError: it keeps no samples.
        """
        keepers = self.keepers(name)
        if not keepers:
            known = ", ".join(other for other in self.running if self.keepers(other)) or "none"
            raise EdgeAgentError(f"pipeline: expected one that keeps samples ({known})")
        return sum(keeper.keep_latest(count) for keeper in keepers)

    def _attach(self, keeper: Keeper, options: settings.Pipeline) -> None:
        keeper.start()
        if keeper.companion is not None and options.keep is not None and options.keep.when.compare_with is not None:
            self.observers_of(options.keep.when.compare_with).append(keeper.companion)

    def _detach(self, name: str, deadline: float) -> None:
        """Removes a stopped pipeline's own observers, and has them write what they hold."""
        companions = [keeper.companion for keeper in self.keepers(name)]
        for observers in self._observers.values():
            observers[:] = [one for one in observers if one not in self._own[name] and one not in companions]
        of_this = self.observers_of(name)  # the status page's pictures show the options of the stopped pipeline
        of_this[:] = [one for one in of_this if not isinstance(one, Snapshots)]
        writing: list[Keeper | Recorder] = [*self.keepers(name), *self.recorders(name)]
        for one in writing:
            one.close(max(CLOSE_TIMEOUT, deadline - time.monotonic()))
        del self._own[name]
        self.publishers[name].actions.close()

    def hung(self) -> list[str]:
        """Pipelines that have been working on the same sample for more than `HUNG_AFTER`."""
        return [name for name, pipeline in dict(self.running).items() if pipeline.busy_for() > HUNG_AFTER]

    def problems(self) -> dict[str, str]:
        """Why each running pipeline gives no results; empty where nothing is known to be wrong. From any thread."""
        running, hung = dict(self.running), self.hung()
        found = {name: pipeline.diagnosis for name, pipeline in running.items()}
        found |= dict.fromkeys(hung, f"one sample has taken more than {HUNG_AFTER:g} s")
        return {name: _problem(name, running, found) for name in running}

    def check_overdue(self) -> None:
        """See `Pipeline.check_overdue`."""
        for pipeline in list(self.running.values()):
            if isinstance(pipeline, Pipeline):
                pipeline.check_overdue()

    def note_hung(self) -> None:
        """Records the inputs at which pipelines hang, before the process is ended for that."""
        for pipeline in list(self.running.values()):
            pipeline.note_hung(HUNG_AFTER)

    @property
    def ended(self) -> bool:
        """Whether every source has ended and all its samples have been processed."""
        return all(pipeline.ended for pipeline in self.running.values())

    def counters_of(self, name: str) -> Counters:
        """The counters of a pipeline, or of its events, whether it runs or not."""
        return self._counters.get(name) or self._counters.setdefault(name, Counters())

    def counters(self) -> dict[str, dict[str, Any]]:
        """All counters, as published in `stats`; from any thread."""
        return {name: counters.as_dict() for name, counters in dict(self._counters).items()}

    def queued(self) -> int:
        """The number of results that wait for the broker."""
        return sum(counts["queued"] for counts in self.counters().values())

    def observers_of(self, name: str) -> list[ResultObserver]:
        """The observers of a pipeline's results; the list may be changed, from any thread."""
        return self._observers.setdefault(name, [])


def _problem(name: str, running: Mapping[str, Pipeline | TextPipeline], found: Mapping[str, str]) -> str:
    """The problem of a pipeline; if it has none of its own, that of the pipeline that it observes."""
    way: list[str] = []
    while not found[name]:
        source = running[name].options.source
        if not isinstance(source, settings.PipelineSource) or source.name not in running:
            return ""
        name = source.name
        way.append(f"pipeline {name}: ")
    return (way[-1] if way else "") + found[name]
