from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from edge_agent.counters import Settlement
from edge_agent.errors import ModelError
from edge_agent.pipeline.hang_detector import HangDetector
from edge_agent.pipeline.poison import MAX_DEATHS, MAX_KEPT, PoisonInputs
from edge_agent.samples import Sample


def message(payload: bytes = b"x", *, redelivered: bool = True, qos: int = 1, topic: str = "in") -> Sample:
    origin = {"topic": topic} | ({"redelivered": True} if redelivered else {})
    return Sample(payload, 0.0, 0.0, origin, settlement=cast("Settlement", SimpleNamespace(sender_waits=qos > 0)))


_UNENDED: list[AbstractContextManager[None]] = []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "poison.json"


def _begin(poison: PoisonInputs, sample: Sample) -> None:
    attempt = poison.attempt([sample])
    attempt.__enter__()
    _UNENDED.append(attempt)  # what nothing refers to any more ends


def dies(path: Path, sample: Sample) -> None:
    """A process that ends while a model works on an input."""
    poison = PoisonInputs(path)
    poison.refuse(sample)
    _begin(poison, sample)


def test_after_some_deaths_at_an_input_it_is_refused_once(path: Path) -> None:
    for _ in range(MAX_DEATHS):
        dies(path, message())
    for other in (message(b"y"), message(topic="elsewhere")):
        PoisonInputs(path).refuse(other)
    poison = PoisonInputs(path)
    with pytest.raises(ModelError, match=f"ended {MAX_DEATHS} times"):
        poison.refuse(message())
    assert not path.exists()
    poison.refuse(message())


def test_an_input_that_is_answered_is_forgotten(path: Path) -> None:
    dies(path, message())
    poison = PoisonInputs(path)
    assert path.exists()
    with poison.attempt([message()]):
        pass
    assert not path.exists()


def test_an_input_that_fails_is_no_death(path: Path) -> None:
    poison = PoisonInputs(path)
    with pytest.raises(ModelError), poison.attempt([message()]):
        raise ModelError("wrong shape")
    assert not path.exists()


@pytest.mark.parametrize("sample", [{"redelivered": False}, {"qos": 0}])
def test_what_is_not_suspect_is_not_recorded(path: Path, sample: dict[str, bool]) -> None:
    poison = PoisonInputs(path)
    with poison.attempt([message(**sample)]):  # type: ignore[arg-type]  # of this test
        assert not path.exists()
    assert not path.parent.exists()


def test_an_input_at_which_a_step_hangs_is_recorded_once_whether_it_is_repeated_or_not(path: Path) -> None:
    poison, detector, sample = PoisonInputs(path), HangDetector(), message(redelivered=False)
    with detector.step(sample):
        for _ in range(3):
            poison.hung(detector.samples_since(-1.0))
        assert poison.is_suspect(sample)
        assert detector.samples_since(100.0) == []
    dies(path, sample)
    dies(path, sample)
    with pytest.raises(ModelError):
        PoisonInputs(path).refuse(sample)


def test_an_end_in_order_is_no_death(path: Path) -> None:
    dies(path, message())
    poison = PoisonInputs(path)
    _begin(poison, message())
    poison.end()
    for _ in range(MAX_DEATHS - 1):
        PoisonInputs(path).refuse(message())
        dies(path, message())
    with pytest.raises(ModelError):
        PoisonInputs(path).refuse(message())


def test_a_bounded_number_is_kept(path: Path) -> None:
    poison = PoisonInputs(path)
    poison.hung([message(str(number).encode()) for number in range(2 * MAX_KEPT)])
    assert len(PoisonInputs(path)._deaths) == MAX_KEPT


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        lambda path: path.write_text("{"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"x": [1, 2]}'),
        lambda path: path.write_bytes(b"\xff" * 200_000),
    ],
)
def test_what_is_in_the_place_of_the_file_is_set_aside(path: Path, make: Callable[[Path], object]) -> None:
    path.parent.mkdir()
    make(path)
    dies(path, message())
    assert path.with_name("poison.json.damaged").exists()
    assert path.is_file()
