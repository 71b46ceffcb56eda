"""The contract of engines on the stand-in of a chip that reads digits, in the process of the real one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent import settings
from edge_agent.engines import Engine, load_engine
from edge_agent.errors import ModelError
from edge_agent.testing.engine_contract import CLASSES, EngineContract, Setup, identity
from tests.modelfile.hef_bytes import hef
from tests.stand_ins import interpreter
from tests.stand_ins.control import Control


@dataclass(frozen=True)
class OnAChip(Setup):
    """The chip takes pixels, uint8 (1, 32, 24, 1), and its library gives real numbers."""

    file: Path = Path()

    @property
    def path(self) -> Path:
        return self.file

    @property
    def dtype(self) -> str:
        return "float32"

    def tensor(self, pixels: NDArray[Any]) -> NDArray[Any]:
        return pixels[..., None].astype(np.uint8)


class TestOnAHailo(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def setup(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
        folder = tmp_path_factory.mktemp("hailo")
        file = folder / "digits.hef"
        file.write_bytes(hef(2, "HAILO8L", "digits", classes=len(CLASSES)))
        python = interpreter.make(folder / "system", with_runtimes=True)
        chip = settings.Chip(chip="hailo", options={"python": str(python)})
        with pytest.MonkeyPatch.context() as patch:
            for key, value in Control(folder).environment.items():
                patch.setenv(key, value)
            yield OnAChip(lambda path: load_engine(identity(path), chip, 1), "hef", batches=False, file=file)

    def test_it_names_its_runtime_and_what_it_runs_on(self, engine: Engine, setup: Setup) -> None:
        del setup
        assert engine.runtime == "HailoRT 4.23.0"
        assert engine.accelerator.startswith("hailo ")
        assert engine.share is None

    def test_it_describes_its_tensors(self, engine: Engine, setup: Setup) -> None:
        [given], [made] = engine.inputs, engine.outputs
        assert (given.name, given.shape, given.dtype) == ("digits/input_layer1", (1, 32, 24, 1), "uint8")
        assert (made.name, made.shape, made.dtype) == ("digits/softmax1", (1, len(CLASSES)), "float32")
        assert (given.scale, made.scale) == (0, 0)
        assert setup.noise().dtype == "uint8"

    def test_a_file_that_cannot_be_loaded_is_refused_in_one_sentence(self, setup: Setup, tmp_path: Path) -> None:
        cut = tmp_path / "cut.hef"
        cut.write_bytes(setup.path.read_bytes()[:60])
        for path in cut, tmp_path / "gone.hef":
            with pytest.raises(ModelError) as caught:
                setup.load(path)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)
