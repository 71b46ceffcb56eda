import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent import settings
from edge_agent.engines import Engine, Share, TensorSpec
from edge_agent.engines.pool import Pool
from edge_agent.engines.tuning import Tuning
from edge_agent.errors import ModelError
from edge_agent.models import tuning
from edge_agent.models.model import load_qualified, load_unqualified
from edge_agent.models.predictor import Predictor
from edge_agent.models.qualification import qualify
from edge_agent.models.resolve import ModelSource, resolve_model
from edge_agent.preprocess.files import read_file
from tests.sources.stage import DIGITS

TENSOR = np.zeros((1, 1), np.float32)
MOBILENET = "classify_tflite/mobilenet_v1_0.25_224_quant.tflite"


class Machine:
    """Makes engines whose inferences take a stated time.

    Args:
        seconds: of an inference, by the number of threads.
        memory: how many engines at a time it has memory for.
        one_at_a_time: whether inferences of different engines don't overlap, as on a single core.
    """

    def __init__(self, seconds: dict[int, float], memory: int = 9, *, one_at_a_time: bool = False) -> None:
        self._seconds, self._memory = seconds, memory
        self._core = threading.Lock() if one_at_a_time else None
        self.tried: list[tuple[int, int]] = []

    def load(self, tuning: Tuning) -> Engine:
        self.tried.append((tuning.engines, tuning.threads))
        if tuning.engines > self._memory:
            raise ModelError("out of memory")
        return Pool([_Waits(self._seconds[tuning.threads], self._core) for _ in range(tuning.engines)])


class _Waits:
    runtime, accelerator = "a runtime", "cpu"
    share: Share | None = None
    inputs = outputs = (TensorSpec("x", (1,), "float32"),)

    def __init__(self, seconds: float, core: "threading.Lock | None") -> None:
        self._seconds, self._core = seconds, core

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        if self._core is None:
            time.sleep(self._seconds)
        else:
            with self._core:
                time.sleep(self._seconds)
        return list(inputs)

    def close(self) -> None:
        pass


def chosen(machine: Machine, cores: int, most: int = 16, **stated: Any) -> tuple[int, int]:
    model = settings.Model(path=DIGITS, **stated)
    found = tuning.choose(model, cores, most, machine.load, TENSOR, lambda _: None)
    return found.engines, found.threads


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning.os, "sched_getaffinity", lambda _: {0, 1})  # type: ignore[attr-defined]
    monkeypatch.setattr(tuning, "SECONDS", 0.1)


# Short beside the time for which each is measured: a caller that ends first leaves the others more.
SLOW = 0.004


@pytest.mark.parametrize(
    ("machine", "most", "expected"),
    [
        (Machine({1: SLOW, 2: SLOW}), 16, (2, 1)),
        (Machine({1: SLOW, 2: SLOW / 4}), 16, (1, 2)),
        (Machine({1: SLOW, 2: SLOW}, one_at_a_time=True), 16, (1, 1)),
        (Machine({1: SLOW, 2: SLOW}, memory=1), 16, (1, 1)),
        (Machine({1: SLOW, 2: SLOW}), 1, (1, 1)),
    ],
    ids=["engines pay", "threads pay", "neither pays", "they get no memory", "the budget has none"],
)
def test_what_makes_the_most_inferences_a_second_is_chosen(
    machine: Machine, most: int, expected: tuple[int, int]
) -> None:
    assert chosen(machine, 2, most) == expected


def test_a_single_inference_takes_no_longer_for_the_sake_of_throughput(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning.os, "sched_getaffinity", lambda _: set(range(4)))  # type: ignore[attr-defined]
    assert chosen(Machine({1: SLOW, 2: SLOW / 1.5, 4: SLOW / 1.6}), 4) == (2, 2)


@pytest.mark.parametrize(
    ("stated", "tried"),
    [
        ({"engines": 1, "threads": 2}, []),
        ({"engines": 3, "threads": 1}, []),
        ({"threads": 2}, []),
        ({"threads": 1}, [(1, 1), (2, 1)]),
        ({"engines": 1}, [(1, 1), (1, 2)]),
    ],
)
def test_what_is_stated_is_not_tried_otherwise(stated: dict[str, int], tried: list[tuple[int, int]]) -> None:
    machine = Machine({1: SLOW, 2: SLOW})
    engines, threads = chosen(machine, 2, **stated)
    assert machine.tried == tried
    assert engines == stated.get("engines", engines)
    assert threads == stated.get("threads", threads)


def source(path: Path, **stated: Any) -> ModelSource:
    options = settings.Model(path=path, **stated)
    return replace(resolve_model(options, Path.cwd()), cores=2, most_engines=16)


@pytest.fixture
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_own_cache")
@pytest.mark.parametrize("file", ["digits.tflite", "digits.onnx"])
def test_a_model_serves_with_the_engines_that_are_stated_and_says_so(file: str) -> None:
    model = load_qualified("digits", source(DIGITS / file, engines=3, threads=1))
    facts = model.facts()["tuning"]
    assert (model.parallel, facts["engines"], facts["threads"], facts["int8"]) == (3, 3, 1, False)
    copies = 1 if file.endswith("onnx") else 3  # ONNX Runtime runs one copy of the weights for all
    assert model.memory == copies * model.file.total_size
    model.close()


@pytest.mark.usefixtures("_own_cache")
def test_a_uint8_model_runs_as_int8_if_it_may_and_keeps_its_name_and_its_answers(data_dir: Path) -> None:
    path = data_dir / MOBILENET
    tuned = load_qualified("photos", source(path, tune="auto", engines=1, threads=1, labels="none"))
    plain = load_unqualified("photos", source(path, labels="none"))
    assert tuned.tuning is not None
    assert tuned.tuning.int8 is not None or tuned.tuning.int8_refused
    assert tuned.identity["sha256"] == plain.identity["sha256"]
    picture = read_file(next(iter(sorted((data_dir / "images").iterdir()))))
    ours, theirs = (Predictor(model, 1, None).ask(picture).predictions for model in (tuned, plain))
    assert ours[0].class_id == theirs[0].class_id
    if (made := tuned.tuning.int8) is not None:  # one that is damaged is made again
        made.path.write_bytes(b"damaged")
        again = qualify(source(path, tune="auto", engines=1, threads=1, labels="none"), 1).tuning
        assert again is not None
        assert again.int8 is None or again.int8.sha256 == made.sha256
    for model in (tuned, plain):
        model.close()
