"""Loading models, in each format. What every engine promises is in contract.py."""

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edge_agent.engines import Engine, load_engine
from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
from edge_agent.settings import AcceleratorName
from edge_agent.testing.engine_contract import MODELS, Setup, identity
from tests.command_line import environment
from tests.models.external_weights import with_weights_in
from tests.models.hostile_models import memory_eating_onnx


def load(path: Path, accelerator: AcceleratorName = "cpu", threads: int = 1) -> Engine:
    return load_engine(identity(path), accelerator, threads)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Path:
    """The bundled digit reader."""
    return MODELS[request.param]


def test_tensors_of_onnx_models_are_bounded_and_the_next_input_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "bright.onnx"
    path.write_bytes(memory_eating_onnx(400_000_000, only_if_bright=True))
    program = f"""
from pathlib import Path
import numpy as np
from edge_agent.engines import MEMORY_LIMIT, load_engine
from edge_agent.errors import ModelError
from edge_agent.modelfile import inspect
MEMORY_LIMIT.models = 100_000_000
engine = load_engine(inspect.read(Path({str(path)!r})).identity, "cpu", 1)
for value in (0, 1, 0):
    try:
        print(engine.run([np.full((1, 1, 16, 2), value, np.float32)])[0].shape)
    except ModelError as error:
        print(error)
status = Path("/proc/self/status").read_text()  # `ru_maxrss` begins with that of the process that started this one
assert int(status.split("VmHWM:")[1].split()[0]) < 800_000
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, refusal, after = done.stdout.splitlines()
    assert before == after == "(1, 32)"
    assert "can't allocate memory" in refusal


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
    with pytest.raises(ModelError, match=r"refuses the model: .* operator") as caught:
        load(data_dir / "bad_models" / f"{name}.tflite")
    assert "\n" not in str(caught.value)


def test_a_runtime_leaves_no_trace_in_the_home_folder(model: Path, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, edge_agent.engines as engines; from edge_agent.modelfile import inspect; "
        "engines.load_engine(inspect.read(pathlib.Path(sys.argv[1])).identity, 'cpu', 1)"
    )
    command = [sys.executable, "-c", program, str(model)]
    subprocess.run(command, env={"HOME": str(tmp_path)}, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["initializer", "constant", "subgraph", "function"])
def test_weights_in_another_file_are_those_that_were_checked(where: str, tmp_path: Path) -> None:
    file, numbers = tmp_path / "w.bin", np.array([1, 2, 3, 4], np.float32)
    file.write_bytes(numbers.tobytes())
    (tmp_path / "m.onnx").write_bytes(with_weights_in("w.bin", where).SerializeToString())
    checked = inspect.read(tmp_path / "m.onnx").identity
    engine, nothing = load_engine(checked, "cpu", 1), np.zeros((1, 4), np.float32)
    file.write_bytes(numbers[::-1].tobytes())
    assert np.array_equal(engine.run([nothing])[0], [numbers])
    os.truncate(file, 0)
    gc.collect()
    assert np.array_equal(engine.run([nothing])[0], [numbers])
    with pytest.raises(ModelError, match=r"w\.bin: has changed since it was checked"):
        load_engine(checked, "cpu", 1)


def test_weights_beyond_the_end_of_their_file_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    (tmp_path / "m.onnx").write_bytes(with_weights_in("w.bin").SerializeToString())
    with pytest.raises(ModelError, match=r"weights w lie past the end of .* \(8 bytes\).*: copy it again"):
        load_engine(inspect.read(tmp_path / "m.onnx").identity, "cpu", 1)


def test_what_a_model_states_for_the_runtime_is_not_obeyed(tmp_path: Path) -> None:
    model = onnx.load(MODELS["onnx"])
    model.metadata_props.add(key="ort_config", value='{"session_options": {"enable_profiling": 1}}')
    onnx.save(model, tmp_path / "m.onnx")
    program = (
        "import sys, pathlib, edge_agent.engines as engines; from edge_agent.modelfile import inspect; "
        "engines.load_engine(inspect.read(pathlib.Path('m.onnx')).identity, 'cpu', 1)"
    )
    command = [sys.executable, "-c", program]
    subprocess.run(command, cwd=tmp_path, env=environment({"ORT_LOAD_CONFIG_FROM_MODEL": "1"}), check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def sealed_files() -> set[str]:
    """The inodes of the sealed files of models that this process maps."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return {line.split()[4] for line in maps if "memfd:model" in line}


def test_engines_of_one_file_share_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(MODELS["tflite"].read_bytes() + os.urandom(16))  # no other test's engine has this file
    before = sealed_files()
    engines = [load(path), load(path)]
    assert len(sealed_files() - before) == 1
    for engine in engines:
        engine.close()
