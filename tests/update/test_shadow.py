"""What a shadow run says of a new version: without evidence nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.errors import ModelError
from edge_agent.samples import Prediction, Sample
from edge_agent.settings.update import Shadow as Options
from edge_agent.sources.observer import Observation
from edge_agent.update import shadow
from edge_agent.update.host import RefusedError, UndecidedError
from tests.broker import wait_until

CAT = [Prediction("cat", 0, 0.9)]
LABELS = ("cat", "dog")


class Device:
    """A model in service in one pipeline, and a new version that answers as a test wants.

    Args:
        ask: answers in place of the new version.
        labels: of the new version.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], list[Prediction]], labels: tuple[str, ...] = LABELS
    ) -> None:
        predictor = SimpleNamespace(ask=lambda _: SimpleNamespace(predictions=ask()))
        monkeypatch.setattr(shadow, "Predictor", lambda *_, **__: predictor)
        monkeypatch.setattr(shadow, "POLL_EVERY", 0.01)
        self.lab: Any = SimpleNamespace(options=None, observers=[])
        self._new = _model(labels)

    def serving(self, _: str) -> Any:
        return _model(LABELS)

    def pipelines(self, _: str) -> list[Any]:
        return [self.lab]

    @contextmanager
    def input(self) -> Iterator[None]:
        """Samples come all the time."""
        ended = threading.Event()

        def send() -> None:
            while not ended.wait(0.005):
                for observer in list(self.lab.observers):
                    observer.on_result(Observation("lab", 1, Sample(b"", 0.0, 0.0, {}), CAT, None, False))

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def run(self, options: Options) -> dict[str, Any]:
        host: Any = self
        return shadow.run_beside(host, "pets", self._new, options, 0.05, lambda: None)


def _model(labels: tuple[str, ...]) -> Any:
    return SimpleNamespace(labels=labels, runs=0, busy=0.0, decode=SimpleNamespace(task="classification"))


def options(samples: int = 3, timeout: float = 20.0, answer_timeout: float = 20.0) -> Options:
    return Options.model_construct(samples=samples, timeout=timeout, answer_timeout=answer_timeout)


def test_without_samples_a_version_is_undecided_and_not_in_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, lambda: CAT)
    with pytest.raises(UndecidedError, match="0 of 3 samples"):
        device.run(options(timeout=0.05))
    assert device.lab.observers == []


def test_with_fewer_samples_than_stated_a_version_is_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch, lambda: CAT)
    with device.input(), pytest.raises(UndecidedError):
        device.run(options(samples=1_000_000, timeout=0.1))


def test_a_version_that_neither_answers_nor_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for timeout in 20.0, 0.05:  # also if the time for the samples is over first
        hangs = threading.Event()
        device = Device(monkeypatch, lambda hangs=hangs: hangs.wait(20) and [])  # type: ignore[misc]  # a default of a lambda
        with device.input(), pytest.raises(RefusedError, match="neither answered nor failed"):
            device.run(options(timeout=timeout, answer_timeout=0.2))
        hangs.set()


def test_what_is_in_progress_when_the_time_is_over_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers = threading.Event(), threading.Event()

    def ask() -> list[Prediction]:
        asked.set()
        assert answers.wait(20)
        return CAT

    device, found = Device(monkeypatch, ask), []
    thread = threading.Thread(target=lambda: found.append(device.run(options(samples=1, timeout=0.05))))
    with device.input():
        thread.start()
        assert asked.wait(20)
    (observer,) = device.lab.observers
    wait_until(lambda: observer._closed, 20, "the time is over")
    answers.set()
    thread.join(20)
    assert found[0]["samples"] == 1


def test_a_version_that_fails_is_refused_however_few_samples_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[Prediction]:
        raise ModelError("a fault")

    device = Device(monkeypatch, fail)
    with device.input(), pytest.raises(RefusedError, match="it failed at "):
        device.run(options(samples=1_000_000, timeout=0.2))


@pytest.mark.parametrize(
    ("labels", "label", "compared_by"),
    [(LABELS, "cat", "label"), (("cat, Felis catus", "dog, Canis familiaris"), "cat, Felis catus", "class")],
)
def test_a_version_with_other_spellings_is_compared_by_class_and_that_is_said(
    labels: tuple[str, ...], label: str, compared_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(monkeypatch, lambda: [Prediction(label, 0, 0.8)], labels)
    with device.input():
        found = device.run(options())
    assert (found["agreement"], found["compared_by"]) == (1.0, compared_by)
