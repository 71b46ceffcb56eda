"""A pipeline of requests and answers: source → request → model → publish; see `TextPipeline._process`.

As many worker threads process requests as the model answers at once. The queue is bounded: what does not fit is
refused.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from edge_agent import settings
from edge_agent.counters import Counters, Dropped, Settlement
from edge_agent.errors import EdgeAgentError, InputError, ModelError
from edge_agent.language.generation import Answer, Job
from edge_agent.language.intents import vocabulary
from edge_agent.language.intents.answering import answers, recognizer_of
from edge_agent.language.questions import PromptTemplate, ReadingQuestions
from edge_agent.language.request import Request, read_request
from edge_agent.models.language import LanguageModel
from edge_agent.models.stages import Stopwatch
from edge_agent.pipeline.hang_detector import HangDetector
from edge_agent.pipeline.poison import PoisonInputs
from edge_agent.publish.answers import content_of_answer
from edge_agent.publish.sink import ResultSink
from edge_agent.publish.tool_calls import ToolCalls
from edge_agent.samples import Recipient, Sample, Timing
from edge_agent.sources import Source
from edge_agent.sources.observer import Observation, ResultObserver, Work
from edge_agent.sources.queue import SampleQueue
from edge_agent.system import limits
from edge_agent.system.text import parse_json

log = logging.getLogger(__name__)

# Cancellations that are kept, for requests that wait.
MAX_CANCELLED = 100


class RequestQueue(SampleQueue):
    """Requests that wait. When it is full, further requests are refused, except those that the broker redelivers.

    Args:
        most: requests that wait, at most.
        capacity: the same for redelivered requests.
        counters: of the pipeline.
        refuse: called with a request that is refused; the queue has counted it as captured.
    """

    def __init__(self, most: int, capacity: int, counters: Counters, refuse: Callable[[Sample], None]) -> None:
        super().__init__(max(most, capacity), counters, keep_newest=False)
        self._most = most
        self._refuse = refuse

    def put_drop_oldest(self, sample: Sample) -> bool:
        """Refuses the request, where one has to give way, so that its sender gets an answer."""
        return self.put(sample)

    def _put(self, sample: Sample) -> bool:
        """See `SampleQueue`; does not wait."""
        with self._lock:
            if len(self._samples) < self._most or sample.origin.get("redelivered") or self._closed:
                log.debug("request queued behind %d others", len(self._samples))
                return self._add(sample)
            sample.settlement.capture(self._counters)
        self._refuse(sample)
        return True


class BusyError(InputError):
    """Too many requests wait already."""


class _DiscardedError(Exception):
    """The pipeline ends before the answer is complete."""


class TextPipeline:
    """One source of requests, one language model, one stream of answers. See also `pipeline.Pipeline`.

    Answers come when they are complete, whatever the order of the requests. One at a time is worked on where the order
    counts: of calls that this agent makes, and of prompts about what is seen.

    Args:
        name: of the pipeline.
        options: its settings.
        source: where requests come from.
        model: answers them; may be shared with other pipelines.
        counters: of this pipeline.
        template: of prompts about readings, if these are what the source gives.
        sink: takes answers, pieces of answers that are requested as a stream, and errors.
        poison: the inputs at which the agent has ended.
        tools: make the calls of its own tools.
        observers: see every answer, from several threads, in no particular order.
    """

    def __init__(
        self,
        name: str,
        options: settings.Pipeline,
        source: Source,
        model: LanguageModel,
        counters: Counters,
        template: PromptTemplate,
        sink: ResultSink,
        poison: PoisonInputs,
        tools: ToolCalls,
        observers: Sequence[ResultObserver] = (),
    ) -> None:
        self.name = name
        self._log_extra = {"pipeline": name}
        self.options = options
        self.model = model
        self.counters = counters
        self._source = source
        self._sink = sink
        self._queue = (
            RequestQueue(options.text.queue, source.capacity, counters, self._refuse)
            if isinstance(options.source, settings.MqttSource)
            else SampleQueue(source.capacity, counters, keep_newest=source.live, cut=ReadingQuestions(template, name))
        )
        self._recognizer = recognizer_of(vocabulary.read(model.source.folder), options.text.intents)
        # Of two commands, the second one may take the first one back.
        in_order = options.text.tools or self._recognizer is not None or not isinstance(self._queue, RequestQueue)
        self._workers = [
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True)
            for number in range(1, 2 if in_order else model.parallel + 1)
        ]
        self._publishing = threading.Lock()
        self._hang_detector = HangDetector()
        self._poison = poison
        self._tools = tools
        self._observers = observers
        functions = [tool.function(tool_name) for tool_name, tool in options.text.tools.items()]
        self._functions = functions if self._recognizer is None else []  # which gives intents, asked or not
        self._cancelled: deque[tuple[str, float]] = deque(maxlen=MAX_CANCELLED)
        self._lock = threading.Lock()
        self._discarded = False

    def start(self) -> None:
        """Starts the workers and the source."""
        for worker in self._workers:
            worker.start()
        self._source.start(self._queue, lambda error: self._sink.report(error, None))

    @property
    def diagnosis(self) -> str:
        """See `Source.diagnosis`."""
        return self._source.diagnosis

    def wait_ready(self, timeout: float) -> bool:
        """See `Source.wait_ready`."""
        return self._source.wait_ready(timeout)

    def ask(self, request: bytes, recipient: Recipient, origin: Mapping[str, Any]) -> Settlement:
        """Takes a request from within this process. It waits with those of the source, and is refused as they are.

        Args:
            request: see `read_request`; its `id`, if it has one, is for `cancel`.
            recipient: gets the answer or the error; neither comes if the pipeline stops before.
            origin: facts about where it came from.

        Returns:
            The end of the request.
        """
        sample = Sample(request, captured_at=time.time(), captured=time.monotonic(), origin=origin, recipient=recipient)
        self._queue.put(sample)
        return sample.settlement

    def cancel(self, request_id: str) -> None:
        """Cancels a request, in progress or waiting: its answer ends where it is."""
        with self._lock:
            self._cancelled.append((request_id, time.monotonic()))

    def stop(self) -> None:
        """Stops taking requests; those taken already are still answered."""
        self._source.stop()

    def finish(self, deadline: float) -> None:
        """After `stop`: waits until the requests taken so far are answered.

        Args:
            deadline: on the monotonic clock. Requests that are not answered then, those in progress included, are
                not done: the broker delivers those of QoS 1 again.
        """
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        self._discarded = True
        if left := self._queue.discard_pending() + sum(worker.is_alive() for worker in self._workers):
            log.warning(
                "%s: %d requests are not answered; those of QoS 1 come again", self.name, left, extra=self._log_extra
            )

    def close(self, deadline: float) -> None:
        """See `Pipeline.close`."""
        self._source.close(deadline)

    @property
    def live(self) -> bool:
        """Whether the source is a live one."""
        return self._source.live

    @property
    def ended(self) -> bool:
        """Whether a finite source has ended and all its requests have been answered."""
        return not any(worker.is_alive() for worker in self._workers)

    def busy_for(self) -> float:
        """Seconds since the model's last output for one of the requests in progress; 0 if there is none."""
        return self._hang_detector.busy_for()

    def note_hung(self, seconds: float) -> None:
        """Records the request if it has gone on for longer than this: see `PoisonInputs`."""
        self._poison.hung(self._hang_detector.samples_since(seconds))

    def _work(self) -> None:
        while samples := self._queue.get():
            [sample] = samples
            try:
                self._process(sample)
            except _DiscardedError:
                sample.settlement.return_to_sender()
                return
            except InputError as error:
                self._fail(sample, error, "invalid")
            except ModelError as error:
                self._fail(sample, error, "failed")
            except Exception as error:
                what = "%s: a defect in edge-agent: this request is given up"
                log.warning(what, self.name, exc_info=error, extra=self._log_extra)
                self._fail(sample, EdgeAgentError(limits.in_words(error)), "failed")

    def _process(self, sample: Sample) -> None:
        """From a request to its published answer."""
        self._poison.refuse(sample)
        timing, watch = Timing(), Stopwatch(sample.captured)
        request = self._request(sample)
        request_id = request.id or uuid.uuid4().hex[:8]
        pieces = 0
        with self.model.slot() as load_ms, self._poison.attempt([sample]):
            timing.queue = watch.lap()
            log.debug("%s: request %s: waited %.0f ms", self.name, request_id, timing.queue, extra=self._log_extra)
            job = request.job(
                self.options.text.system,
                time.monotonic() - sample.captured,
                self._functions,
                takes_system=not self.model.system_problem,
            )
            if self._sink.is_watched(sample):
                job = replace(job, stream=True)
                self._sink.piece(sample, request_id, None, "")
            for part in self._parts(sample, job, lambda: self._is_cancelled(request_id, sample)):
                if isinstance(part, Answer):
                    answer = replace(part, load_ms=load_ms)
                elif part:
                    with self._publishing:
                        self._sink.piece(sample, request_id, pieces if request.stream else None, part)
                    pieces += 1
        if self._discarded and answer.finish_reason == "cancelled":
            raise _DiscardedError
        timing.preprocess, timing.inference = answer.first_token_ms, answer.output_ms
        calls: Mapping[str, Any] = {}
        # Calls of a request's own functions are for the requester.
        if self.options.text.tools and not request.tools and answer.finish_reason == "stop":
            if answer.is_call or answer.is_json:
                calls = self._tools.carry_out(parse_json(answer.text))
            timing.postprocess = watch.lap() - answer.first_token_ms - answer.output_ms
        facts = {**sample.origin, "id": request_id}
        with self._publishing:
            seq = self._sink.answer(sample, self.model, answer, facts, timing, calls)
        sample.settlement.infer()
        if self._observers:
            content = {**content_of_answer(answer), **calls}
            work = Work(self.model.identity, self.model.source.sha256, "text", None, facts, timing, (), answer=content)
            found = Observation(self.name, seq, sample, (), None, may_block=False, work=work)
            self._notify_observers(lambda observer: observer.on_result(found))
        log.debug("%s: request %s: answered: %s ms", self.name, request_id, timing, extra=self._log_extra)

    def _request(self, sample: Sample) -> Request:
        if isinstance(sample.data, InputError):
            raise sample.data
        if not isinstance(sample.data, bytes):
            raise InputError("expected text, found a picture or readings: the model takes requests")
        return read_request(sample.data, self.options.text.options)

    def _parts(self, sample: Sample, job: Job, cancelled: Callable[[], bool]) -> Iterator[str | Answer]:
        """The output of the model, piece by piece. Only waiting for the model counts as busy."""
        ask = partial(self.model.ask, cancelled=cancelled)
        parts = ask(job) if self._recognizer is None else answers(self._recognizer, job, ask)
        part: str | Answer | None = ""
        while part is not None:
            with self._hang_detector.step(sample):
                part = next(parts, None)
            if part is not None:
                yield part

    def _is_cancelled(self, request_id: str, sample: Sample) -> bool:
        """Whether it is to end. A cancellation applies to requests that came before it."""
        with self._lock:
            named = any(name == request_id and when > sample.captured for name, when in self._cancelled)
        return named or self._discarded

    def _refuse(self, sample: Sample) -> None:
        waiting = self.options.text.queue
        error = BusyError(f"{waiting} requests are waiting already: ask again later, or raise text.queue")
        self._fail(sample, error, "refused")

    def _fail(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        sample.settlement.drop(reason)
        self._sink.report(error, sample)
        if reason != "refused":  # there was nothing wrong with the request
            self._notify_observers(lambda observer: observer.on_failure(sample, error, reason))
        sample.settlement.done()

    def _notify_observers(self, notify: Callable[[ResultObserver], None]) -> None:
        """Whatever fails there does not concern the request."""
        for observer in self._observers:
            try:
                notify(observer)
            except Exception as error:
                what = "%s: a defect in edge-agent: what follows this answer is left out"
                log.exception(what, self.name, exc_info=error, extra=self._log_extra)
