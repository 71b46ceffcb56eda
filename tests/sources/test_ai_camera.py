"""The AI Camera by a stand-in of `rpicam-vid`: no such camera was at hand."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import settings
from edge_agent.errors import InputError
from edge_agent.models import model as models
from edge_agent.models.model import Model
from edge_agent.models.predictor import Predictor
from edge_agent.samples import Sample
from edge_agent.sources import reader
from edge_agent.sources.frame_matcher import FRAMES, METADATA, TIMES, Frame, FrameMatcher
from tests.sources.contract import LiveContract, Setup
from tests.sources.stage import Stage
from tests.stand_ins import rpicam_vid
from tests.stand_ins.control import Control

# Of the SSD in the test data: 100 boxes, scores and classes, each first axis fastest, and their count.
NUMBERS = 601
# One object: y1, x1, y2, x2 as fractions of the sensor, score and class.
VALUES = [(0, 0.25), (100, 0.5), (200, 0.75), (300, 1.0), (400, 0.9), (500, 2.0), (600, 1.0)]


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "REOPEN_CEILING", 0.2)


@pytest.fixture(scope="module")
def network(data_dir: Path) -> Path:
    return data_dir / "compiled" / "imx500_network_ssd_mobilenetv2_fpnlite_320x320_pp.rpk"


@pytest.fixture(scope="module")
def ssd(network: Path) -> Model:
    return models.load("ssd", settings.Model(path=network), Path.cwd())


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Control:
    """What the camera does; the variable is passed on by the name of the program alone."""
    found = Control(tmp_path)
    program = tmp_path / "rpicam-vid"
    variable, value = next(iter(found.environment.items()))
    program.write_text(f'#!/bin/sh\n{variable}={value} exec {sys.executable} -I -S {rpicam_vid.__file__} "$@"\n')
    program.chmod(0o755)
    found.set(numbers=NUMBERS, values=VALUES)
    return found


def stage(control: Control, ssd: Model, **keys: Any) -> Stage:
    folder = control.path.parent
    source = {"type": "ai_camera", "model": "digits", "program": "./rpicam-vid", **keys}
    return Stage(source, ssd, folder)


class TestAiCamera(LiveContract):
    @pytest.fixture
    def setup(self, control: Control, ssd: Model) -> Setup:
        return Setup(open=lambda: stage(control, ssd), origin={"camera", "frame"})


def test_what_the_sensor_finds_is_in_pixels_of_the_frame_with_the_labels_of_its_intrinsics(
    control: Control, ssd: Model
) -> None:
    with stage(control, ssd, width=400, height=300) as whole:
        whole.wait_for_results(1)
    [found] = whole.outcomes[0][0]
    assert found.class_id == 2
    assert found.box == pytest.approx((200, 75, 400, 225), abs=0.5)
    assert found.label == ssd.labels[2]
    assert found.confidence == pytest.approx(0.9)
    # The frame shows the middle half of the sensor in both directions.
    control.set(numbers=NUMBERS, values=VALUES, crop="(1014, 760)/2028x1520")
    with stage(control, ssd, width=400, height=300) as middle:
        middle.wait_for_results(1)
    [found] = middle.outcomes[0][0]
    assert found.box == pytest.approx((200, 0, 400, 300), abs=0.5)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"no_tensors_after": 5}, "frames come, but no results of the network, for 0.5 s: the sensor has stalled"),
        ({"stall_after": 5}, "for 0.5 s: the sensor has stalled"),
        ({"end_after": 5, "code": 255}, "ended with exit code 255"),
        ({"end_after": 5}, "ended with exit code 0"),
    ],
)
def test_a_camera_that_stalls_or_ends_is_started_again_which_is_counted_and_published(
    what: dict[str, Any], message: str, control: Control, ssd: Model
) -> None:
    control.set(numbers=NUMBERS, values=VALUES, **what)
    with stage(control, ssd, stall_timeout=0.5) as shown:
        shown.wait_for(lambda shown: len(shown.troubles) >= 2, "each stall is published", 20)
        shown.wait_for(lambda shown: shown.counts()["restarts"] >= 2, "each restart is counted", 20)
        assert message in shown.troubles[0]
        before = len(shown.results)
        control.set(numbers=NUMBERS, values=VALUES)
        shown.wait_for_results(before + 20, 20)
        assert shown.source.diagnosis == ""
    assert shown.imbalances == []


def test_frames_without_metadata_or_tensor_and_repeated_ones_give_no_result_of_their_own(
    control: Control, ssd: Model
) -> None:
    control.set(numbers=NUMBERS, values=VALUES, drop=5, repeat=3, sparse=2, period=0.005)
    with stage(control, ssd) as shown:
        shown.wait_for_results(40)
        assert shown.troubles == []
        assert {len(predictions) for predictions, _, _ in shown.outcomes} == {1}
    assert shown.counts()["restarts"] == 0
    assert shown.imbalances == []


def test_loading_the_network_may_take_longer_than_a_stall(control: Control, ssd: Model) -> None:
    control.set(numbers=NUMBERS, values=VALUES, load=1.5)
    with stage(control, ssd, stall_timeout=0.5) as shown:
        shown.wait_for_results(1)
        assert shown.troubles == []


def test_a_camera_with_another_network_in_it_is_an_error_of_each_frame(control: Control, ssd: Model) -> None:
    control.set(numbers=1000)
    with stage(control, ssd) as shown:
        shown.wait_for(lambda shown: shown.given_up, "the frames are given up")
    assert "another network runs in it" in str(shown.given_up[0][1])
    assert shown.results == []


def of(number: int, *, tensor: bool = True) -> bytes:
    values = [float(number)] if tensor else None
    return rpicam_vid.metadata(7_000_000_000 + number * 33_000_000, values, "(0, 0)/4056x3040", first=True).encode()


def test_outputs_that_arrive_in_any_order_and_pieces_are_matched_by_time() -> None:
    matcher, found = FrameMatcher(), list[Frame]()
    facts = b"[\n" + b",\n".join(of(number) for number in (0, 1, 3, 4))
    times = b"# timecode format v2\n" + b"".join(b"%d.000\n" % (number * 33) for number in (0, 1, 1, 2, 3, 4))
    for output, content in (TIMES, times), (METADATA, facts), (FRAMES, rpicam_vid.JPEG * 6):
        for at in range(0, len(content), 7):
            found += matcher.feed(output, content[at : at + 7])
    # The last metadata are complete before the brace behind them; frame 2 has none, and 1 comes twice.
    assert [None if one.values is None else one.values.tolist() for one in found] == [[0], [1], None, [3], [4]]
    assert found[0].sensor_time == 7.0
    assert matcher.problem == ""


def test_what_is_no_metadata_is_passed_over_and_what_never_matches_is_a_problem() -> None:
    matcher = FrameMatcher()
    junk = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    assert list(matcher.feed(METADATA, junk + b"\n" + of(0) + b"\n")) == []
    assert list(matcher.feed(TIMES, junk + b"\n")) == []
    for number in range(1, 200):
        list(matcher.feed(TIMES, b"%d.500\n" % (number * 33)))
        list(matcher.feed(METADATA, b",\n" + of(number)))
        list(matcher.feed(FRAMES, rpicam_vid.JPEG))
    assert "no metadata of theirs" in matcher.problem


def test_a_picture_without_a_sensor_is_refused(ssd: Model) -> None:
    with pytest.raises(InputError, match="runs in the AI Camera only"):
        Predictor(ssd, 5, 0.5).ask(Sample(rpicam_vid.JPEG, 0.0, 0.0, {}))
