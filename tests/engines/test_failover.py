import errno
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.engines import Engine, Share, TensorSpec, failover
from edge_agent.engines.batching import Batching
from edge_agent.engines.failover import Candidate, Failover
from edge_agent.engines.supervised import EngineLostError, ProcessEndedError, StuckError
from edge_agent.errors import ModelError
from tests.broker import wait_until

GIVEN = [np.zeros(1, np.float32)]
BROKEN = ModelError("inference failed: it is broken")
STUCK = StuckError("gives no answer for 5 s")


class Stage:
    """An accelerator that does as it is told.

    Attributes:
        fault: what its engine raises; None: it answers with its number.
        unqualified: why it does not qualify.
        largest: the most samples that it takes at once.
        loaded, closed: how many engines have been.
        refused: how many batches were too large for it.
    """

    share: Share | None = None
    runtime = "a runtime"
    inputs = outputs = (TensorSpec("x", (1,), "float32"),)

    def __init__(self, accelerator: str, answer: int) -> None:
        self.accelerator = accelerator
        self.fault: ModelError | None = None
        self.unqualified: ModelError | None = None
        self.largest = 100
        self.loaded = self.closed = self.refused = 0
        self._answer = answer

    def load(self) -> Engine:
        self.loaded += 1
        return self

    def qualify(self) -> None:
        if self.unqualified:
            raise self.unqualified

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        if self.fault:
            raise self.fault
        [batch] = inputs
        if len(batch) > self.largest:
            self.refused += 1
            raise ModelError(f"inference failed: it takes {self.largest} at once")
        return [np.full(len(batch), self._answer)]

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(failover, "RETRY_CEILING", 0.02)


class Scene:
    """A failover engine of `npu`, `gpu` and `cpu`, of which `npu` serves."""

    def __init__(self, refused: dict[str, str] | None = None) -> None:
        self.npu, self.gpu, self.cpu = (Stage(name, at) for at, name in enumerate(("npu", "gpu", "cpu")))
        stages = [one for one in (self.npu, self.gpu, self.cpu) if one.accelerator not in (refused or {})]
        candidates = [Candidate(one.accelerator, one.load, one.qualify) for one in stages]
        self.failover = Failover("it", candidates, Batching(stages[0].load()), ["npu", "gpu", "cpu"], refused or {})
        self.moved = 0
        self.failover.moved = self._move

    def _move(self) -> None:
        self.moved += 1

    def answer(self) -> int:
        return int(self.failover.run(GIVEN)[0][0])

    def answers(self, count: int) -> list[int]:
        """To a batch."""
        return [int(answer) for answer in self.failover.run([np.zeros(count, np.float32)])[0]]

    def unqualified(self, *stages: Stage) -> None:
        for stage in stages:
            stage.unqualified = ModelError("not yet")


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_first_serves_as_long_as_it_can(scene: Scene) -> None:
    assert [scene.answer() for _ in range(3)] == [0, 0, 0]
    assert (scene.failover.accelerator, scene.failover.fallback, scene.failover.moves) == ("npu", "", 0)
    assert scene.gpu.loaded == scene.cpu.loaded == 0


@pytest.mark.parametrize("fault", [BROKEN, STUCK])
def test_the_next_answers_the_same_input_and_goes_on(fault: ModelError, scene: Scene) -> None:
    scene.unqualified(scene.npu)
    scene.npu.fault = fault
    assert [scene.answer(), scene.answer()] == [1, 1]
    assert (scene.failover.accelerator, scene.failover.fallback) == ("gpu", f"npu: {fault}")
    assert (scene.failover.moves, scene.moved, scene.npu.closed) == (1, 1, 1)
    scene.failover.close()


def test_what_fails_on_the_next_as_well_is_the_fault_of_the_input(scene: Scene) -> None:
    scene.npu.fault = scene.gpu.fault = BROKEN
    with pytest.raises(ModelError, match="it is broken"):
        scene.answer()
    scene.npu.fault = None
    assert (scene.answer(), scene.failover.moves, scene.gpu.closed) == (0, 0, 1)


