"""The end of the road: predictions become a result document, and the document goes to the outbox."""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.errors import EdgeAgentError, SourceError
from edge_agent.language.generation import Answer
from edge_agent.models.language import LanguageModel
from edge_agent.models.loading import AnyModel
from edge_agent.models.model import Model
from edge_agent.models.stages import Happening, WorkItem
from edge_agent.mqtt.delivery import Delivery
from edge_agent.mqtt.outbox import Outbox
from edge_agent.postprocess.filters import limits
from edge_agent.postprocess.meter import TASK as METER
from edge_agent.publish.actions import Actions
from edge_agent.publish.answers import content_of_answer
from edge_agent.publish.conversation import Conversation
from edge_agent.publish.object_pictures import slot_of
from edge_agent.publish.policy import PublishPolicy, topic_of
from edge_agent.samples import Prediction, Result, Sample, Timing, content_of, timestamp
from edge_agent.system.clock import Clock
from edge_agent.system.terminal import printable
from edge_agent.system.units import counted

log = logging.getLogger(__name__)

Observe = Callable[[str, Timing], None]
"""Takes a pipeline's name, and where the time of one of its inputs went."""


@dataclass(frozen=True, slots=True)
class Device:
    """What all results of one run of the agent have in common.

    Attributes:
        prefix: of all topics of this device, `{topic_prefix}/{device_id}`.
        boot_id: new at every start of the agent.
    """

    device_id: str
    prefix: str
    boot_id: str
    clock: Clock

    def topic(self, *levels: str) -> str:
        """A topic of this device."""
        return "/".join((self.prefix, *levels))


@dataclass(slots=True)
class Record:
    """What a pipeline has come to so far, whichever versions of its model have served.

    Attributes:
        failed: whether a finite source could not be read.
        inference_ms: how long the latest inference took; None before the first.
        latest: the last result that was published.
        conversation: the latest questions and answers that were published.
    """

    failed: bool = False
    inference_ms: float | None = None
    latest: Result | None = None
    conversation: Conversation = field(default_factory=Conversation)


