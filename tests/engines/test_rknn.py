"""The engine for Rockchip's NPUs on a stand-in of `rknnlite`: no such board was at hand."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.engines import rknn
from edge_agent.engines.supervised import EngineLostError, ProcessEndedError
from edge_agent.errors import ModelError
from edge_agent.system import chips
from tests.stand_ins.control import Control
from tests.stand_ins.engines import Load, blank, loading

OLD_LIBRARY = """\
E RKNN: [01:19:04.510] 6, 1
E RKNN: [01:19:04.510] Invalid RKNN model version 6
E RKNN: [01:19:04.510] rknn_init, load model failed!
E Catch exception when init runtime!
E Traceback (most recent call last):
E   File "/usr/lib/python3/dist-packages/rknnlite/api/rknn_lite.py", line 148, in init_runtime
Exception: RKNN init failed. error code: RKNN_ERR_FAIL
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Control:
    found = Control(tmp_path)
    for key, value in found.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv(chips.VARIABLE, "rk3588")
    return found


@pytest.fixture
def load(tmp_path: Path, control: Control, data_dir: Path) -> Iterator[Load]:
    del control
    path = tmp_path / "net.rknn"
    shutil.copy(data_dir / "compiled/pp_human_segv2_custom_argmax.rknn", path)
    with loading(path, "rknn", "rknn") as load_one:
        yield load_one


def test_it_runs_in_another_process_and_this_ones_log_goes_on(load: Load) -> None:
    engine = load()
    assert engine.runtime == "RKNN 2.3.2"
    [given], [made] = engine.inputs, engine.outputs
    assert (given.dtype, given.shape[0], given.shape[3]) == ("uint8", 1, 3)
    assert (made.dtype, made.shape) == ("float32", (1, 3))
    [output] = engine.run([np.full(given.shape, 7, np.uint8)])
    assert output.tolist() == [[7, 7, 7]]
    assert logging.getLogger("edge_agent").isEnabledFor(logging.ERROR)


@pytest.mark.parametrize(("cores", "mask"), [("auto", 0), ("0", 1), ("0_1", 3), ("0_1_2", 7), ("all", 0xFFFF)])
def test_the_cores_are_those_that_are_stated(cores: str, mask: int, load: Load, control: Control) -> None:
    control.set(seen=str(control.path.with_name("seen")))
    load(cores=cores)
    assert json.loads(control.path.with_name("seen").read_text()) == {"core_mask": mask}


def test_a_file_for_another_chip_never_gets_to_the_driver(
    load: Load, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.set(at="load_rknn", crash=True)
    monkeypatch.setenv(chips.VARIABLE, "rk3566")
    with pytest.raises(ModelError, match=r"is compiled for rk3588, and this board has an rk3566"):
        load()
    monkeypatch.setenv(chips.VARIABLE, "hailo8l")
    with pytest.raises(ModelError, match="this machine has no Rockchip NPU"):
        load()


def test_a_failure_is_the_reason_that_the_library_has_written(load: Load, control: Control) -> None:
    with control.failing(at="init_runtime", says=OLD_LIBRARY), pytest.raises(ModelError) as caught:
        load()
    assert "init_runtime failed: Invalid RKNN model version 6" in str(caught.value)
    engine = load()
    control.set(at="inference", says="E RKNN: [12:00:00.000] failed to submit!, op id: 1\nRKNN_ERR_TIMEOUT\n")
    with pytest.raises(ProcessEndedError) as caught:
        engine.run(blank(engine))
    assert "inference failed: failed to submit!" in str(caught.value)
    assert rknn.HINTS[-2] in str(caught.value)


def test_a_failure_without_a_word_is_one_all_the_same(load: Load, control: Control) -> None:
    engine = load()
    control.set(at="inference")
    with pytest.raises(ProcessEndedError, match="inference failed: no reason given"):
        engine.run(blank(engine))


@pytest.mark.parametrize("harm", ["hang", "crash"])
def test_what_hangs_or_crashes_is_ended(harm: str, load: Load, control: Control) -> None:
    engine = load()
    engine.timeout = 0.5
    control.set(at="inference", **{harm: True})
    with pytest.raises(EngineLostError):
        engine.run(blank(engine))
