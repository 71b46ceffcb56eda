"""The stages that a sample passes: prepare, infer, decode, postprocess. No threads, no queues.

A pipeline runs them in its workers, `predictor` for inputs that are handed in one by one.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.decoders import Limits
from edge_agent.errors import InputError
from edge_agent.models.model import Model
from edge_agent.models.speech import SpeechModel
from edge_agent.models.state import State
from edge_agent.models.statistics import StatisticsModel
from edge_agent.models.transcription import TranscriptionModel
from edge_agent.postprocess.alarms import Alarm, Alarms
from edge_agent.postprocess.filters import Filter, limits
from edge_agent.postprocess.lines import Crossing, Lines, Totals
from edge_agent.postprocess.meter import MeterReader
from edge_agent.postprocess.smoothing import LabelInterval, Smoother
from edge_agent.postprocess.thresholds import Threshold
from edge_agent.postprocess.tracking import Event, Tracker
from edge_agent.preprocess.image import Preprocess
from edge_agent.preprocess.prepare import Prepare, Prepared, preparation
from edge_agent.samples import Prediction, Sample, Series, Timing
from edge_agent.settings.series import Anomaly
from edge_agent.sources.observer import Work
from edge_agent.timeseries.cutting import MAX_STREAMS
from edge_agent.timeseries.numbers import SeriesPreprocess

log = logging.getLogger(__name__)

# Sources whose pictures a fixed camera takes; of those, the part of a picture that may be cut off its longer side
# silently.
STREAMS_OF_PICTURES = ("camera", "ai_camera", "video", "command")
SIDES = 0.15
SampleModel = Model | StatisticsModel | SpeechModel | TranscriptionModel
Happening = Event | Crossing | LabelInterval | Alarm
"""What is published as an event."""

# Averages need the confidences of all classes.
NO_LIMITS = Limits(top_k=100_000, min_confidence=0.0)


class Stopwatch:
    """Lap times in milliseconds, from a moment on the monotonic clock."""

    def __init__(self, started: float) -> None:
        self._last = started

    def lap(self) -> float:
        """Milliseconds since the last lap."""
        now = time.monotonic()
        lap, self._last = (now - self._last) * 1000, now
        return lap


class WorkItem:
    """A sample on its way through the stages, and what they have made of it.

    Attributes:
        sample: what it began as.
        model: the one that it began with, and stays with.
        prepared: what the model takes.
        outputs: the model's output tensors, in the engine's order.
        timing: where the time went so far.
        watch: gives the time since the stage before.
        lines: the totals of the pipeline's lines, by name and direction; None: it has none.
        crossed: whether one has just been crossed.
    """

    __slots__ = ("crossed", "lines", "model", "outputs", "prepare", "prepared", "sample", "timing", "watch")
    prepared: Prepared
    outputs: Sequence[Any]

    def __init__(self, sample: Sample, model: SampleModel, prepare: Prepare) -> None:
        self.sample, self.model, self.prepare = sample, model, prepare
        self.watch = Stopwatch(sample.captured)
        self.timing = Timing(queue=self.watch.lap())
        self.lines: Mapping[str, Mapping[str, int]] | None = None
        self.crossed = False


class SoleStream:
    """The one stream of a model that keeps its state inside of its file: the first one that comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._admitted: tuple[str | None] | None = None

    def admit(self, sample: Sample) -> None:
        """Lets samples of the first stream pass.

        Raises:
            InputError: the sample belongs to another stream.
        """
        with self._lock:
            (first,) = self._admitted = self._admitted or (sample.stream,)
        if sample.stream != first:
            raise InputError(
                f"the model keeps its state inside of its file, for one stream, and {first} came first: take each "
                "topic in a pipeline of its own, with a model of its own in `models`"
            )


