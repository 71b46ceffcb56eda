"""One contract, held by every engine; each is asked with models of its own format."""

import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.engines import Engine, load_engine
from edge_agent.errors import ModelError
from edge_agent.models.shipped import shipped
from edge_agent.settings import AcceleratorName


@dataclass(frozen=True)
class Case:
    """A model file and what is known of it.

    Attributes:
        path: the bundled digit reader in this format.
        shape: of its input, without the batch.
        dtype: of its input and output.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def format(self) -> str:
        return self.path.suffix[1:]

    def load(self, accelerator: AcceleratorName = "cpu", threads: int = 1, path: Path | None = None) -> Engine:
        return load_engine(path or self.path, self.format, accelerator, threads)

    def noise(self, batch: int = 1, seed: int = 0) -> NDArray[Any]:
        values = np.random.default_rng(seed).integers(-128, 128, (batch, *self.shape))
        return values.astype(self.dtype) if self.dtype == "int8" else ((values + 128) / 255).astype(self.dtype)


CASES = [
    Case(shipped("digits/digits.tflite"), (32, 24, 1), "int8"),
    Case(shipped("digits/digits.onnx"), (1, 32, 24), "float32"),
]


@pytest.fixture(params=CASES, ids=[case.format for case in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    one: Case = request.param
    return one


@pytest.fixture
def engine(case: Case) -> Engine:
    return case.load()


def test_it_says_what_it_is_and_what_it_runs_on(engine: Engine) -> None:
    name, _, version = engine.runtime.rpartition(" ")
    assert name in {"LiteRT", "tflite-runtime", "ONNX Runtime"}
    assert version[0].isdigit()
    assert (engine.accelerator, engine.share) == ("cpu", None)


def test_it_describes_its_tensors(engine: Engine, case: Case) -> None:
    [given], [made] = engine.inputs, engine.outputs
    assert given.shape[1:] == case.shape
    assert given.shape[0] in (1, -1)
    assert made.shape[-1] == 11
    assert given.dtype == made.dtype == case.dtype
    assert (given.scale > 0) == (made.scale > 0) == (case.dtype == "int8")


def test_the_same_input_gives_the_same_output(engine: Engine, case: Case) -> None:
    [first] = engine.run([case.noise()])
    engine.run([case.noise(seed=1)])
    [second] = engine.run([case.noise()])
    assert first.shape == (1, 11)
    assert first.dtype == case.dtype
    assert (first == second).all()


def test_an_output_stays_what_it_is_when_the_engine_goes_on(engine: Engine, case: Case) -> None:
    [first] = engine.run([case.noise()])
    kept = first.copy()
    [other] = engine.run([case.noise(seed=1)])
    assert (other != first).any()
    assert (first == kept).all()
    del engine
    assert (first == kept).all()


def test_the_input_is_left_as_it_is_and_may_be_read_only(engine: Engine, case: Case) -> None:
    given = case.noise()
    before = given.copy()
    given.flags.writeable = False
    engine.run([given])
    assert (given == before).all()


@pytest.mark.parametrize("batch", [2, 5, 1])
def test_a_batch_gives_what_its_parts_give(batch: int, engine: Engine, case: Case) -> None:
    given = case.noise(batch)
    [together] = engine.run([given])
    apart = np.concatenate([engine.run([given[i : i + 1]])[0] for i in range(batch)])
    assert together == pytest.approx(apart, abs=1 if case.dtype == "int8" else 1e-5)


@pytest.mark.parametrize("shape", [(1, 7, 5, 3), (1, 1), ()])
def test_a_wrong_shape_is_refused_and_the_engine_lives_on(shape: tuple[int, ...], engine: Engine, case: Case) -> None:
    [before] = engine.run([case.noise()])
    with pytest.raises(ModelError) as caught:
        engine.run([np.zeros(shape, case.dtype)])
    assert str(caught.value).startswith("inference failed: ")
    assert "\n" not in str(caught.value)
    [after] = engine.run([case.noise()])
    assert (before == after).all()


def test_a_wrong_type_is_refused_and_the_engine_lives_on(engine: Engine, case: Case) -> None:
    with pytest.raises(ModelError, match="inference failed: "):
        engine.run([case.noise().astype("float64")])
    engine.run([case.noise()])


def test_it_may_be_called_from_any_thread(engine: Engine, case: Case) -> None:
    [here] = engine.run([case.noise()])
    found: list[NDArray[Any]] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: found.extend(engine.run([case.noise()])))
        thread.start()
        thread.join()
    assert all((one == here).all() for one in found)
    assert len(found) == 3


def test_threads_change_nothing_in_the_answer(case: Case) -> None:
    [one] = case.load(threads=1).run([case.noise()])
    [two] = case.load(threads=2).run([case.noise()])
    assert one == pytest.approx(two, abs=1 if case.dtype == "int8" else 1e-5)


def test_a_file_that_is_not_there_is_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="refuses the model"):
        case.load(path=tmp_path / f"gone.{case.format}")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused_with_one_sentence(share: float, case: Case, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{case.format}"
    content = case.path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError) as caught:
        case.load(path=path)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_format_is_refused(case: Case, tmp_path: Path) -> None:
    [other] = [one for one in CASES if one.format != case.format]
    path = tmp_path / f"other.{case.format}"
    shutil.copy(other.path, path)
    with pytest.raises(ModelError, match="refuses the model"):
        case.load(path=path)


@pytest.mark.parametrize("accelerator", ["edgetpu", "cuda"])
def test_an_accelerator_that_is_not_there_is_refused_by_its_name(accelerator: AcceleratorName, case: Case) -> None:
    with pytest.raises(ModelError, match=f"^{accelerator}: "):
        case.load(accelerator)


def test_what_is_closed_can_be_loaded_again(case: Case) -> None:
    case.load().close()
    case.load().run([case.noise()])


BAD_MODELS = ["sentencepiece_tokenizer_flex_op", "person_detect_vela", "model_invoking_error"]


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_model_that_needs_a_missing_operator_is_refused_with_one_sentence(name: str, data_dir: Path) -> None:
    with pytest.raises(ModelError, match=r"refuses the model.* op\b") as caught:
        load_engine(data_dir / "bad_models" / f"{name}.tflite", "tflite", "cpu", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", CASES, ids=[case.format for case in CASES])
def test_a_runtime_leaves_no_trace_in_the_home_folder(case: Case, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, edge_agent.engines as engines; "
        "engines.load_engine(pathlib.Path(sys.argv[1]), sys.argv[2], 'cpu', 1)"
    )
    command = [sys.executable, "-c", program, str(case.path), case.format]
    subprocess.run(command, env={"HOME": str(tmp_path)}, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []
