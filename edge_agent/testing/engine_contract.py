"""What every engine promises, whatever runs the model, as tests for pytest.

A plug-in's author subclasses `EngineContract` in a test module, with a fixture `setup`:

    class TestMine(EngineContract):
        @pytest.fixture(scope="class")
        def setup(self):
            return Setup(plugged_in("mine"), "onnx", accelerator="mine", runtimes={"Mine"})
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent import settings
from edge_agent.engines import Engine, load_engine
from edge_agent.errors import ModelError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.models.shipped import shipped
from edge_agent.preprocess.opencv import cv2

# The bundled digit reader in each format. TFLite: int8 (n, 32, 24, 1); ONNX: float32 (n, 1, 32, 24).
MODELS = {"tflite": shipped("digits/digits.tflite"), "onnx": shipped("digits/digits.onnx")}
CLASSES = shipped("digits/labels.txt").read_text().split()
GOLDEN = sorted(shipped("digits/golden").glob("*.png"))


def hashed(path: Path) -> str:
    """The sha256 of a file, also of one that is not there."""
    return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()


def identity(path: Path) -> FileIdentity:
    """A file for an engine, of which nothing has been read."""
    return FileIdentity(path, path.suffix[1:], hashed(path), path.stat().st_size if path.exists() else 0)


@dataclass(frozen=True)
class Setup:
    """An engine and how to make it.

    Attributes:
        load: a new engine for a model file.
        format: of the model file, a key of `MODELS`.
        accelerator: what the engine says that it runs on.
        batches: whether it takes several samples at once.
        runtimes: names that its runtime may have.
        runtime_tolerance: by how much outputs of real numbers may differ between runs of different batches.
    """

    load: Callable[[Path], Engine]
    format: str
    accelerator: str = "cpu"
    batches: bool = True
    runtimes: Collection[str] = ("LiteRT", "tflite-runtime", "ONNX Runtime")
    runtime_tolerance: float = 1e-5

    @property
    def path(self) -> Path:
        """The bundled digit reader in the format."""
        return MODELS[self.format]

    @property
    def dtype(self) -> str:
        """Type of its input and output."""
        return "int8" if self.format == "tflite" else "float32"

    @property
    def tolerance(self) -> float:
        """By how much outputs may differ where the computation is arranged in another way."""
        return 1 if self.dtype == "int8" else self.runtime_tolerance

    def tensor(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The input for grey pixels (n, 32, 24), 0 to 255: NHWC int8 or NCHW float32."""
        if self.dtype == "int8":
            return (pixels[..., None].astype(np.int16) - 128).astype(np.int8)
        return (pixels[:, None] / 255).astype(np.float32)

    def noise(self, batch: int = 1, seed: int = 0) -> NDArray[Any]:
        """An input of random pixels."""
        return self.tensor(np.random.default_rng(seed).integers(0, 256, (batch, 32, 24)))


def plugged_in(name: str) -> Callable[[Path], Engine]:
    """Loads models with the plug-in of a name; the package that brings it must be installed."""
    return lambda path: load_engine(identity(path), settings.Plugin(plugin=name), 1)


def golden(path: Path) -> NDArray[Any]:
    """A golden sample as grey pixels (1, 32, 24)."""
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return cv2.resize(picture, (24, 32), interpolation=cv2.INTER_AREA)[None]


def refusal(engine: Engine, inputs: Sequence[NDArray[Any]]) -> str:
    """What an engine says to inputs that it has to refuse."""
    with pytest.raises(ModelError) as caught:
        engine.run(inputs)
    return str(caught.value)