class Stages:
    """What one pipeline does with each of its samples.

    Args:
        name: of the pipeline.
        options: its settings.
        model: what its samples go through.
        track_ids: gives the numbers of tracked objects.
        state_folder: where learned thresholds and the totals of lines are kept; None: they begin again at each start.

    Attributes:
        line_totals: how many objects have crossed each line, by direction.
    """

    def __init__(
        self,
        name: str,
        options: settings.Pipeline,
        model: SampleModel,
        track_ids: Iterator[int] | None = None,
        state_folder: Path | None = None,
    ) -> None:
        learned, totals, baselines, meter = (
            None if state_folder is None else state_folder / what / f"{name}.json"
            for what in ("learned", "lines", "baselines", "meters")
        )
        self._name = name
        self._options = options
        self._sides_checked = False
        self.switch(model)
        task = model.task
        self._threshold, self._alarms = None, None
        if isinstance(options.model, settings.Statistics):
            self._alarms = Alarms(name, options.model, baselines)
        elif isinstance(model, Model) and task == "anomaly":
            stated, hash_ = options.anomaly or Anomaly(), model.file.sha256
            self._threshold = Threshold(name, stated, model.threshold, hash_, learned)
        self._smoother = None if options.smoothing is None else Smoother(options.smoothing)
        self._meter = None if options.meter is None else MeterReader(name, options.meter, meter)
        self._needs_all = self._smoother is not None or (self._meter is not None and task == "classification")
        self._lines, self._totals = Lines(options.lines), Totals(name, options.lines, totals)
        self._tracker = None
        if options.tracking is not None:
            self._tracker = Tracker(options.tracking, track_ids, self._lines, self._totals, model.min_confidence)
        self.line_totals: Mapping[str, Mapping[str, int]] = {}
        self._states: dict[str | None, State] = {}
        self._sole_stream = SoleStream()

    @property
    def model(self) -> SampleModel:
        """The model that the next samples go through."""
        return self._serving[0]

    def switch(self, model: SampleModel) -> None:
        """Has another model of the same task serve from the next batch on."""
        self._serving = (model, preparation(model.preprocess, self._options))
        self._filter = Filter(self._options.filters, limits(self._options, model.task, model.min_confidence))

    def begin(self, samples: Sequence[Sample]) -> list[WorkItem]:
        """Begins a batch: samples that go through the same model, together where it allows that."""
        model, prepare = self._serving
        return [WorkItem(sample, model, prepare) for sample in samples]

    def prepare(self, item: WorkItem, *, needs_image: bool) -> None:
        """Makes the model's input tensor of a sample; from several threads.

        Args:
            item: gets `prepared`.
            needs_image: whether somebody besides the model needs the picture, at its full size.

        Raises:
            InputError: the sample can't be used.
        """
        if item.model.keeps_state:
            self._sole_stream.admit(item.sample)
        item.prepared = item.prepare(item.sample, needs_image=needs_image)
        if not self._sides_checked:
            self._check_sides(item.model.preprocess, *item.prepared.size)
        item.timing.preprocess = item.watch.lap()

    def _check_sides(self, preprocess: Preprocess | SeriesPreprocess | None, width: int, height: int) -> None:
        """Logs once that the sides of a stream's frames are not looked at, where nobody has asked for that."""
        self._sides_checked = True
        if (
            isinstance(preprocess, Preprocess)
            and preprocess.crops_unasked
            and self._options.source.type in STREAMS_OF_PICTURES
            and not self._options.regions
            and preprocess.left_out(width, height) > SIDES
        ):
            log.warning(
                "%s: the model is shown the middle of each %d x %d frame, as it was evaluated; the sides are not "
                "looked at. State `regions` of the pipeline to look at more of it, or the model's `preprocess: "
                "{resize: stretch}` for the whole frame, distorted",
                self._name,
                width,
                height,
            )

    def infer(self, batch: Sequence[WorkItem]) -> None:
        """Runs the model; where it is not `parallel`, one thread at a time, in the order of the samples.

        Args:
            batch: one at least; each gets `outputs`.

        Raises:
            ModelError: the inference fails.
        """
        for item in batch:
            item.timing.queue += item.watch.lap()
        model = batch[0].model
        state = self._state_of(batch[0].sample) if model.stateful else None
        answers = model.infer_each([item.prepared.tensor for item in batch], state)
        for item, outputs in zip(batch, answers, strict=True):
            item.outputs = outputs
            item.timing.inference = item.watch.lap()

    def decode(self, item: WorkItem) -> list[Prediction]:
        """Makes predictions of output tensors, in pixels of the picture.

        Raises:
            ModelError: the tensors hold what no decoder can use, such as NaN.
        """
        item.timing.queue += item.watch.lap()
        within = NO_LIMITS if self._needs_all else self._filter.decoder_limits
        return item.model.predictions(item.outputs, item.prepared.placements, within)

    def postprocess(
        self, item: WorkItem, predictions: Sequence[Prediction]
    ) -> tuple[list[Prediction], Sequence[Happening]]:
        """Applies threshold, smoothing, filters and tracking; one thread at a time, in the order of the samples.

        Returns:
            The predictions that are left, and what has happened to tracked objects or smoothed labels, on the clock of
            `Sample.captured`.
        """
        events: Sequence[Happening] = ()
        if self._threshold is not None:
            predictions = self._threshold(predictions)
        if self._alarms is not None:
            predictions, events = self._alarms.update(predictions, item.sample)
        if self._smoother is not None:
            predictions, intervals = self._smoother.update(predictions, item.sample)
            events = [one for one in intervals if self._filter.wants_label(one.label)]
        if self._meter is not None:
            item.timing.postprocess = item.watch.lap()
            return self._meter.read(predictions, item.sample), ()
        kept = self._filter(predictions, *item.prepared.size)
        if self._tracker is not None:
            self._lines.fit(*item.prepared.size)
            kept, happened = self._tracker.update(kept, item.sample.stream_time)
            ahead = item.sample.captured - item.sample.stream_time
            events = [replace(event, time=event.time + ahead) for event in happened]
        if self._options.lines:
            self.line_totals = item.lines = self._totals.at(item.sample.captured_at)
            item.crossed = any(isinstance(event, Crossing) for event in events)
        item.timing.postprocess = item.watch.lap()
        return kept, events

    def work(self, item: WorkItem, decoded: Sequence[Prediction], events: Sequence[Happening]) -> Work:
        """What observers may want to know of a sample, besides its predictions.

        Args:
            item: the sample, after `postprocess`.
            decoded: what `decode` has returned.
            events: what `postprocess` has returned.
        """
        model, prepared = item.model, item.prepared
        return Work(
            model.identity,
            model.file.sha256 if isinstance(model, Model) else "",
            model.task,
            model.preprocess,
            prepared.facts,
            item.timing,
            decoded,
            [event.as_dict() for event in events] if events else (),
            item.lines,
            self._threshold.value if self._threshold else model.threshold if self._alarms else None,
        )

    def save(self) -> None:
        """Saves what shall outlast the pipeline, after its last sample."""
        self._totals.save()
        if self._alarms is not None:
            self._alarms.save()
        if self._meter is not None:
            self._meter.save()

    @property
    def silent(self) -> Sequence[str]:
        """Readings that have not come for too long, though they usually do; empty where that is not known."""
        return self._alarms.silent if self._alarms is not None else ()

    def overdue(self) -> Sequence[Alarm]:
        """Alarms of readings that are missing from now on."""
        return list(self._alarms.overdue(time.time(), time.monotonic())) if self._alarms is not None else ()

    def _state_of(self, sample: Sample) -> State:
        """The state of the sample's stream, for a model that has one: empty after a gap."""
        stream = sample.stream
        if (isinstance(sample.data, Series) and sample.data.gap) or stream not in self._states:
            self._states.pop(stream, None)
            while len(self._states) >= MAX_STREAMS:
                del self._states[next(iter(self._states))]
            self._states[stream] = {}
        return self._states[stream]
