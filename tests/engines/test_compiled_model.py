"""LiteRT's CompiledModel. It is there for the GPU; these tests run it on the CPU, where it behaves the same."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.compiled_model import HardwareAccelerator

from edge_agent.engines import Engine, load_engine
from edge_agent.engines.compiled_model import CompiledEngine
from edge_agent.engines.stderr_filter import EVERYTHING, without_chatter
from edge_agent.errors import ModelError
from edge_agent.models.shipped import shipped

DIGITS = shipped("digits/digits.tflite")


def on_cpu(path: Path = DIGITS) -> Engine:
    plain = load_engine(path, "tflite", "cpu", 1)
    with without_chatter(EVERYTHING):
        return CompiledEngine(path, "gpu", plain, HardwareAccelerator.CPU)


def test_it_answers_as_the_interpreter_does() -> None:
    plain, engine = load_engine(DIGITS, "tflite", "cpu", 1), on_cpu()
    for seed in range(3):
        given = np.random.default_rng(seed).integers(-128, 128, (1, 32, 24, 1)).astype(np.int8)
        [expected], [found] = plain.run([given]), engine.run([given])
        assert found.shape == expected.shape
        assert found == pytest.approx(expected, abs=1)
    engine.close()


def test_it_says_what_it_is_and_what_it_runs_on() -> None:
    engine = on_cpu()
    assert (engine.accelerator, engine.runtime.split()[0], engine.share) == ("gpu", "LiteRT", None)
    engine.close()


@pytest.mark.parametrize(("batch", "dtype"), [(2, "int8"), (1, "float32")])
def test_what_does_not_fit_is_refused_and_the_engine_lives_on(batch: int, dtype: str) -> None:
    engine = on_cpu()
    with pytest.raises(ModelError, match="inference failed: it takes "):
        engine.run([np.zeros((batch, 32, 24, 1), dtype)])
    assert engine.run([np.zeros((1, 32, 24, 1), np.int8)])[0].shape == (1, 11)
    engine.close()


def test_a_model_with_several_outputs_keeps_their_order(data_dir: Path) -> None:
    path = data_dir / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    plain, engine = load_engine(path, "tflite", "cpu", 1), on_cpu(path)
    given = np.random.default_rng(0).integers(0, 256, plain.inputs[0].shape).astype(np.uint8)
    for expected, found in zip(plain.run([given]), engine.run([given]), strict=True):
        assert found == pytest.approx(expected, abs=1e-3)
    engine.close()


def test_what_the_runtime_says_unasked_is_kept_out_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    engine = on_cpu()
    engine.close()
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(Path("/dev/dri").exists(), reason="this machine may have a GPU")
def test_a_machine_without_a_gpu_says_so() -> None:
    with pytest.raises(ModelError, match=r"^gpu: LiteRT .* finds no GPU with a driver for it"):
        load_engine(DIGITS, "tflite", "gpu", 1)
