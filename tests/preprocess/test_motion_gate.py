import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent import settings
from edge_agent.counters import imbalance
from edge_agent.errors import InputError
from edge_agent.preprocess.motion_gate import ADAPT, MAX_SCENES, MotionGate
from edge_agent.samples import ReplyTo, Sample
from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration
from tests.sources.stage import DIGITS, Stage, digits_model
from tests.still_scene import Scene

FPS = 10
Frame = NDArray[np.uint8]
NOISE = np.random.default_rng(1).normal(0, 5, (480, 640, 3)).astype(np.float32)


def gate(regions: dict[str, Any] | None = None, **options: Any) -> MotionGate:
    wanted = {"type": "motion", "hold": 0, "heartbeat": "1h"} | options
    return MotionGate(settings.Gate.model_validate(wanted), regions or {})


def passed(gate: MotionGate, frames: Iterable[Any], fps: float = FPS, **origin: Any) -> list[bool]:
    return [gate.passes(Sample(frame, 0.0, number / fps, origin)) for number, frame in enumerate(frames)]


def blocks(seed: int = 1, light: float = 1.0) -> Frame:
    """A picture of large blocks, with noise of its own each time."""
    scene = np.random.default_rng(1).integers(40, 160, (12, 16, 3)).astype(np.float32)
    lit = cv2.resize(scene * np.float32(light), (640, 480), interpolation=cv2.INTER_NEAREST)
    return np.asarray(np.clip(np.roll(NOISE, 7 * seed, axis=0) + lit, 0, 255), np.uint8)


def with_square(frame: Frame, x: int, y: int, side: int = 80) -> Frame:
    marked = frame.copy()
    marked[y : y + side, x : x + side] = 250
    return marked


def still(count: int, light: float = 1.0) -> list[Frame]:
    return [blocks(seed, light) for seed in range(count)]


@pytest.mark.parametrize(("background", "thing"), [("hot_dog.jpg", "dog.jpg"), ("bird.bmp", "grace_hopper.bmp")])
def test_all_frames_in_which_something_moves_pass_and_no_others(background: str, thing: str, data_dir: Path) -> None:
    scene = Scene(data_dir / "images" / background, data_dir / "images" / thing, fps=5)
    frames, moving = zip(*scene.frames(), strict=True)
    found = passed(gate(), frames, fps=5)
    assert sum(moving) == 20
    assert [number for number, moves in enumerate(moving) if moves and not found[number]] == []
    # The first frame is news. For a moment after the thing has gone, the scene is new where it was.
    late = sum(found) - sum(moving) - 1
    assert 0 <= late <= 5


def test_in_a_clip_the_still_frames_are_counted_as_unchanged_and_have_no_result(data_dir: Path, tmp_path: Path) -> None:
    images = data_dir / "images"
    moving = Scene(images / "hot_dog.jpg", images / "dog.jpg", fps=5).write(tmp_path / "clip.mp4")
    clip = {"type": "video", "url": "clip.mp4", "fps": "max"}
    with Stage(clip, digits_model(), tmp_path, gate={"type": "motion", "hold": 0}) as stage:
        stage.wait_until_ended()
    counts, shown = stage.counts(), [sample.origin["frame"] for sample in stage.results]
    assert {number for number, moves in enumerate(moving, start=1) if moves} <= set(shown)
    assert shown == sorted(shown)
    assert counts["captured"] == len(moving)
    assert counts["inferred"] == counts["produced"] == len(shown)
    assert counts["dropped"]["unchanged"] == len(moving) - len(shown) > 0.8 * len(moving)
    assert stage.imbalances == []


def test_after_the_last_motion_frames_pass_for_a_while() -> None:
    scene = [*still(20), with_square(blocks(), 100, 100), *still(20)]
    found = passed(gate(hold="1s"), scene)
    assert found == [True] * 10 + [False] * 10 + [True] * 10 + [False] * 11


def test_a_frame_passes_when_none_has_passed_for_long() -> None:
    found = passed(gate(heartbeat="2s"), still(60))
    assert [number for number, passes in enumerate(found) if passes] == [0, 20, 40]


def test_light_that_is_switched_on_passes_once() -> None:
    found = passed(gate(), [*still(10), *still(30, light=1.5)])
    assert [number for number, passes in enumerate(found) if passes] == [0, 10]


def test_light_that_comes_slowly_passes_not_at_all() -> None:
    found = passed(gate(), [blocks(number, 1 + number / 100) for number in range(50)])
    assert found == [True] + [False] * 49


def test_what_has_changed_for_good_does_not_pass_for_ever() -> None:
    found = passed(gate(), [*still(10), *(with_square(frame, 100, 100) for frame in still(300))])
    assert found[10:20] == [True] * 10
    assert not any(found[10 + round(4 * ADAPT * FPS) :])


