"""Runs a new version on the same live input as the active one, publishes nothing, and compares the two."""

import copy
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from edge_agent import settings
from edge_agent.counters import Dropped, Settlement
from edge_agent.errors import EdgeAgentError
from edge_agent.keeping.keep import Keeper
from edge_agent.models.model import Model
from edge_agent.models.predictor import Predictor
from edge_agent.postprocess.agreement import agreement, by_class
from edge_agent.samples import Sample
from edge_agent.settings.update import Shadow as ShadowOptions
from edge_agent.sources.observer import Observation
from edge_agent.update.host import Host, RefusedError, UndecidedError, inference_ms, work_of

log = logging.getLogger(__name__)

POLL_EVERY = 0.5


class Tally:
    """The results of the comparison so far; may be used from any thread.

    Args:
        samples: the number of samples to compare.
    """

    def __init__(self, samples: int) -> None:
        self._wanted = samples
        self._changed = threading.Condition()
        self._agreements: list[float] = []
        self.samples = self.failures = 0

    def compared(self, agreement: float | None) -> None:
        """Adds a sample; None if the new version failed on it."""
        with self._changed:
            self.samples += 1
            if agreement is None:
                self.failures += 1
            else:
                self._agreements.append(agreement)
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Waits for up to `timeout` seconds; returns whether all samples have been compared."""
        with self._changed:
            return self._changed.wait_for(lambda: self.samples >= self._wanted, timeout)

    @property
    def agreement(self) -> float:
        """The mean agreement, 0 to 1; 0 if nothing has been compared."""
        with self._changed:
            return sum(self._agreements) / len(self._agreements) if self._agreements else 0.0


class Shadow:
    """Runs the new version on samples of one pipeline, one at a time, in a thread; the pipeline never waits for it.

    Args:
        pipeline: its settings.
        model: the new version.
        tally: takes the results.
        keepers: keep samples on which the two versions disagree.
        classes: whether class numbers are compared in place of labels.
    """

    def __init__(
        self,
        pipeline: settings.Pipeline,
        model: Model,
        tally: Tally,
        keepers: Sequence[Keeper] = (),
        *,
        classes: bool = False,
    ) -> None:
        self._keepers = keepers
        self._classes = classes
        self._predictor = Predictor(model, None, None, like=pipeline)
        self._task = model.decode.task
        self._tally = tally
        self._changed = threading.Condition()
        self._next: Observation | None = None
        self._taken_at = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - it decodes the sample itself
        """See `ResultObserver`."""
        return False

    def on_result(self, observation: Observation) -> None:
        """Takes a sample and the active version's predictions, unless the previous sample is still in progress."""
        sample = observation.sample
        with self._changed:
            if self._next is None and not self._closed:
                # A copy, since a frame's buffer may be reused; without reply and acknowledgement.
                data = copy.copy(sample.data)
                sample = replace(sample, data=data, reply_to=None, settlement=Settlement())
                self._next = replace(observation, sample=sample, image=None, tensor=None, outputs=())
                self._taken_at = time.monotonic()
                self._changed.notify_all()

    def waits_for(self) -> float | None:
        """For how many seconds the current sample has been in progress; None if there is none."""
        with self._changed:
            return None if self._next is None else time.monotonic() - self._taken_at

    def on_failure(self, sample: Sample, error: EdgeAgentError, reason: Dropped) -> None:
        """What the active version can't use is not compared."""

    def on_end(self) -> None:
        """There will be no more samples."""

    def close(self) -> None:
        """Takes no more samples; the current one is finished."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next is not None)
                if self._next is None:
                    return
                observation = self._next
                sample, predictions = observation.sample, observation.predictions
            try:
                answer = self._predictor.ask(sample).predictions
            except EdgeAgentError as error:
                log.debug("shadow run: %s", error)
                self._tally.compared(None)
            except Exception:  # it counts against the new version, and must not end the agent
                log.exception("a defect in edge-agent: a sample of the shadow run failed")
                self._tally.compared(None)
            else:
                self._tally.compared(agreement(self._task, predictions, answer, classes=self._classes))
                for keeper in () if self._classes else self._keepers:
                    keeper.compared(observation, answer)
            with self._changed:
                self._next = None


def run_beside(
    host: Host,
    name: str,
    model: Model,
    options: ShadowOptions,
    max_error_rate: float,
    check_stop: Callable[[], None],
) -> dict[str, Any]:
    """Runs a new version beside the active one until enough samples are compared; returns the measurements.

    Args:
        host: the agent.
        name: of the model.
        model: the new version.
        options: the number of samples, the timeouts and the limits.
        max_error_rate: the share of samples on which it may fail.
        check_stop: called about twice a second; raises to cancel the run.

    Raises:
        RefusedError: the version exceeds a limit.
        UndecidedError: too few samples have arrived in time.
    """
    serving = host.serving(name)
    classes = serving is not None and by_class(serving.labels, model.labels)
    if classes:
        log.warning("%s: the new version has other labels: comparing class numbers", name)
    tally = Tally(options.samples)
    before, new_before = work_of(host.serving(name)), work_of(model)
    with _shadows(host, name, model, tally, classes=classes) as shadows:
        _wait(shadows, tally, options, check_stop)
    active_ms, new_ms = inference_ms(work_of(host.serving(name)), before), inference_ms(work_of(model), new_before)
    if tally.failures > tally.samples * max_error_rate:
        raise RefusedError(f"it failed at {tally.failures} of the {tally.samples} samples of its shadow run")
    if tally.samples < options.samples:
        raise UndecidedError(
            f"{tally.samples} of {options.samples} samples in {options.timeout:g} s: it is tried again at a later "
            "check; where input is rare, set a longer update.shadow.timeout or fewer update.shadow.samples"
        )
    if tally.agreement < options.min_agreement:
        raise RefusedError(
            f"it agrees with the active version to {tally.agreement:.2f}, expected {options.min_agreement:g} or more"
            + (" (by class number, since the labels differ)" if classes else "")
        )
    if active_ms and new_ms > active_ms * options.max_slowdown:
        raise RefusedError(
            f"its inference takes {new_ms:.1f} ms, that of the active version {active_ms:.1f} ms: more than "
            f"{options.max_slowdown:g} times as long"
        )
    return {
        "samples": tally.samples,
        "failures": tally.failures,
        "agreement": round(tally.agreement, 4),
        "compared_by": "class" if classes else "label",
        "inference_ms": round(new_ms, 2),
        "active_inference_ms": round(active_ms, 2),
    }


def _wait(shadows: Sequence[Shadow], tally: Tally, options: ShadowOptions, check_stop: Callable[[], None]) -> None:
    """Waits until enough samples are compared or the time is over; then for the samples that are in progress.

    Raises:
        RefusedError: the new version neither answers nor fails.
    """
    deadline = time.monotonic() + options.timeout
    while not tally.wait(POLL_EVERY):
        check_stop()
        waits = [waits for shadow in shadows if (waits := shadow.waits_for()) is not None]
        if waits and max(waits) > options.answer_timeout:
            raise RefusedError(f"it has neither answered nor failed at a sample for {options.answer_timeout:g} s")
        if time.monotonic() > deadline:
            for shadow in shadows:
                shadow.close()
            if not waits:
                return


@contextmanager
def _shadows(host: Host, name: str, model: Model, tally: Tally, *, classes: bool) -> Iterator[list[Shadow]]:
    """Runs the new version on every pipeline of the model."""
    shadows = []
    for pipeline in host.pipelines(name):
        keepers = [one for one in pipeline.observers if isinstance(one, Keeper)]
        shadows.append((pipeline, Shadow(pipeline.options, model, tally, keepers, classes=classes)))
    for pipeline, shadow in shadows:
        pipeline.observers.append(shadow)
    try:
        yield [shadow for _, shadow in shadows]
    finally:
        for pipeline, shadow in shadows:
            pipeline.observers.remove(shadow)
            shadow.close()
