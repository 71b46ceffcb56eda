"""LiteRT's CompiledModel. It is there for the GPU; these tests run it on the CPU, where it behaves the same."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.compiled_model import HardwareAccelerator

from edge_agent.engines import Engine, load_engine
from edge_agent.engines.compiled_model import CompiledEngine
from edge_agent.engines.stderr_filter import EVERYTHING, without_chatter
from edge_agent.errors import ModelError
from edge_agent.testing.engine_contract import MODELS, EngineContract, Setup, identity

DIGITS = MODELS["tflite"]


def on_cpu(path: Path = DIGITS) -> Engine:
    plain = load_engine(identity(path), "cpu", 1)
    with without_chatter(EVERYTHING):
        return CompiledEngine(identity(path), "gpu", plain, HardwareAccelerator.CPU)


class TestContract(EngineContract):
    @pytest.fixture(scope="class")
    @classmethod
    def setup(cls) -> Setup:
        return Setup(on_cpu, "tflite", accelerator="gpu", batches=False)


def test_a_model_with_several_outputs_keeps_their_order(data_dir: Path) -> None:
    path = data_dir / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    plain, engine = load_engine(identity(path), "cpu", 1), on_cpu(path)
    given = np.random.default_rng(0).integers(0, 256, plain.inputs[0].shape).astype(np.uint8)
    for expected, found in zip(plain.run([given]), engine.run([given]), strict=True):
        assert found == pytest.approx(expected, abs=1e-3)
    engine.close()


def test_what_the_runtime_says_unasked_is_kept_out_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    engine = on_cpu()
    engine.close()
    assert capfd.readouterr().err == ""


def test_a_machine_without_an_npu_says_so_and_does_not_run_the_model_on_the_cpu() -> None:
    with pytest.raises(ModelError, match=r"^npu: LiteRT .* finds no NPU that runs all of the model"):
        load_engine(identity(DIGITS), "npu", 1)


@pytest.mark.skipif(Path("/dev/dri").exists(), reason="this machine may have a GPU")
def test_a_machine_without_a_gpu_says_so() -> None:
    with pytest.raises(ModelError, match=r"^gpu: LiteRT .* finds no GPU with a driver for it"):
        load_engine(identity(DIGITS), "gpu", 1)
