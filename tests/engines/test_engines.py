"""Loading models, in each format. What every engine promises is in contract.py."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.engines import Engine, load_engine
from edge_agent.errors import ModelError
from edge_agent.settings import AcceleratorName
from tests.engines.contract import MODELS, Setup


def load(path: Path, accelerator: AcceleratorName = "cpu", threads: int = 1) -> Engine:
    return load_engine(path, path.suffix[1:], accelerator, threads)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Path:
    """The bundled digit reader."""
    return MODELS[request.param]


def test_threads_change_nothing_in_the_answer(model: Path) -> None:
    setup = Setup(load, model.suffix[1:])
    [one] = load(model, threads=1).run([setup.noise()])
    [two] = load(model, threads=2).run([setup.noise()])
    assert one == pytest.approx(two, abs=setup.tolerance)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused_with_one_sentence(share: float, model: Path, tmp_path: Path) -> None:
    path = tmp_path / f"cut{model.suffix}"
    content = model.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_format_is_refused(model: Path, tmp_path: Path) -> None:
    [other] = set(MODELS.values()) - {model}
    path = Path(shutil.copy(other, tmp_path / f"other{model.suffix}"))
    with pytest.raises(ModelError, match="refuses the model"):
        load(path)


@pytest.mark.parametrize("accelerator", ["edgetpu", "cuda"])
def test_an_accelerator_that_is_not_there_is_refused_by_its_name(accelerator: AcceleratorName, model: Path) -> None:
    with pytest.raises(ModelError, match=f"^{accelerator}: "):
        load(model, accelerator)


BAD_MODELS = ["sentencepiece_tokenizer_flex_op", "person_detect_vela", "model_invoking_error"]


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_model_that_needs_a_missing_operator_is_refused_with_one_sentence(name: str, data_dir: Path) -> None:
    with pytest.raises(ModelError, match=r"refuses the model.* op\b") as caught:
        load(data_dir / "bad_models" / f"{name}.tflite")
    assert "\n" not in str(caught.value)


def test_a_runtime_leaves_no_trace_in_the_home_folder(model: Path, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, edge_agent.engines as engines; "
        "engines.load_engine(pathlib.Path(sys.argv[1]), sys.argv[2], 'cpu', 1)"
    )
    command = [sys.executable, "-c", program, str(model), model.suffix[1:]]
    subprocess.run(command, env={"HOME": str(tmp_path)}, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []
