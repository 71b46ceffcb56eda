"""Damaged model files: each is refused with a sentence or read, and whoever loads it lives on."""

from pathlib import Path

import pytest

from edge_agent.models.self_test import PATIENCE
from edge_agent.models.shipped import shipped
from tests.fuzz.road import Tally, travel

COUNT, SAMPLE = 2000, 12
OWN = [shipped("digits/digits.tflite"), shipped("digits/digits.onnx")]
PUBLIC = (
    "classify_tflite/mobilenet_v1_0.25_224_quant.tflite",
    "classify_onnx/mnist.onnx",
    "tinymlperf/vww_96_int8.tflite",
    "detect_tflite/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite",
    "detect_onnx/ultraface_version-RFB-320.onnx",
    "misc_tflite/movenet_single_pose_lightning_ptq.tflite",
)
# Seeds that crash LiteRT 2.3.0 when it loads this model.
KILLED, KILLERS = "misc_tflite/movenet_single_pose_lightning_ptq.tflite", (769, 2900)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def check(tally: Tally) -> None:
    print(tally)
    assert tally.fatal == []
    assert tally.slowest < PATIENCE + 10
    assert tally.growth_mib < 200


def test_a_sample_of_damaged_models_harms_nobody() -> None:
    tally = travel("models", range(SAMPLE), OWN)
    check(tally)
    assert tally.outcomes.total() == SAMPLE
    assert tally.outcomes["read"] > 0
    assert tally.outcomes["refused"] > 0


@pytest.mark.parametrize("seed", KILLERS)
def test_damage_that_is_known_to_crash_a_runtime_stays_in_the_trial(seed: int, data_dir: Path) -> None:
    tally = travel("models", range(seed, seed + 1), [data_dir / KILLED])
    check(tally)
    assert set(tally.outcomes) <= {"crashed in the trial", "refused by the runtime"}


@pytest.mark.fuzz
@pytest.mark.timeout(7200)
def test_damaged_models_harm_nobody(data_dir: Path) -> None:
    tally = travel("models", range(COUNT), [*OWN, *(data_dir / name for name in PUBLIC)])
    check(tally)
    assert tally.outcomes.total() == COUNT
