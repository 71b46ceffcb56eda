"""A new version runs beside the active one: on the same live input, without a word to anybody, and is compared."""

import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from edge_agent import settings
from edge_agent.errors import EdgeAgentError
from edge_agent.models.loading import key_of
from edge_agent.models.model import Model
from edge_agent.models.predictor import Predictor
from edge_agent.samples import Prediction, Sample
from edge_agent.settings.update import Shadow as ShadowOptions
from edge_agent.sources.observer import Observation
from edge_agent.update.agreement import agreement
from edge_agent.update.host import Host, Models, RefusedError, inference_ms, work_of

POLL_EVERY = 0.5


class Tally:
    """What the comparison has shown so far, from any thread.

    Args:
        samples: how many are wanted.
    """

    def __init__(self, samples: int) -> None:
        self._wanted = samples
        self._changed = threading.Condition()
        self._agreements: list[float] = []
        self.samples = self.failures = 0

    def compared(self, agreement: float | None) -> None:
        """A sample has been through both; None if the new version has failed at it."""
        with self._changed:
            self.samples += 1
            if agreement is None:
                self.failures += 1
            else:
                self._agreements.append(agreement)
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Whether all samples that are wanted have been compared, after so many seconds at the most."""
        with self._changed:
            return self._changed.wait_for(lambda: self.samples >= self._wanted, timeout)

    @property
    def agreement(self) -> float:
        """On average, 0 to 1; 1 if nothing could be compared."""
        with self._changed:
            return sum(self._agreements) / len(self._agreements) if self._agreements else 1.0


class Shadow:
    """Has the new version answer samples of one pipeline as well, one at a time, never making the pipeline wait.

    Args:
        pipeline: its settings.
        model: the new version.
        tally: of the comparison.
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
        """Takes what the active version predicts for a sample, if the sample before is done."""
        sample, predictions = observation.sample, observation.predictions
        with self._changed:
            if self._next is None and not self._closed:
                # A frame's memory may be used again for the next one. Nobody is answered, nothing is acknowledged.
                data = copy.copy(sample.data)
                self._next = replace(sample, data=data, reply_to=None, on_done=None), predictions
                self._changed.notify_all()

    def on_end(self) -> None:
        """There will be no more samples."""

    def close(self) -> None:
        """Takes no more samples; the one that is being answered is finished."""
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
            except EdgeAgentError:
                self._tally.compared(None)
            else:
                self._tally.compared(agreement(self._task, predictions, answer))
            with self._changed:
                self._next = None


def run_beside(
    host: Host,
    name: str,
    models: Models,
    options: ShadowOptions,
    max_error_rate: float,
    check_stop: Callable[[], None],
) -> dict[str, Any]:
    """Has a new version run beside the active one for as long as is stated; returns what that has shown.

    Args:
        host: the agent.
        name: of the model.
        models: the new version.
        options: how long, and what is asked of it.
        max_error_rate: the share of samples at which it may fail.
        check_stop: called about twice a second; what it raises ends the run.

    Raises:
        RefusedError: it is not good enough.
    """
    tally = Tally(options.samples)
    before, new_before = work_of(host.serving(name)), work_of(models)
    with _shadows(host, name, models, tally):
        deadline = time.monotonic() + options.timeout
        while time.monotonic() < deadline and not tally.wait(POLL_EVERY):
            check_stop()
    active_ms, new_ms = inference_ms(work_of(host.serving(name)), before), inference_ms(work_of(models), new_before)
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
def _shadows(host: Host, name: str, models: Models, tally: Tally) -> Iterator[None]:
    """The new version answers samples of every pipeline of the model."""
    shadows = [
        (pipeline, Shadow(pipeline.options, models[key_of(pipeline.options)], tally))
        for pipeline in host.pipelines(name)
    ]
    for pipeline, shadow in shadows:
        pipeline.observers.append(shadow)
    try:
        yield
    finally:
        for pipeline, shadow in shadows:
            pipeline.observers.remove(shadow)
            shadow.close()
