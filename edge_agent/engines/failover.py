"""Failover: when a model's accelerator fails, the next one in order of preference takes over."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_agent.engines import Engine, EngineWrapper
from edge_agent.engines.batching import Batching
from edge_agent.engines.supervised import EngineLostError, ProcessEndedError, StuckError
from edge_agent.engines.tuning import Tuning
from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.system import limits
from edge_agent.system.backoff import Backoff

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

# Seconds until an accelerator that has failed is tried again: the first delay, and the longest.
RETRY_FIRST, RETRY_CEILING = 1.0, 3600.0
# Seconds of service after which the delay begins at the first one again.
STEADY = 600.0
# A call that hangs keeps its thread for ever. After this many there is no further attempt.
MAX_STUCK = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """An accelerator that a model has qualified on.

    Attributes:
        name: of the accelerator.
        load: makes an engine on it; raises ModelError.
        qualify: runs the self-test of the model on it again; raises ModelError.
        speed_up: how many times as fast as the CPU it is; None for the CPU, and where that is not known.
        tuning: how it is run there, as `info` carries it; None: with one engine.
    """

    name: str
    load: Callable[[], Engine]
    qualify: Callable[[], object]
    speed_up: float | None = None
    tuning: Tuning | None = None


@contextmanager
def _as_model_error() -> Iterator[None]:
    """What keeps a process or a thread from being started (too many of them, no memory) keeps an engine from loading.

    Raises:
        ModelError: for that reason.
    """
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        raise ModelError(limits.in_words(error)) from error


class Failover(EngineWrapper):
    """An engine on the best of several accelerators that works; any thread may call it.

    As many calls run at the same time as the engine in use allows; the others wait.

    Args:
        model: its name in the log.
        candidates: in order of preference.
        first: the engine to begin with, on one of the candidates.
        asked: names of all accelerators that were asked for, in order of preference.
        refusals: the reasons why some of those are not among the candidates, by name.

    Attributes:
        engine: the one in use.
        moved: called when another accelerator has come into use.
        moves: how often that has happened.
        runs: number of inferences so far.
        busy: seconds that they took.
    """

    def __init__(
        self,
        model: str,
        candidates: Sequence[Candidate],
        first: Batching,
        asked: Sequence[str],
        refusals: Mapping[str, str],
    ) -> None:
        self.moved: Callable[[], None] = lambda: None
        self.moves = 0
        self.runs, self.busy = 0, 0.0
        self._model = model
        self._candidates = candidates
        self.engine: Batching = first
        self._at = next(at for at, candidate in enumerate(candidates) if candidate.name == self.accelerator)
        self._asked = asked
        self._reasons = dict(refusals)
        self._since = time.monotonic()
        self._backoff = Backoff(RETRY_FIRST, RETRY_CEILING)
        self._stuck = 0
        self._restart_at = 0.0  # not before, on the monotonic clock
        self._lock = threading.Lock()  # held while another engine comes into use
        self._counting = threading.Lock()
        self._closed = threading.Event()
        self._failed = -1  # candidates up to this one are to be tried again
        self._retry: threading.Thread | None = None

    @property
    def at_once(self) -> bool | None:
        """See `Batching`."""
        return self.engine.at_once

    @property
    def size(self) -> int:
        """How many calls can run at the same time."""
        return self.engine.size

    @property
    def tuning(self) -> Tuning | None:
        """See `Candidate`."""
        return self._candidates[self._at].tuning

    @property
    def speed_up(self) -> float | None:
        """See `Candidate`."""
        return self._candidates[self._at].speed_up

    @property
    def fallback(self) -> str:
        """Why the accelerator in use is not the first of those asked for; empty if it is."""
        before = self._asked[: self._asked.index(self.accelerator)]
        return "; ".join(f"{name}: {self._reasons[name]}" for name in before if name in self._reasons)

    def run(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """One inference, on the accelerator in use or, if it fails there, on the next: see `Engine.run`.

        Raises:
            ModelError: it fails on all of them.
        """
        began = time.monotonic()
        try:
            while True:
                engine = self.engine
                try:
                    return engine.run(inputs)
                except ModelError as error:
                    with self._lock:
                        if self.engine is engine:
                            return self._run_on_next(inputs, error)
                # Another thread has met the same failure, and another engine is in use already.
        finally:
            with self._counting:
                self.runs += 1
                self.busy += time.monotonic() - began

    def retire(self) -> None:
        """Ends the attempts to use an accelerator again that has failed."""
        self._closed.set()

    def close(self) -> None:
        """Frees the model."""
        self.retire()
        with self._lock:
            self.engine.close()

    def _run_on_next(self, inputs: Sequence["NDArray[Any]"], error: ModelError) -> list["NDArray[Any]"]:
        lost = isinstance(error, EngineLostError)
        for at in range(self._at + 1, len(self._candidates)):
            try:
                stand_in = Batching(self._load(at))
            except ModelError as refusal:
                log.warning("%s: %s can't stand in: %s", self._model, self._candidates[at].name, refusal)
                continue
            try:
                outputs = stand_in.run(inputs)
            except ModelError:
                stand_in.close()
                if not lost:
                    break  # an input that fails on two accelerators is at fault itself
                continue
            failed, self._reasons[self.accelerator] = self._at, str(error)
            self._use(at, stand_in, f"since {self.accelerator}: {error}")
            self._try_again_later(failed, error)
            return outputs
        if isinstance(error, ProcessEndedError) and time.monotonic() >= self._restart_at:
            return self._run_after_restart(inputs)
        if lost:
            self._try_again_later(self._at, error)
        raise error

    def _run_after_restart(self, inputs: Sequence["NDArray[Any]"]) -> list["NDArray[Any]"]:
        """Starts the process of the engine in use again, for the same input; not before the back-off has passed."""
        if time.monotonic() - self._since > STEADY:
            self._backoff.reset()
        self._restart_at = time.monotonic() + self._backoff.delay()
        try:
            engine = Batching(self._load(self._at))
            try:
                outputs = engine.run(inputs)
            except ModelError:
                engine.close()
                raise
        except EngineLostError as error:
            self._try_again_later(self._at, error)
            raise
        before, self.engine, self._since = self.engine, engine, time.monotonic()
        before.close()
        log.warning("%s: its process on %s had ended: it has been started again", self._model, self.accelerator)
        return outputs

    def _load(self, at: int) -> Engine:
        with _as_model_error():
            engine = self._candidates[at].load()
        if [(one.shape, one.dtype) for one in engine.inputs] != [(one.shape, one.dtype) for one in self.inputs]:
            engine.close()
            raise ModelError("its model has other inputs")
        return engine

    def _use(self, at: int, serving: Batching, why: str) -> None:
        before, self.engine, self._at = self.engine, serving, at
        log.warning("%s: runs on %s from now on, %s", self._model, self.accelerator, why)
        self.moves += 1
        before.close()
        self.moved()

    def _try_again_later(self, failed: int, error: ModelError) -> None:
        self._stuck += isinstance(error, StuckError)
        self._failed = max(self._failed, failed)
        if time.monotonic() - self._since > STEADY:
            self._backoff.reset()
        if self._stuck > MAX_STUCK:
            log.error(
                "%s: %d calls hang in drivers: no further attempt before the next start", self._model, self._stuck
            )
        elif self._retry is None:
            self._retry = threading.Thread(target=self._try_again, name=f"{self._model} retry", daemon=True)
            self._retry.start()

    def _try_again(self) -> None:
        """The retry thread: tries the accelerators that have failed, the best first, until that one is in use."""
        while not self._closed.wait(self._backoff.delay()):
            for at in range(self._failed + 1):
                if self._regain(at):
                    break
            with self._lock:
                if self._failed < 0:
                    self._retry = None
                    return

    def _regain(self, at: int) -> bool:
        candidate = self._candidates[at]
        try:
            with _as_model_error():
                candidate.qualify()  # in a process of its own: it may hang or crash again
            engine = self._load(at)
        except EdgeAgentError as error:
            log.info("%s: %s is not back yet: %s", self._model, candidate.name, error)
            return False
        with self._lock:
            for one in self._candidates[at:]:
                self._reasons.pop(one.name, None)
            self._failed, self._since = at - 1, time.monotonic()
            self._use(at, Batching(engine), "since it proves itself again")
        return True
