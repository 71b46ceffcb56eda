"""The road of a sample: source → preprocess → engine → decode → publish.

`Pipeline.travel` is the whole story. A few workers walk the road at the same time, each with samples of its own, so
that one decodes and resizes while another one's are in the model; they enter the model in the order in which the
samples came, and results leave in that order.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import settings
from edge_agent.counters import Counters, Dropped
from edge_agent.decoders import Limits
from edge_agent.errors import EdgeAgentError, InputError, ModelError
from edge_agent.models.model import Model
from edge_agent.models.state import State
from edge_agent.pipeline.frame_timing import FrameScheduler
from edge_agent.pipeline.motion_gate import Gate
from edge_agent.pipeline.ordering import Turns
from edge_agent.pipeline.throttle import Throttle
from edge_agent.postprocess.filters import Filter, limits
from edge_agent.postprocess.smoothing import Smoother, Spell
from edge_agent.postprocess.thresholds import Threshold
from edge_agent.postprocess.tracking import Event, Tracker
from edge_agent.preprocess.prepare import Prepared, cutting, preparation
from edge_agent.samples import Prediction, Sample, Series, Timing
from edge_agent.settings.series import Anomaly
from edge_agent.sources import Source
from edge_agent.sources.observer import Follower
from edge_agent.sources.queue import SampleQueue
from edge_agent.system.activity import ACTIVITY
from edge_agent.timeseries.cutting import MAX_STREAMS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

WORKERS = 2
EVERYTHING = Limits(top_k=100_000, min_confidence=0.0)
# Windows of a live source that may wait, so that a moment's hold-up costs none of them.
WINDOWS_THAT_WAIT = 64

Publish = Callable[[Sample, list[Prediction], Mapping[str, Any], Timing], int | None]
Report = Callable[[EdgeAgentError, Sample | None], None]
Tell = Callable[[Sample, Sequence[Event | Spell]], None]


class Trip:
    """A sample on the road.

    Attributes:
        prepared: what its model takes, once it is.
        timing: where the time has gone so far.
        watch: tells how much since it was last asked.
    """

    __slots__ = ("prepared", "sample", "timing", "watch")
    prepared: Prepared

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.watch = Stopwatch(sample.captured)
        self.timing = Timing(queue=self.watch.lap())


class Pipeline:
    """One source, one model, one stream of results.

    Args:
        name: of the pipeline.
        options: its settings.
        source: where samples come from.
        model: what they go through; may be shared with other pipelines.
        counters: of this pipeline.
        publish: takes predictions, facts about the input, and where the time went; may wait; returns the result's
            `seq`, or None if it was held back.
        report: takes what went wrong, with the sample, or with none if it was the source.
        tell: takes what has happened to tracked objects, with the sample that showed it; may wait.
        track_ids: where the numbers of tracked objects come from.
        followers: see every picture and what was found in it; the list may change at any time.
        factor: asked for the share of its work that a live source may have now, above 0 to 1.
        learned: the file in which a learned threshold is kept; None: it is learned anew each time.

    Attributes:
        shadow: while a new version of the model is compared with this one: takes each sample with what was said of it.
    """

    def __init__(
        self,
        name: str,
        options: settings.Pipeline,
        source: Source,
        model: Model,
        counters: Counters,
        publish: Publish,
        report: Report,
        tell: Tell = lambda _sample, _events: None,
        track_ids: Iterator[int] | None = None,
        followers: Sequence[Follower] = (),
        factor: Callable[[], float] = lambda: 1.0,
        learned: Path | None = None,
    ) -> None:
        self.name = name
        self._told = {"pipeline": name}  # what log lines are about
        self.options = options
        self.model = model
        self.counters = counters
        self.shadow: Callable[[Sample, Sequence[Prediction]], None] | None = None
        self._source = source
        self._serving = (model, preparation(model.preprocess, options), publish)
        self._report = report
        self._followers = followers
        self._throttle = Throttle(factor) if source.live else None
        self._gate = None if options.gate is None else Gate(options.gate, options.regions)
        self._threshold = None
        if model.decode.task == "anomaly":
            stated, hash_ = options.anomaly or Anomaly(), model.file.sha256
            self._threshold = Threshold(name, stated, model.threshold, hash_, learned)
        self._smoother = None if options.smoothing is None else Smoother(options.smoothing)
        self._filter = Filter(options.filters, limits(options, model.decode.task))
        # What is averaged has to be known of all classes.
        self._wanted = self._filter.decoder_limits if self._smoother is None else EVERYTHING
        self._tell = tell
        self._tracker = None if options.tracking is None else Tracker(options.tracking, track_ids)
        self._turns, self._scheduler = Turns(), FrameScheduler()
        cut = cutting(model.preprocess, options, counters)
        self._queue = (
            SampleQueue(source.capacity, counters, keep_newest=source.live)
            if cut is None
            else SampleQueue(max(source.capacity, WINDOWS_THAT_WAIT), counters, keep_newest=source.live, cut=cut)
        )
        # Where a newer sample takes the place of one that waits.
        self._newest_only = source.live and cut is None
        self._states: dict[str | None, State] = {}
        self._workers = [
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True) for number in range(WORKERS)
        ]
        self._busy_since: dict[int, float] = {}
        self._at_work, self._leaving = WORKERS, threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Begins to take input."""
        for worker in self._workers:
            worker.start()
        self._source.start(self._queue, lambda error: self._report(error, None))

    def wait_ready(self, timeout: float) -> bool:
        """See `Source.wait_ready`."""
        return self._source.wait_ready(timeout)

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
        if left := self._queue.discard_pending():
            log.warning(
                "%s: %d inputs could not be worked on in time; unless they were QoS 1, they are lost",
                self.name,
                left,
                extra=self._told,
            )

    def close(self, deadline: float) -> None:
        """After `finish`, when all results are safe: lets go of the source.

        Args:
            deadline: on the monotonic clock.
        """
        self._source.close(deadline)

    def switch(self, model: Model, publish: Publish) -> None:
        """Has another model serve from the next sample on; those on their way stay with the one that they began with.

        Args:
            model: of the same task, one that remembers nothing of the samples before.
            publish: as before, for what this model says.
        """
        self.model = model
        self._serving = (model, preparation(model.preprocess, self.options), publish)

    @property
    def live(self) -> bool:
        """Whether the source is a live one, which comes back by itself after a failure."""
        return self._source.live

    @property
    def ended(self) -> bool:
        """Whether a finite source has ended and everything it gave has been worked on."""
        return not any(worker.is_alive() for worker in self._workers)

    def busy_for(self) -> float:
        """Seconds for which the step that takes longest has been going on; 0 when there is none.

        To wait for the broker, or for another sample to finish its step, is not to be busy.
        """
        started = list(self._busy_since.values())
        return time.monotonic() - min(started) if started else 0.0

    def _work(self) -> None:
        while (taken := self._turns.take(self._next)) is not None:
            turn, samples = taken
            began = time.monotonic()
            with ACTIVITY:
                self.travel(samples, turn)
                turn.over()
            if self._throttle is not None:
                self._throttle.spent(time.monotonic() - began)
        if self._last_to_leave() and not self._stopped:
            for follower in list(self._followers):
                follower.end()

    def _next(self) -> list[Sample]:
        """The next samples that are worth the road; the others are counted. One worker at a time is in here."""
        while samples := self._take():
            if wanted := [sample for sample in samples if self._is_wanted(sample)]:
                return wanted
        return []

    def _take(self) -> list[Sample]:
        """What waits; of a live source the newest frame that the model, which is busy, need not wait for."""
        if self._newest_only:
            self._queue.wait()
            self._scheduler.wait()
        return self._queue.get(self.model.together)

    def _is_wanted(self, sample: Sample) -> bool:
        if (reason := self._held_back(sample)) is None:
            return True
        self.counters.drop(reason)
        sample.done()
        return False

    def _held_back(self, sample: Sample) -> Dropped | None:
        if self._throttle is not None and not self._throttle.admits(sample.captured):
            return "throttled"
        return None if self._shows_news(sample) else "unchanged"

    def _shows_news(self, sample: Sample) -> bool:
        if self._gate is None:
            return True
        try:
            with self._busy():
                return self._gate.passes(sample)
        except Exception:
            log.exception("%s: a defect in edge-agent: the gate stays open from now on", self.name, extra=self._told)
            self._gate = None
            return True

    def _last_to_leave(self) -> bool:
        with self._leaving:
            self._at_work -= 1
            return self._at_work == 0

    def travel(self, samples: Sequence[Sample], turn: AbstractContextManager[None]) -> None:
        """The road, of samples that go through the model together; what goes wrong with one is its own affair.

        Each ends in a result, or in a counted and reported failure. Runs in the calling thread.

        Args:
            samples: counted as captured before.
            turn: entered for each of the two parts of the road in which samples keep their order: inference, and what
                follows it.
        """
        model, prepare, publish = self._serving
        ready: list[Trip] = []
        for sample in samples:
            trip = Trip(sample)
            with self._answered(sample), self._busy():
                trip.prepared = prepare(sample, followed=bool(self._followers))
                trip.timing.preprocess = trip.watch.lap()
                self._scheduler.prepared(trip.timing.preprocess / 1000)
                ready.append(trip)
        with turn:
            answers = list(self._infer(ready, model))
        with turn:
            for trip, outputs in answers:
                sample, prepared, timing = trip.sample, trip.prepared, trip.timing
                with self._answered(sample):
                    timing.queue += trip.watch.lap()
                    with self._busy():
                        found = model.decode(outputs, prepared.placements, self._wanted)
                        predictions, events = self._conclude(found, prepared, sample)
                    timing.postprocess = trip.watch.lap()
                    seq = publish(sample, predictions, prepared.facts, timing)
                    if events:
                        self._tell(sample, events)
                    self.counters.infer()
                    self._show(prepared.image, sample, predictions, seq)
                    if (shadow := self.shadow) is not None:
                        shadow(sample, predictions)

    def _infer(self, trips: Sequence[Trip], model: Model) -> Iterator[tuple[Trip, Any]]:
        """Output tensors for each; if they can't go through the model together, one after the other."""
        if not trips:
            return
        for trip in trips:
            trip.timing.queue += trip.watch.lap()
        try:
            with self._busy(), self._scheduler.inference():
                state = self._state_of(trips[0].sample) if model.stateful else None
                answers = model.infer_each([trip.prepared.tensor for trip in trips], state)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told of the sample that has caused it
            if len(trips) == 1:
                self._fail(trips[0].sample, error)
            else:
                for trip in trips:
                    yield from self._infer([trip], model)
            return
        for trip in trips:
            trip.timing.inference = trip.watch.lap()
        yield from zip(trips, answers, strict=True)

    def _conclude(
        self, found: Sequence[Prediction], prepared: Prepared, sample: Sample
    ) -> tuple[list[Prediction], Sequence[Event | Spell]]:
        """What is told of what the model has found, and what has happened by that."""
        events: Sequence[Event | Spell] = ()
        if self._threshold is not None:
            found = self._threshold(found)
        if self._smoother is not None:
            found, events = self._smoother.update(found, sample)
        predictions = self._filter(found, *prepared.size)
        if self._tracker is not None:
            predictions, events = self._tracker.update(predictions, sample.captured)
        return predictions, events

    def _state_of(self, sample: Sample) -> State:
        """What a stateful model remembers of the sample's stream: nothing after a gap."""
        stream = sample.stream
        if (isinstance(sample.data, Series) and sample.data.gap) or stream not in self._states:
            self._states.pop(stream, None)
            while len(self._states) >= MAX_STREAMS:
                del self._states[next(iter(self._states))]
            self._states[stream] = {}
        return self._states[stream]

    def _show(
        self, image: "NDArray[np.uint8] | None", sample: Sample, predictions: Sequence[Prediction], seq: int | None
    ) -> None:
        parent = {"pipeline": self.name, "seq": seq}
        for follower in list(self._followers):
            try:
                follower.follow(image, sample, predictions, parent, may_wait=not self._source.live)
            except Exception:  # the result is out already, whatever becomes of its followers
                log.exception(
                    "%s: a defect in edge-agent: what follows this result is left out", self.name, extra=self._told
                )

    @contextmanager
    def _busy(self) -> Iterator[None]:
        worker = threading.get_ident()
        self._busy_since[worker] = time.monotonic()
        try:
            yield
        finally:
            del self._busy_since[worker]

    @contextmanager
    def _answered(self, sample: Sample) -> Iterator[None]:
        """Makes of whatever goes wrong with a sample its answer."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a sample must not take others along
            self._fail(sample, error)

    def _fail(self, sample: Sample, error: Exception) -> None:
        match error:
            case InputError():
                self._give_up(sample, error, "invalid")
            case ModelError():
                self._give_up(sample, error, "failed")
            case _:
                log.warning(
                    "%s: a defect in edge-agent: this sample is given up", self.name, exc_info=error, extra=self._told
                )
                self._give_up(sample, EdgeAgentError(f"internal error: {error!r}"), "failed")

    def _give_up(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        self.counters.drop(reason)
        self._report(error, sample)
        sample.done()


class Stopwatch:
    """Lap times in milliseconds, from a moment on the monotonic clock."""

    def __init__(self, started: float) -> None:
        self._last = started

    def lap(self) -> float:
        """Milliseconds since the last lap."""
        now = time.monotonic()
        lap, self._last = (now - self._last) * 1000, now
        return lap
