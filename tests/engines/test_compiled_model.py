"""LiteRT's CompiledModel, which reaches the GPU, and on the CPU takes XNNPACK's options."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.engines import Engine, load_engine
from edge_agent.errors import ModelError
from edge_agent.models.shipped import shipped

DIGITS = shipped("digits/digits.tflite")


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packed weights are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "edge-agent/weights"


def on_cpu(path: Path = DIGITS, options: dict[str, str] | None = None) -> Engine:
    return load_engine(path, "tflite", settings.Delegate(delegate="xnnpack", options=options or {}), 1)


@pytest.mark.parametrize("options", [{}, {"weight_cache": "false"}, {"flags": "0x3"}])
def test_it_answers_as_the_interpreter_does(options: dict[str, str]) -> None:
    plain, engine = load_engine(DIGITS, "tflite", "cpu", 1), on_cpu(options=options)
    for seed in range(3):
        given = np.random.default_rng(seed).integers(-128, 128, (1, 32, 24, 1)).astype(np.int8)
        [expected], [found] = plain.run([given]), engine.run([given])
        assert found.shape == expected.shape
        assert found == pytest.approx(expected, abs=1)
    engine.close()


def test_its_name_tells_its_options() -> None:
    for engine, name in (
        (load_engine(DIGITS, "tflite", "xnnpack", 1), "xnnpack"),
        (on_cpu(options={"flags": "3"}), "xnnpack flags=3"),
    ):
        assert (engine.accelerator, engine.runtime.split()[0]) == (name, "LiteRT")
        engine.close()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"threads": "2"}, "xnnpack threads=2: has no option threads, only flags and weight_cache"),
        ({"flags": "fast"}, "xnnpack flags=fast: flags: expected a number, as 3 or 0x3, found 'fast'"),
        ({"flags": "-1"}, "xnnpack flags=-1: flags: expected a number, as 3 or 0x3, found '-1'"),
        ({"weight_cache": "here"}, "xnnpack weight_cache=here: weight_cache: expected true or false, found 'here'"),
    ],
)
def test_an_option_that_it_lacks_is_refused(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        on_cpu(options=options)
    assert str(caught.value) == sentence


def test_flags_reach_xnnpack_which_packs_no_quantised_weights_without_its_flags_for_them(weights: Path) -> None:
    for flags in ("0", "3"):
        on_cpu(options={"flags": flags}).close()
    without, quantised = sorted(path.stat().st_size for path in weights.iterdir())
    assert without < 1000 < quantised


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
