"""The way of a sample: source → preprocess → engine → decode → postprocess → publish.

`Pipeline.process` is the whole of it. Two or more workers run it at the same time, each with samples of its own, so
that one decodes and resizes while the other one's are in the model. If the model has one engine, they enter it in the
order in which the samples came; results leave in that order in any case.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from edge_agent import settings
from edge_agent.counters import Counters, Dropped
from edge_agent.errors import EdgeAgentError, InputError, ModelError
from edge_agent.models.stages import SampleModel, Stages, WorkItem
from edge_agent.pipeline.admission import Admission
from edge_agent.pipeline.hang_detector import HangDetector
from edge_agent.pipeline.ordering import INFERENCE, PUBLISHING, Ticket, TicketLock
from edge_agent.pipeline.poison import PoisonInputs
from edge_agent.publish.sink import ResultSink
from edge_agent.samples import Sample
from edge_agent.sources import Source
from edge_agent.sources.observer import Observation, ResultObserver
from edge_agent.system import limits
from edge_agent.system.activity import ACTIVITY

log = logging.getLogger(__name__)

# At least; with more engines, one more than those, but no more than there are cores.
WORKERS = 2


class Pipeline:
    """One source, one model, one stream of results.

    Args:
        name: of the pipeline.
        options: its settings.
        source: where samples come from.
        model: what they go through; may be shared with other pipelines.
        counters: of this pipeline.
        sink: takes results, events and errors.
        track_ids: gives the numbers of tracked objects.
        observers: see every result.
        factor: returns the share of its work that a live source may have now, above 0 to 1.
        state_folder: see `Stages`.
        poison: the inputs at which the agent has ended.

    Attributes:
        observers: the same list; it may be changed at any time, from any thread.
    """

    def __init__(
        self,
        name: str,
        options: settings.Pipeline,
        source: Source,
        model: SampleModel,
        counters: Counters,
        sink: ResultSink,
        track_ids: Iterator[int] | None = None,
        observers: list[ResultObserver] | None = None,
        factor: Callable[[], float] = lambda: 1.0,
        state_folder: Path | None = None,
        poison: PoisonInputs | None = None,
    ) -> None:
        self.name = name
        self.options = options
        self.counters = counters
        self._log_extra = {"pipeline": name}
        self._source = source
        self._sink = sink
        self.observers = [] if observers is None else observers
        self._stages = Stages(name, options, model, track_ids, state_folder)
        self._hang_detector = HangDetector()
        self._poison = poison or PoisonInputs()
        self._admission = Admission(
            name, options, source, model, counters, factor, self._hang_detector, lambda: self.model.parallel
        )
        self._tickets = TicketLock()
        count = workers_for(model.parallel)
        self._workers = [self._worker(number) for number in range(count)]
        self._running, self._leaving = count, threading.Lock()
        self._stopped = False

    @property
    def model(self) -> SampleModel:
        """The model that the next samples go through."""
        return self._stages.model

    @property
    def line_totals(self) -> Mapping[str, Mapping[str, int]]:
        """How many objects have crossed each line, by direction; empty without lines or before the first frame."""
        return self._stages.line_totals

    @property
    def live(self) -> bool:
        """Whether the source is a live one, which comes back by itself after a failure."""
        return self._source.live

    @property
    def ended(self) -> bool:
        """Whether a finite source has ended and everything it gave has been worked on."""
        return not any(worker.is_alive() for worker in self._workers)

    def start(self) -> None:
        """Begins to take input."""
        for worker in self._workers:
            worker.start()
        self._source.start(self._admission.queue, lambda error: self._sink.report(error, None))

    @property
    def diagnosis(self) -> str:
        """See `Source.diagnosis`; also readings that have not come for too long."""
        silent = self._stages.silent
        return self._source.diagnosis or (f"no reading for longer than usual: {', '.join(silent)}" if silent else "")

    def check_overdue(self) -> None:
        """Publishes alarms of readings that are missing; called from time to time, from the main thread."""
        if alarms := self._stages.overdue():
            sample = Sample(b"", captured_at=time.time(), captured=time.monotonic(), origin={})
            self._sink.events(sample, alarms)

    def wait_ready(self, timeout: float) -> bool:
        """See `Source.wait_ready`."""
        return self._source.wait_ready(timeout)

    def switch(self, model: SampleModel) -> None:
        """Has another model serve from the next samples on; those on their way stay with the one that they began with.

        Args:
            model: of the same task, one that keeps no state between samples.
        """
        self._stages.switch(model)
        with self._leaving:
            known = len(self._workers)
            further = range(known, workers_for(model.parallel)) if self._running and not self._stopped else range(0)
            self._running += len(further)
        for number in further:
            self._workers.append(self._worker(number))
            self._workers[-1].start()

    def busy_for(self) -> float:
        """Seconds for which the longest step that still goes on has lasted; 0 when there is none."""
        return self._hang_detector.busy_for()

    def note_hung(self, seconds: float) -> None:
        """Records the inputs of steps that have gone on for longer than this: see `PoisonInputs`."""
        self._poison.hung(self._hang_detector.samples_since(seconds))

    def stop(self) -> None:
        """Stops taking input; what has been taken goes on."""
        self._stopped = True
        self._source.stop()

    def finish(self, deadline: float) -> None:
        """After `stop`: waits for what has been taken.

        Args:
            deadline: on the monotonic clock; what has not been begun then is given up. It is not done, so that
                inputs from a broker come again.
        """
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        self._stages.save()
        if left := self._admission.queue.discard_pending():
            log.warning(
                "%s: %d inputs could not be worked on in time; unless they were QoS 1, they are lost",
                self.name,
                left,
                extra=self._log_extra,
            )

    def close(self, deadline: float) -> None:
        """After `finish`, when all results are safe: closes the source.

        Args:
            deadline: on the monotonic clock.
        """
        self._source.close(deadline)

    def _worker(self, number: int) -> threading.Thread:
        return threading.Thread(target=self._work, name=f"{self.name} {number}", daemon=True)

    def _work(self) -> None:
        while (drawn := self._next()) is not None:
            ticket, samples = drawn
            began = time.monotonic()
            with ACTIVITY, ticket:
                self.process(samples, ticket)
            self._admission.spent(time.monotonic() - began)
        if self._is_last_worker() and not self._stopped:
            self._notify_observers(lambda observer: observer.on_end())

    def _next(self) -> tuple[Ticket, Sequence[Sample]] | None:
        # Before the lock: a sample wakes one worker then, not also the one that waits for the lock.
        self._admission.queue.wait()
        return self._tickets.draw(lambda: self._admission.next_batch(self.model.together))

    def _is_last_worker(self) -> bool:
        with self._leaving:
            self._running -= 1
            return self._running == 0

    def process(self, samples: Sequence[Sample], ticket: Ticket) -> None:
        """Takes samples through all stages, together where the model allows that.

        Each ends in a result, or in an error that is counted and reported; what goes wrong with one sample does not
        concern the others. Runs in the calling thread.

        Args:
            samples: counted as captured before.
            ticket: the place of these samples in the order of results, and of inferences where the model runs one at a
                time.
        """
        prepared: list[WorkItem] = []
        for item in self._stages.begin(samples):
            try:
                self._prepare(item)
            except Exception as error:  # noqa: BLE001 - one sample must not take others along
                self._fail(item.sample, error)
            else:
                prepared.append(item)
        with self._turn(prepared, ticket):
            inferred = list(self._infer(prepared))
        with ticket.section(PUBLISHING):
            for item in inferred:
                try:
                    self._publish(item)
                except Exception as error:  # noqa: BLE001 - as above
                    self._fail(item.sample, error)

    def _prepare(self, item: WorkItem) -> None:
        with self._hang_detector.step(item.sample):
            self._poison.refuse(item.sample)
            self._stages.prepare(item, needs_image=self._needs_image(item.sample))
            self._admission.prepared(item.timing.preprocess / 1000)

    def _publish(self, item: WorkItem) -> None:
        stages = self._stages
        with self._hang_detector.step(item.sample):
            decoded = stages.decode(item)
            predictions, events = stages.postprocess(item, decoded)
        seq = self._sink.publish(item, predictions)
        item.sample.settlement.infer()
        log.debug("%s: result %s: %s ms", self.name, seq, item.timing, extra=self._log_extra)
        if events:
            self._follow_up(partial(self._sink.events, item.sample, events))
        if self.observers:
            work = stages.work(item, decoded, events)
            image, may_block = item.prepared.image, not self._source.live
            found = Observation(
                self.name,
                seq,
                item.sample,
                predictions,
                image,
                may_block,
                work,
                item.prepared.tensor,
                item.outputs,
            )
            self._show(found)

    def _turn(self, batch: Sequence[WorkItem], ticket: Ticket) -> AbstractContextManager[None]:
        """Where the model runs several inferences at a time, none waits for those before it.

        Suspects do, so that one is not blamed for what another one does.
        """
        alone = not batch or batch[0].model.parallel == 1 or any(self._poison.is_suspect(item.sample) for item in batch)
        return ticket.section(INFERENCE) if alone else nullcontext()

    def _infer(self, batch: Sequence[WorkItem]) -> Iterator[WorkItem]:
        """Those that the model has answered; where a batch fails as a whole, it is tried one by one."""
        samples = [item.sample for item in batch]
        if not batch:
            return
        if len(batch) > 1 and any(map(self._poison.is_suspect, samples)):  # so that the others are not blamed
            for item in batch:
                yield from self._infer([item])
            return
        step = self._hang_detector.step(*samples)
        try:
            with step, self._poison.attempt(samples), self._admission.inference():
                self._stages.infer(batch)
        except Exception as error:  # noqa: BLE001 - reported for the sample that has caused it, whatever it is
            if len(batch) == 1:
                self._fail(batch[0].sample, error)
                return
            for item in batch:
                yield from self._infer([item])
        else:
            yield from batch

    def _needs_image(self, sample: Sample) -> bool:
        for observer in list(self.observers):  # noqa: SIM110 - a generator for each sample takes three times as long
            if observer.needs_image(sample):
                return True
        return False

    def _show(self, found: Observation) -> None:
        """Shows a result to all observers: for every sample, so without the closures of `_notify_observers`."""
        for observer in list(self.observers):
            try:
                observer.on_result(found)
            except Exception as error:  # noqa: BLE001 - as in `_follow_up`
                self._report_defect(error)

    def _notify_observers(self, notify: Callable[[ResultObserver], None]) -> None:
        for observer in list(self.observers):
            self._follow_up(partial(notify, observer))

    def _follow_up(self, step: Callable[[], None]) -> None:
        """Calls what comes after a result. A failure there does not concern its sample, which has its end already."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever it is
            self._report_defect(error)

    def _report_defect(self, error: Exception) -> None:
        log.error(
            "%s: a defect in edge-agent: what follows this result is left out",
            self.name,
            exc_info=error,
            extra=self._log_extra,
        )

    def _fail(self, sample: Sample, error: Exception) -> None:
        """Reports whatever goes wrong with a sample as its outcome."""
        match error:
            case InputError():
                self._give_up(sample, error, "invalid")
            case ModelError():
                self._give_up(sample, error, "failed")
            case _:
                log.warning(
                    "%s: a defect in edge-agent: this sample is given up",
                    self.name,
                    exc_info=error,
                    extra=self._log_extra,
                )
                self._give_up(sample, EdgeAgentError(limits.in_words(error)), "failed")

    def _give_up(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        sample.settlement.drop(reason)
        self._sink.report(error, sample)
        self._notify_observers(lambda observer: observer.on_failure(sample, error, reason))
        sample.settlement.done()


def workers_for(parallel: int) -> int:
    """The number of workers of a pipeline whose model runs this number of inferences at the same time."""
    cores = len(os.sched_getaffinity(0))
    return max(WORKERS, min(parallel + 1, cores))