def test_one_that_is_lost_is_left_even_if_the_next_fails(scene: Scene) -> None:
    scene.unqualified(scene.npu)
    scene.npu.fault, scene.gpu.fault = STUCK, BROKEN
    assert (scene.answer(), scene.failover.accelerator) == (2, "cpu")
    scene.failover.close()


def test_an_accelerator_that_proves_itself_again_serves_again(scene: Scene) -> None:
    scene.npu.fault = BROKEN
    scene.unqualified(scene.npu)
    scene.answer()
    scene.npu.fault = scene.npu.unqualified = None
    wait_until(lambda: scene.failover.accelerator == "npu", 5, "the first serves again")
    assert (scene.answer(), scene.failover.fallback, scene.failover.moves, scene.moved) == (0, "", 2, 2)


def test_on_the_way_back_the_second_best_serves_until_the_best_does(scene: Scene) -> None:
    scene.unqualified(scene.npu, scene.gpu)
    scene.npu.fault = BROKEN
    scene.answer()
    scene.gpu.fault = BROKEN
    assert scene.answer() == 2
    scene.gpu.fault = scene.gpu.unqualified = None
    wait_until(lambda: scene.failover.accelerator == "gpu", 5, "the second serves again")
    assert scene.failover.fallback == f"npu: {BROKEN}"
    scene.npu.fault = scene.npu.unqualified = None
    wait_until(lambda: scene.failover.accelerator == "npu", 5, "the first serves again")
    assert scene.failover.fallback == ""


def test_the_only_one_is_loaded_anew_when_it_is_lost() -> None:
    scene = Scene({"gpu": "not here", "cpu": "not here"})
    scene.npu.fault = EngineLostError("its process has crashed (SIGSEGV)")
    with pytest.raises(ModelError, match="SIGSEGV"):
        scene.answer()
    scene.npu.fault = None
    wait_until(lambda: scene.npu.loaded > 1, 5, "it is loaded anew")
    assert scene.answer() == 0


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("can't start new thread"), MemoryError()]
)
def test_an_engine_that_can_not_be_started_for_a_limit_of_the_system_is_tried_again(error: Exception) -> None:
    scene = Scene({"gpu": "not here", "cpu": "not here"})
    errors = [error, error]

    def limited() -> None:
        if errors:
            raise errors.pop()

    candidates = [Candidate("npu", scene.npu.load, limited)]
    engine = Failover("it", candidates, Batching(scene.npu.load()), ["npu"], {})
    scene.npu.fault = EngineLostError("its process has crashed (SIGSEGV)")
    with pytest.raises(ModelError, match="SIGSEGV"):
        engine.run(GIVEN)
    scene.npu.fault = None
    wait_until(lambda: not errors and engine.moves == 1, 5, "it serves again")
    assert engine.run(GIVEN)[0][0] == 0


class Process:
    """The process of an isolated engine, the only one of a model; it ends at some inputs."""

    share: Share | None = None
    runtime, accelerator = "a runtime", "npu"
    inputs = outputs = (TensorSpec("x", (1,), "float32"),)

    def __init__(self) -> None:
        self.killed = False

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        self.killed = self.killed or bool(inputs[0][0] < 0)
        if self.killed:
            raise ProcessEndedError("its process has crashed (SIGKILL)")
        return [inputs[0]]

    def close(self) -> None:
        self.killed = True


def test_the_only_process_is_started_again_for_the_same_input_with_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "RETRY_FIRST", 1000.0)
    monkeypatch.setattr(failover, "RETRY_CEILING", 1000.0)
    started: list[Process] = []

    def load() -> Engine:
        started.append(Process())
        return started[-1]

    engine = Failover("it", [Candidate("npu", load, lambda: None)], Batching(load()), ["npu"], {})
    assert engine.run(GIVEN) == GIVEN
    started[-1].killed = True
    assert engine.run(GIVEN) == GIVEN
    assert engine.run(GIVEN) == GIVEN
    assert (len(started), engine.moves) == (2, 0)
    started[-1].killed = True
    for _ in range(3):
        with pytest.raises(EngineLostError):
            engine.run(GIVEN)
    assert len(started) == 2
    engine.retire()