class EngineContract:
    """Of every engine. A subclass has a fixture `setup`, with the scope of the class."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, setup: Setup) -> Iterator[Engine]:
        one = setup.load(setup.path)
        yield one
        one.close()

    def test_known_inputs_give_known_outputs(self, engine: Engine, setup: Setup) -> None:
        assert len(GOLDEN) > 10
        for path in GOLDEN:
            [scores] = engine.run([setup.tensor(golden(path))])
            assert CLASSES[int(scores[0].argmax())] == path.name.partition("_")[0]

    def test_it_names_its_runtime_and_what_it_runs_on(self, engine: Engine, setup: Setup) -> None:
        name, _, version = engine.runtime.rpartition(" ")
        assert name in setup.runtimes
        assert version[0].isdigit()
        assert engine.accelerator == setup.accelerator
        assert engine.share is None or 0 < engine.share.on <= engine.share.of

    def test_it_describes_its_tensors(self, engine: Engine, setup: Setup) -> None:
        [given], [made] = engine.inputs, engine.outputs
        assert given.name
        assert made.name
        assert given.shape[1:] == setup.noise().shape[1:]
        assert given.shape[0] in (1, -1)
        assert made.shape[1:] == (len(CLASSES),)
        assert given.dtype == made.dtype == setup.dtype
        assert (given.scale > 0) == (made.scale > 0) == (setup.dtype == "int8")

    def test_the_description_does_not_change_with_what_is_run(self, engine: Engine, setup: Setup) -> None:
        before = engine.inputs, engine.outputs, engine.runtime, engine.accelerator
        engine.run([setup.noise()])
        refusal(engine, [np.zeros((1, 7, 5, 3), setup.dtype)])
        if setup.batches:
            engine.run([setup.noise(3)])
        assert (engine.inputs, engine.outputs, engine.runtime, engine.accelerator) == before

    def test_the_same_input_gives_the_same_output(self, engine: Engine, setup: Setup) -> None:
        [first] = engine.run([setup.noise()])
        engine.run([setup.noise(seed=1)])
        [second] = engine.run([setup.noise()])
        assert first.shape == (1, len(CLASSES))
        assert first.dtype == setup.dtype
        assert (first == second).all()

    def test_an_output_belongs_to_the_caller(self, setup: Setup) -> None:
        engine = setup.load(setup.path)
        [first] = engine.run([setup.noise()])
        kept = first.copy()
        [other] = engine.run([setup.noise(seed=1)])
        assert (other != first).any()
        other[:] = 0
        assert (engine.run([setup.noise()])[0] == kept).all()
        engine.close()
        del engine
        assert (first == kept).all()

    def test_an_input_is_not_modified_and_may_be_read_only_or_a_view(self, engine: Engine, setup: Setup) -> None:
        given = setup.noise()
        before, [expected] = given.copy(), engine.run([given])
        given.flags.writeable = False
        engine.run([given])
        assert (given == before).all()
        doubled = np.repeat(given, 2, axis=-1)
        assert (engine.run([doubled[..., ::2]])[0] == expected).all()

    @pytest.mark.parametrize("batch", [2, 5, 1])
    def test_a_batch_gives_what_its_items_give(self, batch: int, engine: Engine, setup: Setup) -> None:
        given = setup.noise(batch)
        apart = np.concatenate([engine.run([given[at : at + 1]])[0] for at in range(batch)])
        if setup.batches or batch == 1:
            assert engine.run([given])[0] == pytest.approx(apart, abs=setup.tolerance)
        else:
            assert refusal(engine, [given]).startswith("inference failed: ")

    @pytest.mark.parametrize("shape", [(1, 7, 5, 3), (1, 1), (), (0,)])
    def test_a_wrong_shape_is_refused_and_the_engine_goes_on(
        self, shape: tuple[int, ...], engine: Engine, setup: Setup
    ) -> None:
        [before] = engine.run([setup.noise()])
        said = refusal(engine, [np.zeros(shape, setup.dtype)])
        assert said.startswith("inference failed: ")
        assert "\n" not in said
        assert (engine.run([setup.noise()])[0] == before).all()

    def test_a_wrong_type_is_refused_and_the_engine_goes_on(self, engine: Engine, setup: Setup) -> None:
        [before] = engine.run([setup.noise()])
        assert refusal(engine, [setup.noise().astype("float64")]).startswith("inference failed: ")
        assert (engine.run([setup.noise()])[0] == before).all()

    @pytest.mark.parametrize("count", [0, 2])
    def test_a_wrong_number_of_inputs_is_refused_and_the_engine_goes_on(
        self, count: int, engine: Engine, setup: Setup
    ) -> None:
        [before] = engine.run([setup.noise()])
        assert refusal(engine, [setup.noise()] * count).startswith("inference failed: ")
        assert (engine.run([setup.noise()])[0] == before).all()

    def test_it_may_be_called_from_any_thread_one_at_a_time(self, engine: Engine, setup: Setup) -> None:
        [here] = engine.run([setup.noise()])
        found: list[NDArray[Any]] = []
        for _ in range(3):
            with ThreadPoolExecutor(1) as another:
                found += another.submit(engine.run, [setup.noise()]).result()
        assert len(found) == 3
        assert all((one == here).all() for one in found)

    def test_two_engines_of_one_file_are_independent(self, engine: Engine, setup: Setup) -> None:
        [expected] = engine.run([setup.noise()])
        second = setup.load(setup.path)
        assert (second.run([setup.noise()])[0] == expected).all()
        second.close()
        assert (engine.run([setup.noise()])[0] == expected).all()

    def test_to_close_twice_is_to_close_once_and_afterwards_it_refuses(self, setup: Setup) -> None:
        engine = setup.load(setup.path)
        engine.run([setup.noise()])
        engine.close()
        engine.close()
        assert "\n" not in refusal(engine, [setup.noise()])

    def test_a_file_that_cannot_be_loaded_is_refused_in_one_sentence(self, setup: Setup, tmp_path: Path) -> None:
        cut = tmp_path / f"cut.{setup.format}"
        cut.write_bytes(setup.path.read_bytes()[:1000])
        with pytest.raises(ModelError, match="refuses the model") as caught:
            setup.load(cut)
        assert "\n" not in str(caught.value)
        with pytest.raises(ModelError, match=r"gone\.[a-z]+: can't be read: No such file"):
            setup.load(tmp_path / f"gone.{setup.format}")

    def test_a_file_that_is_another_than_the_one_that_was_checked_is_refused(
        self, setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / f"other.{setup.format}"
        shutil.copy(setup.path, path)
        monkeypatch.setattr("edge_agent.testing.engine_contract.hashed", lambda _: "0" * 64)
        with pytest.raises(ModelError, match="has changed since it was checked"):
            setup.load(path)

    def test_a_file_that_is_truncated_or_overwritten_while_it_serves_changes_nothing(
        self, setup: Setup, tmp_path: Path
    ) -> None:
        path = tmp_path / f"model.{setup.format}"
        shutil.copy(setup.path, path)
        engine, noise = setup.load(path), setup.noise()
        [before] = engine.run([noise])
        with path.open("r+b") as file:
            file.write(os.urandom(path.stat().st_size))
            file.flush()
            assert np.array_equal(engine.run([noise])[0], before)
            file.truncate(0)
        assert np.array_equal(engine.run([noise])[0], before)
        engine.close()
