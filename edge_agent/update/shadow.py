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
from edge_agent.counters import Settlement
from edge_agent.errors import EdgeAgentError
from edge_agent.models.model import Model
from edge_agent.models.predictor import Predictor
from edge_agent.samples import Prediction, Sample
from edge_agent.settings.update import Shadow as ShadowOptions
from edge_agent.sources.observer import Observation
from edge_agent.update.agreement import agreement
from edge_agent.update.host import Host, RefusedError, inference_ms, work_of

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
        """The mean agreement, 0 to 1; 1 if nothing could be compared."""
        with self._changed:
            return sum(self._agreements) / len(self._agreements) if self._agreements else 1.0


class Shadow:
    """Runs the new version on samples of one pipeline, one at a time, in a thread; the pipeline never waits for it.

    Args:
        pipeline: its settings.
        model: the new version.
        tally: takes the results.
    """

    def __init__(self, pipeline: settings.Pipeline, model: Model, tally: Tally) -> None:
        self._predictor = Predictor(model, None, None, like=pipeline)
        self._task = model.decode.task
        self._tally = tally
        self._changed = threading.Condition()
        self._next: tuple[Sample, Sequence[Prediction]] | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def needs_image(self, sample: Sample) -> bool:  # noqa: ARG002 - it decodes the sample itself
        """See `ResultObserver`."""
        return False

    def on_result(self, observation: Observation) -> None:
        """Takes a sample and the active version's predictions, unless the previous sample is still in progress."""
        sample, predictions = observation.sample, observation.predictions
        with self._changed:
            if self._next is None and not self._closed:
                # A copy, since a frame's buffer may be reused; without reply and acknowledgement.
                data = copy.copy(sample.data)
                self._next = replace(sample, data=data, reply_to=None, settlement=Settlement()), predictions
                self._changed.notify_all()

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
                if self._closed or self._next is None:
                    return
                sample, predictions = self._next
            try:
                answer = self._predictor.ask(sample).predictions
            except EdgeAgentError as error:
                log.debug("shadow run: %s", error)
                self._tally.compared(None)
            except Exception:  # it counts against the new version, and must not end the agent
                log.exception("a defect in edge-agent: a sample of the shadow run failed")
                self._tally.compared(None)
            else:
                self._tally.compared(agreement(self._task, predictions, answer))
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
        options: the number of samples, the timeout and the limits.
        max_error_rate: the share of samples on which it may fail.
        check_stop: called about twice a second; raises to cancel the run.

    Raises:
        RefusedError: the version exceeds a limit.
    """
    tally = Tally(options.samples)
    before, new_before = work_of(host.serving(name)), work_of(model)
    with _shadows(host, name, model, tally):
        deadline = time.monotonic() + options.timeout
        while time.monotonic() < deadline and not tally.wait(POLL_EVERY):
            check_stop()
    active_ms, new_ms = inference_ms(work_of(host.serving(name)), before), inference_ms(work_of(model), new_before)
    if tally.failures > tally.samples * max_error_rate:
        raise RefusedError(f"it failed at {tally.failures} of the {tally.samples} samples of its shadow run")
    if tally.agreement < options.min_agreement:
        raise RefusedError(
            f"it agrees with the active version to {tally.agreement:.2f}, expected {options.min_agreement:g} or more"
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
        "inference_ms": round(new_ms, 2),
        "active_inference_ms": round(active_ms, 2),
    }


@contextmanager
def _shadows(host: Host, name: str, model: Model, tally: Tally) -> Iterator[None]:
    """Runs the new version on every pipeline of the model."""
    shadows = [(pipeline, Shadow(pipeline.options, model, tally)) for pipeline in host.pipelines(name)]
    for pipeline, shadow in shadows:
        pipeline.observers.append(shadow)
    try:
        yield
    finally:
        for pipeline, shadow in shadows:
            pipeline.observers.remove(shadow)
            shadow.close()