def test_an_input_at_which_the_process_ends_again_fails_and_the_next_is_served() -> None:
    engine = Failover("it", [Candidate("npu", Process, lambda: None)], Batching(Process()), ["npu"], {})
    with pytest.raises(EngineLostError):
        engine.run([np.full(1, -1, np.float32)])

    def served() -> bool:
        try:
            return engine.run(GIVEN) == GIVEN
        except EngineLostError:
            return False

    wait_until(served, 10, "it serves again")
    engine.retire()


def test_what_hangs_too_often_is_not_tried_again(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(failover.MAX_STUCK + 1):
        wait_until(lambda: scene.failover.accelerator == "npu", 5, "the first serves again")
        scene.npu.fault = STUCK
        assert scene.answer() == 1
        scene.npu.fault = None
    assert "it: 4 calls hang in drivers: no further attempt before the next start" in caplog.text
    assert scene.failover.accelerator == "gpu"


def test_who_is_closed_tries_nothing_more(scene: Scene) -> None:
    scene.npu.fault = BROKEN
    scene.unqualified(scene.npu)
    scene.answer()
    scene.failover.close()
    wait_until(lambda: not any(one.name == "it retry" for one in threading.enumerate()), 5, "the attempts end")


def test_what_was_refused_at_the_start_is_told_only_of_those_before_the_one_in_use() -> None:
    assert Scene({"gpu": "not here"}).failover.fallback == ""
    assert Scene({"npu": "not here"}).failover.fallback == "npu: not here"


def test_a_stand_in_with_other_inputs_is_left_out(scene: Scene) -> None:
    scene.unqualified(scene.npu)
    scene.npu.fault = BROKEN
    scene.gpu.inputs = (TensorSpec("x", (1,), "int8"),)
    assert scene.answer() == 2
    scene.failover.close()


def test_one_that_takes_no_batch_is_given_the_samples_one_by_one_and_that_does_not_count_against_it(
    scene: Scene,
) -> None:
    scene.npu.largest = 1
    assert [scene.answers(3), scene.answers(3), scene.answers(2)] == [[0, 0, 0], [0, 0, 0], [0, 0]]
    assert (scene.npu.refused, scene.failover.moves, scene.failover.at_once) == (1, 0, False)


def test_whether_it_takes_a_batch_is_asked_of_the_one_in_use(scene: Scene) -> None:
    scene.unqualified(scene.npu)
    assert (scene.answers(2), scene.failover.at_once) == ([0, 0], True)
    scene.npu.fault, scene.gpu.largest = BROKEN, 1
    assert [scene.answers(3), scene.answers(3)] == [[1, 1, 1], [1, 1, 1]]
    assert (scene.failover.accelerator, scene.failover.moves, scene.failover.at_once) == ("gpu", 1, False)
    scene.npu.fault = scene.npu.unqualified = None
    wait_until(lambda: scene.failover.accelerator == "npu", 5, "the first serves again")
    assert (scene.answers(2), scene.failover.at_once) == ([0, 0], True)


def test_one_that_hangs_on_a_batch_is_not_asked_again(scene: Scene) -> None:
    scene.unqualified(scene.npu)
    scene.npu.fault = STUCK
    assert (scene.answers(2), scene.failover.accelerator, scene.npu.closed) == ([1, 1], "gpu", 1)
    scene.failover.close()


def test_a_sample_that_fails_does_not_turn_batches_off(scene: Scene) -> None:
    scene.npu.fault = scene.gpu.fault = BROKEN
    with pytest.raises(ModelError, match="it is broken"):
        scene.answers(2)
    scene.npu.fault = None
    assert (scene.answers(2), scene.failover.at_once) == ([0, 0], True)
