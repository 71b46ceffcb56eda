"""LiteRT's CompiledModel, which reaches the GPU; here it is asked for the CPU, since few machines have the other."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent.engines import load_engine
from edge_agent.engines.accelerators import CPU, XNNPACK, Target
from edge_agent.engines.compiled_model import CompiledEngine
from edge_agent.engines.tflite import TfliteEngine
from edge_agent.errors import ModelError
from edge_agent.models.shipped import shipped

DIGITS = shipped("digits/digits.tflite")


def on_cpu(path: Path) -> tuple[TfliteEngine, CompiledEngine]:
    plain = TfliteEngine(path, Target(CPU, XNNPACK), threads=1)
    return plain, CompiledEngine(path, "gpu", plain, hardware=["CPU"])


def test_it_answers_as_the_interpreter_does() -> None:
    plain, engine = on_cpu(DIGITS)
    given = np.random.default_rng(0).integers(-128, 128, (1, 32, 24, 1)).astype(np.int8)
    [expected], [found] = plain.run([given]), engine.run([given])
    assert found.shape == expected.shape
    assert found == pytest.approx(expected, abs=1)
    engine.close()


@pytest.mark.parametrize(("batch", "dtype"), [(2, "int8"), (1, "float32")])
def test_what_does_not_fit_is_refused_and_the_engine_lives_on(batch: int, dtype: str) -> None:
    _, engine = on_cpu(DIGITS)
    with pytest.raises(ModelError, match="inference failed: it takes "):
        engine.run([np.zeros((batch, 32, 24, 1), dtype)])
    assert engine.run([np.zeros((1, 32, 24, 1), np.int8)])[0].shape == (1, 11)


def test_a_model_with_several_outputs_keeps_their_order(data_dir: Path) -> None:
    plain, engine = on_cpu(data_dir / "detect_tflite" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite")
    given = np.random.default_rng(0).integers(0, 256, plain.inputs[0].shape).astype(np.uint8)
    for expected, found in zip(plain.run([given]), engine.run([given]), strict=True):
        assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.skipif(Path("/dev/dri").exists(), reason="this machine may have a GPU")
def test_a_machine_without_a_gpu_says_so() -> None:
    with pytest.raises(ModelError, match=r"^gpu: LiteRT .* finds no GPU with a driver for it"):
        load_engine(DIGITS, "tflite", "gpu", 1)
