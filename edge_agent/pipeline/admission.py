"""Which samples of a source are worked on, and when: the queue, and what stands between it and the workers."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from edge_agent import settings
from edge_agent.counters import Counters, Dropped
from edge_agent.models.stages import SampleModel
from edge_agent.pipeline.frame_timing import FrameScheduler
from edge_agent.pipeline.hang_detector import HangDetector
from edge_agent.pipeline.throttle import Throttle
from edge_agent.preprocess.motion_gate import MotionGate
from edge_agent.preprocess.prepare import stream_cutter
from edge_agent.samples import Sample
from edge_agent.sources import Source
from edge_agent.sources.queue import SampleQueue

log = logging.getLogger(__name__)

# Windows of a live source that may wait, so that a short delay costs none of them.
MAX_WAITING_WINDOWS = 64
_NOTHING = nullcontext()


class Admission:
    """Hands samples to the workers. Those that are not worth the work are counted and done.

    Args:
        name: of the pipeline.
        options: its settings.
        source: where samples come from.
        model: what they are for.
        counters: of the pipeline.
        factor: returns the share of its work that a live source may have now, above 0 to 1.
        hang_detector: of the pipeline.
        places: returns how many samples the model takes at the same time.

    Attributes:
        queue: for the source to fill.
    """

    def __init__(
        self,
        name: str,
        options: settings.Pipeline,
        source: Source,
        model: SampleModel,
        counters: Counters,
        factor: Callable[[], float],
        hang_detector: HangDetector,
        places: Callable[[], int],
    ) -> None:
        self._name = name
        self._hang_detector = hang_detector
        cut = stream_cutter(model.preprocess, options, counters)
        self.queue = (
            SampleQueue(source.capacity, counters, keep_newest=source.live)
            if cut is None
            else SampleQueue(max(source.capacity, MAX_WAITING_WINDOWS), counters, keep_newest=source.live, cut=cut)
        )
        self._scheduler = FrameScheduler(places)
        # Where a newer sample replaces one that waits, it pays to take one as late as possible.
        self._newest_only = source.live and cut is None
        self._throttle = Throttle(factor) if source.live else None
        self._motion_gate = None if options.gate is None else MotionGate(options.gate, options.regions)

    def next_batch(self, most: int) -> Sequence[Sample]:
        """The next samples to work on; waits for one; none at the end. One worker at a time is in here.

        Args:
            most: samples that can go through the model together.
        """
        while samples := self._take(most):
            if admitted := [sample for sample in samples if self._admits(sample)]:
                return admitted
        return []

    def prepared(self, seconds: float) -> None:
        """Records how long it took to prepare a sample."""
        if self._newest_only:
            self._scheduler.prepared(seconds)

    def inference(self) -> AbstractContextManager[None]:
        """To be within while samples are in the model."""
        return self._scheduler.inference() if self._newest_only else _NOTHING

    def spent(self, seconds: float) -> None:
        """Records how long the latest batch was worked on."""
        if self._throttle is not None:
            self._throttle.spent(seconds)

    def _take(self, most: int) -> list[Sample]:
        if self._newest_only:
            self.queue.wait()
            self._scheduler.wait()
        return self.queue.get(most)

    def _admits(self, sample: Sample) -> bool:
        if (reason := self._reason_to_drop(sample)) is None:
            return True
        log.debug("%s: sample dropped: %s", self._name, reason)
        sample.settlement.give_up(reason)
        return False

    def _reason_to_drop(self, sample: Sample) -> Dropped | None:
        if self._throttle is not None and not self._throttle.admits(sample.captured):
            return "throttled"
        return None if self._shows_motion(sample) else "unchanged"

    def _shows_motion(self, sample: Sample) -> bool:
        if self._motion_gate is None or sample.shows_motion:
            return True
        try:
            with self._hang_detector.step():
                return self._motion_gate.passes(sample)
        except Exception:
            log.exception(
                "%s: a defect in edge-agent: the motion gate stays open from now on",
                self._name,
                extra={"pipeline": self._name},
            )
            self._motion_gate = None
            return True
