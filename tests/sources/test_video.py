import itertools
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent.models.model import Model
from edge_agent.models.shipped import shipped
from edge_agent.system.address import without_credentials
from tests.sources.contract import FiniteContract, Setup
from tests.sources.stage import DIGITS, Stage

METER, METER_FRAMES, METER_FPS = shipped("clips/meter.mp4"), 200, 10.0


def video(digits: Model, folder: Path, **keys: Any) -> Stage:
    return Stage({"type": "video", "fps": "max", "url": str(METER)} | keys, digits, folder)


def numbers(stage: Stage) -> list[int]:
    return [sample.origin["frame"] for sample in stage.results]


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 12 frames, 20 a second; frame n, from 1, is of brightness 20 n."""
    path = tmp_path_factory.mktemp("clips") / "short.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for number in range(1, 13):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return path


class TestVideoFile(FiniteContract):
    @pytest.fixture
    def setup(self, digits: Model, tmp_path: Path) -> Setup:
        return Setup(open=lambda: video(digits, tmp_path), origin={"url", "frame", "position_s"}, total=METER_FRAMES)


def test_frames_are_numbered_from_1_and_say_their_position_in_the_clip(short: Path, digits: Model) -> None:
    with video(digits, short.parent, url=short.name) as stage:
        stage.wait_until_ended()
    assert numbers(stage) == list(range(1, 13))
    assert [sample.origin["position_s"] for sample in stage.results] == [round(n / 20, 3) for n in range(12)]
    brightness = [float(np.mean(sample.data)) for sample in stage.results]  # type: ignore[arg-type]  # frames here
    assert brightness == pytest.approx([20 * n for n in range(1, 13)], abs=2)
    assert stage.results[0].origin["url"] == str(short)


def test_at_its_own_pace_a_clip_takes_its_own_time(short: Path, digits: Model) -> None:
    with video(digits, short.parent, url=short.name, fps="source") as stage:
        stage.wait_until_ended()
    assert numbers(stage) == list(range(1, 13))
    first = stage.results[0]
    for sample in stage.results:
        assert sample.captured - first.captured == pytest.approx(sample.origin["position_s"], abs=0.04)


def test_with_a_number_of_frames_a_second_the_others_are_passed_over(short: Path, digits: Model) -> None:
    with video(digits, short.parent, url=short.name, fps=5) as stage:
        stage.wait_until_ended()
    assert numbers(stage) == [1, 5, 9]
    assert stage.results[-1].captured - stage.results[0].captured == pytest.approx(0.4, abs=0.04)


def test_more_frames_a_second_than_there_are_changes_nothing(short: Path, digits: Model) -> None:
    with video(digits, short.parent, url=short.name, fps=1000) as stage:
        stage.wait_until_ended()
    assert numbers(stage) == list(range(1, 13))
    assert stage.results[-1].captured - stage.results[0].captured == pytest.approx(0.55, abs=0.05)


def test_as_fast_as_it_goes_a_clip_waits_for_nobody(digits: Model, tmp_path: Path) -> None:
    with video(digits, tmp_path) as stage:
        began = time.monotonic()
        stage.wait_until_ended()
        assert time.monotonic() - began < METER_FRAMES / METER_FPS / 2


@pytest.mark.parametrize("name", ["short.avi", "meter.mp4"])
def test_a_loop_begins_again_with_the_first_frame(name: str, short: Path, digits: Model) -> None:
    path, count = (short, 12) if name == short.name else (METER, METER_FRAMES)
    with video(digits, path.parent, url=str(path), loop=True) as stage:
        stage.wait_for_results(2 * count + 3)
    expected = itertools.cycle(range(1, count + 1))
    assert all(found == wanted for found, wanted in zip(numbers(stage), expected, strict=False))
    # Its clock runs on.
    steps = np.diff([sample.stream_time for sample in stage.results])
    assert steps == pytest.approx(1 / (20 if name == short.name else METER_FPS))


def test_a_paced_loop_keeps_its_pace(short: Path, digits: Model) -> None:
    with video(digits, short.parent, url=short.name, fps="source", loop=True) as stage:
        stage.wait_for_results(26)
    assert stage.results[24].captured - stage.results[0].captured == pytest.approx(24 / 20, abs=0.15)


def test_to_stop_does_not_wait_for_the_next_frame(short: Path, digits: Model) -> None:
    with video(digits, short.parent, url=short.name, fps=0.1) as stage:
        stage.wait_for_results(1)
        began = time.monotonic()
        stage.stop()
        stage.pipeline.close(time.monotonic() + 10)
        assert time.monotonic() - began < 3


def test_a_clip_that_is_cut_off_gives_what_it_has_and_says_so(
    digits: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "whole.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (320, 240))
    for seed in range(12):
        writer.write(np.random.default_rng(seed).integers(0, 256, (240, 320, 3), np.uint8))
    writer.release()
    whole = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    with video(digits, tmp_path, url="cut.avi") as stage:
        stage.wait_until_ended()
    assert 3 < len(stage.results) < 9
    assert stage.troubles == []
    [message] = caplog.messages
    assert message == f"{tmp_path / 'cut.avi'}: ends after {len(stage.results)} of 12 frames: is the file cut off?"


UNREADABLE = {
    "text.mp4": (b"a text, not a video\n" * 1000, "is a text file, not a video"),
    "text.txt": (b"FFmpeg would make a film of these letters\n" * 50, "is a text file, not a video"),
    "empty.mp4": (b"", "can't be opened as a video"),
    "noise.avi": (bytes(range(256)) * 400, "can't be opened as a video"),
    "cut.mp4": (METER.read_bytes()[: METER.stat().st_size // 2], ""),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_no_video_fails_with_one_sentence(name: str, digits: Model, tmp_path: Path) -> None:
    content, reason = UNREADABLE[name]
    (tmp_path / name).write_bytes(content)
    with video(digits, tmp_path, url=name) as stage:
        stage.wait_until_ended()
    [trouble] = stage.troubles
    assert trouble.startswith(f"{tmp_path / name}: ")
    assert trouble.endswith(reason)


def test_a_folder_is_no_video(digits: Model, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with video(digits, tmp_path, url="folder") as stage:
        stage.wait_until_ended()
    assert stage.troubles == [f"{tmp_path / 'folder'}: can't be opened as a video"]


def test_a_photograph_is_not_taken_for_a_series(digits: Model, tmp_path: Path) -> None:
    image = (DIGITS / "golden" / "5_printed.png").read_bytes()
    for number in range(3):
        (tmp_path / f"photo_{number}.png").write_bytes(image)
    with video(digits, tmp_path, url="photo_0.png") as stage:
        stage.wait_until_ended()
    assert len(stage.results) == 1


def test_a_file_url_is_a_file(short: Path, digits: Model) -> None:
    with video(digits, short.parent, url=f"file://{short}") as stage:
        stage.wait_until_ended()
    assert len(stage.results) == 12


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://cam.lan/live", "rtsp://cam.lan/live"),
        ("rtsp://cam.lan:8554/live?token=secret", "rtsp://cam.lan:8554/live"),
        ("rtsp://user:secret@cam.lan:8554/live", "rtsp://cam.lan:8554/live"),
        ("rtsp://cam.lan:secret@cam.lan/live", "rtsp://cam.lan/live"),
        ("rtsp://secret@cam.lan/live#secret", "rtsp://cam.lan/live"),
        ("http://user:secret@[fe80::1]:80/x?a=secret@b", "http://[fe80::1]:80/x"),
        ("http://[::1]/x", "http://[::1]/x"),
        ("rtsp://user:sec/ret@cam.lan/live", "rtsp://cam.lan/live"),
        ("rtsp://user:sec?ret@cam.lan/live", "rtsp://cam.lan/live"),
        ("rtsp://user:sec#ret@cam.lan/live", "rtsp://cam.lan/live"),
        ("rtsp://user:sec@ret@cam.lan/live", "rtsp://cam.lan/live"),
        ("rtsp://[user:secret@cam.lan/live", "rtsp://cam.lan/live"),
        ("http://cam.lan/@home/live", "http://cam.lan/@home/live"),
    ],
)
def test_credentials_are_left_out_of_an_address(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def test_nothing_is_left_open(digits: Model, tmp_path: Path) -> None:
    before = {link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    with video(digits, tmp_path) as stage:
        stage.wait_for_results(1)
        assert METER in {link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()} - before
    assert METER not in {link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("source")]