class Publisher:
    """Publishes the results, the events, the snapshots and the errors of one pipeline.

    Events have counters, and so a `seq`, of their own.

    Args:
        task: of the pipeline's model.
        calibrated: see `Model.min_confidence`.
        observe: called for every input that has been through the model, published or not.

    Attributes:
        record: what the pipeline has come to so far.
        actions: what is done besides, for published results and for events.
    """

    def __init__(
        self,
        device: Device,
        name: str,
        options: settings.Pipeline,
        task: str,
        counters: Counters,
        event_counters: Counters,
        outbox: Outbox,
        observe: Observe = lambda _pipeline, _timing: None,
        calibrated: float | None = None,
    ) -> None:
        self.record = Record()
        self._device = device
        self._name = name
        self._pipeline, self._options = options, options.publish
        self._shows_objects = options.object_pictures is not None
        self._counters = counters
        self._event_counters = event_counters
        self._outbox = outbox
        self._observe = observe
        self._task = METER if options.meter is not None else ""  # else the model's
        send, report = self.send, self.report
        self.actions = Actions(name, device.device_id, options.actions, send, lambda error: report(error, None))
        least = limits(options, task, calibrated).min_confidence
        self._policy = PublishPolicy(options.publish, least, self._task or task)

    def switch(self, model: Model) -> None:
        """Has the confidence that another version of the model is calibrated to count from now on."""
        self._policy.min_confidence = limits(self._pipeline, model.task, model.min_confidence).min_confidence

    def publish(self, item: WorkItem, predictions: Sequence[Prediction]) -> int | None:
        """Publishes a result, or withholds it as the pipeline's options want; returns its `seq`, or None."""
        sample, timing = item.sample, item.timing
        self.record.inference_ms = round(timing.inference, 2)
        self._observe(self._name, timing)
        if beyond := item.prepared.facts.get("out_of_range"):
            self._note_out_of_range(sample, beyond)
        allowed = self._policy.allows(predictions, sample.captured)
        if not (allowed or item.crossed or sample.reply_to is not None):
            self._counters.withhold()
            sample.settlement.done()
            return None
        content = content_of(predictions, self._task or item.model.task)
        if item.lines is not None:
            content["lines"] = item.lines
        seq = self._put(sample, item.model, content, item.prepared.facts, timing, predictions)
        self.actions.on_result(predictions)
        return seq

    def _note_out_of_range(self, sample: Sample, count: int) -> None:
        if self._counters.note_out_of_range():
            log.warning(
                "%s: %s: %s beyond what the quantized model can take, and cut off there; `out_of_range` counts such"
                " inputs: are the readings in the unit that the model was trained with?",
                self._name,
                _where(sample),
                counted(count, "value"),
                extra={"pipeline": self._name},
            )

    def answer(
        self,
        sample: Sample,
        model: LanguageModel,
        answer: Answer,
        facts: Mapping[str, Any],
        timing: Timing,
        calls: Mapping[str, Any],
    ) -> int | None:
        """Publishes what a language model has answered, or hands it to the request's recipient; see `ResultSink`."""
        self.record.inference_ms = round(timing.inference, 2)
        self._observe(self._name, timing)
        content = {**content_of_answer(answer), **calls}
        if sample.recipient is not None:
            self._counters.withhold()
            sample.recipient.answer(content)
            sample.settlement.done()
            return None
        self.record.conversation.answer(sample, str(facts["id"]), content)
        return self._put(sample, model, content, facts, timing)

    def is_watched(self, sample: Sample) -> bool:
        """See `ResultSink`: what is asked over HTTP is for those who ask."""
        return sample.recipient is None and self.record.conversation.is_watched

    def piece(self, sample: Sample, request_id: str, index: int | None, text: str) -> None:
        """Publishes a piece of an answer, to whom it is for; the whole answer follows, so it is of no use later."""
        if sample.recipient is not None:
            sample.recipient.piece(text)
            return
        self.record.conversation.piece(sample, request_id, text)
        if index is None:
            return
        document = json.dumps({"id": request_id, "index": index, "text": text})
        if sample.reply_to is None:
            topic = self._device.topic(self._name, "result", "stream")
            self._outbox.notify(topic, document, senders=sample.senders)
        else:
            reply_to = sample.reply_to
            data = reply_to.correlation_data
            self._outbox.notify(reply_to.topic, document, correlation_data=data, senders=sample.senders)

    def _put(
        self,
        sample: Sample,
        model: AnyModel,
        content: Mapping[str, Any],
        facts: Mapping[str, Any],
        timing: Timing,
        predictions: Sequence[Prediction] = (),
    ) -> int:
        device, options = self._device, self._options
        extra_topic = options.topic and topic_of(options.topic, device.device_id, self._name, predictions)
        clock_synced = device.clock.synced()
        # From here on nothing may fail: what is produced has to reach the outbox.
        seq = self._counters.produce()
        result = Result(
            device_id=device.device_id,
            pipeline=self._name,
            boot_id=device.boot_id,
            seq=seq,
            captured_at=sample.captured_at,
            clock_synced=clock_synced,
            model=model.identity,
            task=self._task or model.task,
            content=content,
            input=facts,
            timing=timing,
        )
        self.record.latest = result
        self._outbox.put(
            Delivery(
                self._name,
                device.topic(self._name, "result"),
                result.as_dict(),
                qos=options.qos,
                retain=options.retain,
                extra_topic=extra_topic,
                reply_to=sample.reply_to,
                deadline=options.expire_after and sample.captured + options.expire_after,
                settlement=sample.settlement,
                senders=sample.senders,
            )
        )
        return seq

    def events(self, sample: Sample, events: Sequence[Happening]) -> None:
        """Publishes what has happened, to tracked objects or in sound; it waits in the outbox like a result."""
        device = self._device
        for event in events:
            document = {
                "device_id": device.device_id,
                "pipeline": self._name,
                "boot_id": device.boot_id,
                "seq": self._event_counters.produce(),
                "at": timestamp(sample.captured_at - (sample.captured - event.time)),
                "clock_synced": device.clock.synced(),
                **event.as_dict(),
            }
            if self._shows_objects and "track_id" in document:
                document["picture"] = self._picture_topic(document["track_id"])
            topic = device.topic(self._name, "event")
            self._outbox.put(Delivery(events_of(self._name), topic, document, senders=sample.senders))
            self.actions.on_event(document)

    def send(self, topic: str, payload: str, retain: bool) -> None:
        """Publishes a message to a device; it is of no use later."""
        self._outbox.notify(topic, payload, retain=retain)

    def show_object(self, track_id: int, jpeg: bytes) -> None:
        """Publishes the best picture of an object so far, retained: for itself, and as that of the latest object."""
        for topic in (self._picture_topic(track_id), self._device.topic(self._name, "object")):
            self._outbox.notify(topic, jpeg, retain=True)

    def _picture_topic(self, track_id: int) -> str:
        return self._device.topic(self._name, "object", str(slot_of(track_id)))

    def show(self, jpeg: bytes) -> None:
        """Publishes a snapshot; it is of no use later."""
        self._outbox.notify(self._device.topic(self._name, "snapshot"), jpeg)

    def report(self, error: EdgeAgentError, sample: Sample | None) -> None:
        """Publishes why an input, or without a sample the source, could not be used; also to who asked for a result."""
        if sample is not None:
            log.warning("%s: %s: %s", self._name, _where(sample), error, extra={"pipeline": self._name})
        elif isinstance(error, SourceError):
            self.record.failed = True
        if sample is not None and sample.recipient is not None:
            sample.recipient.error(error)
            return
        if sample is not None:
            self.record.conversation.fail(sample, str(error))
        document = {
            "device_id": self._device.device_id,
            "pipeline": self._name,
            "boot_id": self._device.boot_id,
            "at": timestamp(time.time()),
            "error": str(error),
            "input": dict(sample.origin) if sample is not None else None,
        }
        senders = () if sample is None else sample.senders
        self._outbox.notify(self._device.topic(self._name, "error"), json.dumps(document), senders=senders)
        if sample is not None and (reply_to := sample.reply_to) is not None:
            data = reply_to.correlation_data
            self._outbox.notify(reply_to.topic, json.dumps(document), correlation_data=data, senders=senders)


def events_of(pipeline: str) -> str:
    """Under which name a pipeline's events are counted."""
    return f"{pipeline}/event"


def _where(sample: Sample) -> str:
    """Where a sample came from, in a few words."""
    known = (str(sample.origin[key]) for key in ("path", "topic", "url") if key in sample.origin)
    return printable(next(known, "an input"))