def test_a_change_that_is_too_small_or_too_faint_does_not_pass() -> None:
    small = with_square(blocks(), 100, 100, side=16)
    assert passed(gate(), [*still(10), small])[-1] is False
    assert passed(gate(min_area=0.001), [*still(10), small])[-1] is True
    large = with_square(blocks(), 100, 100)
    assert passed(gate(threshold=255), [*still(10), large])[-1] is False


def test_only_what_moves_inside_a_region_counts() -> None:
    regions = {"door": (0.5, 0, 1, 0.5), "window": (0.0, 0.5, 0.2, 1.0)}
    outside, door, window = (with_square(blocks(), x, y) for x, y in ((100, 100), (400, 100), (40, 300)))
    for frame, expected in (outside, False), (door, True), (window, True):
        assert passed(gate(regions), [*still(10), frame])[-1] is expected


def test_a_few_frames_an_hour_are_compared_with_the_one_before() -> None:
    changed = with_square(blocks(), 100, 100)
    assert passed(gate(heartbeat="1d"), [blocks(), blocks(2), changed, changed, blocks()], fps=1 / 600) == [
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_file_has_a_time_of_its_own_that_may_begin_again() -> None:
    one = gate(heartbeat="4s")
    frames = iter(still(60))
    found = [
        one.passes(Sample(next(frames), 0.0, 0.0, {"position_s": position / FPS}))
        for position in [*range(30), *range(30)]
    ]
    # Three seconds, the jump back, which takes no time, and one second more.
    assert [number for number, passes in enumerate(found) if passes] == [0, 41]


def test_each_topic_is_a_scene_of_its_own() -> None:
    one, other = blocks(), with_square(blocks(), 100, 100)
    shared = gate()
    assert [passed(shared, [frame], topic=topic) for frame, topic in ((one, "a"), (other, "b"))] == [[True], [True]]
    assert [passed(shared, [frame], topic=topic) for frame, topic in ((one, "a"), (other, "b"))] == [[False], [False]]
    for number in range(MAX_SCENES):
        passed(shared, [one], topic=str(number))
    assert passed(shared, [one], topic="a") == [True]


def test_what_is_asked_for_passes_and_what_is_no_picture_goes_on_to_where_that_is_told() -> None:
    encoded = cv2.imencode(".jpg", blocks())[1].tobytes()
    one = gate()
    assert passed(one, [encoded, encoded]) == [True, False]
    assert one.passes(Sample(encoded, 0.0, 0.3, {}, ReplyTo("answers", None)))
    assert passed(one, [b"hello", InputError("no frame"), encoded[:1000], encoded]) == [True, True, True, False]
    # Another size is another picture; one that has no room for a region is refused by the road.
    assert passed(one, [blocks()[:100], blocks()[:1], blocks()[:, :1]]) == [True, True, True]
    assert passed(gate({"meter": (0, 0, 700, 100)}), [blocks(), blocks()]) == [True, True]


def test_still_pictures_over_mqtt_are_acknowledged_without_a_result_unless_one_is_asked_for(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    picture = (DIGITS / "golden" / "5_printed.png").read_bytes()
    lab = {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits", "gate": {"type": "motion"}}
    config = configuration(
        mosquitto, "still", models={"digits": {"path": str(DIGITS)}}, pipelines={"lab": lab | {"top_k": 1}}
    )
    config["pipelines"]["lab"]["gate"]["hold"] = 0
    asking = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    asking.ResponseTopic = "answer"
    with Subscriber(mosquitto.port, "edge/still/#", "answer") as client, Daemon(tmp_path, config) as daemon:
        for _ in range(4):
            client.publish("lab", picture)
        client.publish("lab", picture, properties=asking)
        client.wait_for(lambda message: message.topic == "answer")
        daemon.stop()
        client.wait_for(lambda message: message.topic == "edge/still/status" and message.payload == b"offline")
    stats = [json.loads(message.payload) for message in client.messages if message.topic == "edge/still/stats"]
    counts = stats[-1]["pipelines"]["lab"]
    assert (counts["captured"], counts["inferred"], counts["dropped"]["unchanged"]) == (5, 2, 3)
    assert imbalance(counts) == ""
    assert len([message for message in client.messages if message.topic == "edge/still/lab/result"]) == 2
    # Nothing is left at the broker.
    with Subscriber(mosquitto.port, "edge/still/lab/result") as client, Daemon(tmp_path, config):
        client.publish("lab", picture)
        (result,) = client.wait_for(lambda message: message.topic == "edge/still/lab/result")
        assert json.loads(result.payload)["seq"] == 1
        assert "redelivered" not in json.loads(result.payload)["input"]


def test_a_defect_in_the_gate_is_logged_once_and_leaves_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> bool:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(MotionGate, "passes", broken)
    stage = Stage({"type": "camera"}, digits_model(), tmp_path, gate={"type": "motion"})
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert stage.pipeline._admission._shows_motion(Sample(blocks(), 0.0, 0.0, {}))
    assert len(caplog.records) == 1
