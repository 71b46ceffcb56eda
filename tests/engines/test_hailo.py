"""The engine for Hailo's chips on a stand-in of `hailo_platform`: no such chip was at hand."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.chips import hailo
from edge_agent.chips.hailo import Hailo
from edge_agent.chips.serving import ChipError
from edge_agent.engines.hailo import HINTS
from edge_agent.engines.supervised import EngineLostError, ProcessEndedError
from edge_agent.errors import ModelError
from tests.modelfile.hef_bytes import hef
from tests.processes import children
from tests.stand_ins import hailo_platform
from tests.stand_ins.control import Control
from tests.stand_ins.engines import Load, blank, loading
from tests.stand_ins.hailo_platform import STATUS

BY_CLASS = {"name": "net/nms1", "shape": [80 * (1 + 5 * 100)], "order": "HAILO_NMS_BY_CLASS", "values": [1, 0, 0, 1, 1]}


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Control:
    found = Control(tmp_path)
    found.set(outputs=[BY_CLASS], side=64)
    for key, value in found.environment.items():
        monkeypatch.setenv(key, value)
    return found


@pytest.fixture
def load(tmp_path: Path, control: Control) -> Iterator[Load]:
    del control
    path = tmp_path / "net.hef"
    path.write_bytes(hef(kind="nms on chip"))
    with loading(path, "hailo", "hef") as load_one:
        yield load_one


def test_it_runs_on_an_interpreter_that_has_the_library_and_numpy_and_nothing_else(load: Load) -> None:
    engine = load()
    assert engine.runtime == "HailoRT 4.23.0"
    assert [(one.shape, one.dtype) for one in engine.inputs] == [((1, 64, 64, 3), "uint8")]
    [given] = engine.outputs
    assert (given.name, given.shape, given.dtype) == ("net/nms1", (1, 40080), "float32")
    [output] = engine.run(blank(engine))
    assert output[0, :6].tolist() == [1, 0, 0, 1, 1, 0]
    assert engine.temperature == 51.2


def test_processes_share_the_device_by_a_group_and_the_service_if_it_runs(
    load: Load, control: Control, tmp_path: Path
) -> None:
    control.set(outputs=[BY_CLASS], side=64, seen=str(tmp_path / "seen"))
    load()
    seen = json.loads((tmp_path / "seen").read_text())
    assert (seen["group_id"], seen["multi_process_service"]) == ("SHARED", False)
    load(group_id="doors", multi_process_service="true", priority="20", score_threshold="0.1", iou_threshold="0.5")
    seen = json.loads((tmp_path / "seen").read_text())
    assert (seen["group_id"], seen["multi_process_service"]) == ("doors", True)


def test_more_than_one_sample_at_once_is_refused_and_the_next_one_works(load: Load) -> None:
    engine = load()
    with pytest.raises(ModelError, match=r"^inference failed: the chip takes one sample at a time"):
        engine.run([np.zeros((2, 64, 64, 3), np.uint8)])
    assert engine.run(blank(engine))[0].shape == (1, 40080)


@pytest.mark.parametrize("status", [64, 74, 76, 93])
def test_a_failure_while_it_is_loaded_says_what_to_do(status: int, load: Load, control: Control) -> None:
    with control.failing(at="VDevice", status=status), pytest.raises(ModelError) as caught:
        load()
    assert f"libhailort failed with error: {status} ({STATUS[status]}): {HINTS[status]}" in str(caught.value)


@pytest.mark.parametrize("status", [4, 8, 62, 87])
def test_a_failure_during_an_inference_ends_the_process_and_never_gives_outputs(
    status: int, load: Load, control: Control
) -> None:
    engine = load()
    control.set(outputs=[BY_CLASS], side=64, at="run", status=status)
    with pytest.raises(ProcessEndedError) as caught:
        engine.run(blank(engine))
    assert HINTS.get(status, "") in str(caught.value)
    with pytest.raises(EngineLostError):
        engine.run(blank(engine))


@pytest.mark.parametrize("status", STATUS)
def test_each_status_is_recognised_in_the_exception_that_the_library_makes_of_it(
    status: int, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(hailo_platform.__file__).parents[1]))
    request: dict[str, Any] = {"options": {}, "file": {}}
    with control.failing(at="VDevice", status=status), pytest.raises(ChipError) as caught:
        Hailo(request)
    assert caught.value.status == status


def test_a_call_that_hangs_is_ended_at_its_time_limit(load: Load, control: Control) -> None:
    engine = load()
    before = children(os.getpid())
    engine.timeout = 0.3
    control.set(outputs=[BY_CLASS], side=64, at="run", hang=True)
    with pytest.raises(EngineLostError, match=r"^gives no answer for 0.3 s$"):
        engine.run(blank(engine))
    assert len(children(os.getpid())) == len(before) - 1


def test_a_library_of_another_version_than_its_binding_is_named(load: Load, control: Control) -> None:
    control.set(import_error="libhailort.so.4.20.0: cannot open shared object file: No such file or directory")
    with pytest.raises(ModelError, match=r"^hailo.*: libhailort\.so\.4\.20\.0: cannot open"):
        load()


def test_an_interpreter_without_the_library_is_named(tmp_path: Path, load: Load) -> None:
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    with pytest.raises(ModelError, match=r"/python3: No module named 'hailo_platform'"):
        load(python=str(tmp_path / "python3"))


def test_an_interpreter_that_is_not_there_is_one_sentence(load: Load) -> None:
    with pytest.raises(ModelError, match=r"/nowhere/python3 can't be started: No such file"):
        load(python="/nowhere/python3")


@pytest.mark.parametrize(
    ("stated", "version", "running", "uses"),
    [
        ("auto", "4.23.0", True, True),
        ("auto", "4.23.0", False, False),
        ("auto", "5.2.0", True, False),
        ("auto", "", True, False),
        ("true", "5.2.0", False, True),
        ("false", "4.23.0", True, False),
    ],
)
def test_the_service_is_that_of_hailort_4(
    stated: str, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, running: bool, uses: bool
) -> None:
    if running:
        (tmp_path / "service").touch()
    monkeypatch.setattr(hailo, "SERVICE", tmp_path / "service")
    assert hailo._uses_service(stated, version) == uses
