"""The recipes of docs/sensors.md, with stand-ins that print what the real programs print, or with the real ones."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from tests.pages import ROOT, blocks
from tests.sources.listener import Listener
from tests.sources.test_command import pictures
from tests.sources.test_lines import TERMUX

PHOTOS = ROOT / "deploy" / "termux" / "photos.sh"
RECIPES = {
    name: pipeline["source"]
    for block in blocks("yaml", "# agent.yaml", "sensors.md")
    for name, pipeline in yaml.safe_load(block.text)["pipelines"].items()
    if pipeline["source"]["type"] == "command"
}
needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg: apt-get install ffmpeg")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for stand-ins, before all others on the path."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def stand_in(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_there_is_a_recipe_for_each_of_these() -> None:
    assert [source["argv"][0] for source in RECIPES.values()] == [
        "rpicam-vid",
        "ffmpeg",
        "termux-sensor",
        "./photos.sh",
        "ffmpeg",
    ]


def test_the_camera_of_a_pi(programs: Path, tmp_path: Path) -> None:
    films = pictures(tmp_path, 3)
    # It says on its standard error what it does, and writes pictures as long as it is left alone.
    stand_in(
        programs,
        "rpicam-vid",
        'echo "$@" > arguments; echo "[0:13:22.2] INFO Camera camera_manager.cpp:313 libcamera v0.3.2" >&2\n'
        f"while :; do cat {' '.join(map(str, films))}; sleep 0.05; done",
    )
    with Listener(RECIPES["porch"], tmp_path) as listener:
        listener.wait_for(lambda listener: len(listener.pictures) >= 6, "six pictures")
    assert listener.pictures[:6] == [film.read_bytes() for film in films] * 2
    assert (tmp_path / "arguments").read_text().split()[-2:] == ["--output", "-"]


@needs_ffmpeg
def test_a_network_camera(tmp_path: Path) -> None:
    """With the real FFmpeg; in place of the camera and its decoder there is a film."""
    seconds, width, height = 5, 640, 360
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 180))
    for number in range(seconds * 10):
        writer.write(np.full((180, 320, 3), number * 5, np.uint8))
    writer.release()
    source: dict[str, Any] = RECIPES["yard"] | {"restart": "never"}
    recipe = " ".join(source["argv"])
    argv = recipe.replace(" -rtsp_transport tcp -c:v h264_v4l2m2m", "").replace("${env:YARD_URL}", str(film))
    assert argv != recipe
    with Listener(source | {"argv": argv.split()}, tmp_path) as listener:
        listener.wait_until_ended()
    assert listener.troubles == []
    assert {picture.shape for picture in listener.pictures} == {(height, width, 3)}
    assert len(listener.pictures) == pytest.approx(2 * seconds, abs=1)
    brightness = [picture.mean() for picture in listener.pictures]
    assert brightness == sorted(brightness)


@needs_ffmpeg
def test_the_options_of_the_network_camera_exist() -> None:
    decoders = subprocess.run(["ffmpeg", "-decoders"], capture_output=True, text=True, check=True).stdout
    assert " h264_v4l2m2m " in decoders
    shown = subprocess.run(["ffmpeg", "-h", "demuxer=rtsp"], capture_output=True, text=True, check=True).stdout
    assert "-rtsp_transport" in shown


@needs_ffmpeg
def test_sound_from_anywhere(tmp_path: Path) -> None:
    """With the real FFmpeg, and a WAV file for the radio."""
    samples = np.round(np.sin(np.arange(16000 * 2) / 10) * 2**14).astype("<i2")
    subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-f", "s16le", "-ar", "16000", "-i", "-", str(tmp_path / "radio.wav")],
        input=samples.tobytes(),
        check=True,
    )
    source: dict[str, Any] = RECIPES["hall"] | {"restart": "never"}
    argv = [part.replace("http://radio.lan/stream", "radio.wav") for part in source["argv"]]
    with Listener(source | {"argv": argv}, tmp_path) as listener:
        listener.wait_until_ended()
    assert listener.troubles == []
    assert np.array_equal(listener.values[:, 0] * 2**15, samples)


def test_the_sensors_of_a_phone(programs: Path, tmp_path: Path) -> None:
    # Where it is told to end, it says so on its standard output, and lets the sensors go.
    (tmp_path / "readings").write_text(TERMUX)
    stand_in(
        programs,
        "termux-sensor",
        """trap 'echo "Caught interrupt.. Finishing..."; touch cleaned-up; exit' TERM\n"""
        'echo "$@" > arguments; cat readings\nwhile :; do sleep 0.05; done',
    )
    with Listener(RECIPES["pocket"], tmp_path) as listener:
        listener.wait_for_readings(2)
    assert listener.readings == [pytest.approx([-0.1, 0.5, 9.75]), pytest.approx([-0.2, 0.25, 9.5])]
    [channels] = {series.channels for series in listener.series}
    assert channels == tuple(f"LSM6DSO Acceleration Sensor.{axis}" for axis in range(3))
    assert listener.errors == []
    assert (tmp_path / "arguments").read_text().split() == ["-s", "accelerometer", "-d", "20"]
    assert (tmp_path / "cleaned-up").exists()


def test_the_camera_of_a_phone(programs: Path, tmp_path: Path) -> None:
    shutil.copy(PHOTOS, tmp_path / "photos.sh")
    [photo] = pictures(tmp_path, 1)
    # The second photo fails, as when another app has the camera. Android's program sees Termux' own folders only.
    stand_in(
        programs,
        "termux-camera-photo",
        f'[ "$(dirname "$3")" = "{tmp_path}" ] || exit 1\n'
        f'echo "$1 $2" > arguments; echo x >> taken; [ "$(wc -l < taken)" = 2 ] || cat {photo} > "$3"',
    )
    source: dict[str, Any] = RECIPES["window"]
    with Listener(source | {"argv": ["./photos.sh", "0", "0.05"]}, tmp_path) as listener:
        listener.wait_for(lambda listener: len(listener.pictures) >= 3, "three photos")
    assert set(listener.pictures) == {photo.read_bytes()}
    assert listener.errors == []
    assert (tmp_path / "arguments").read_text().split() == ["-c", "0"]
    assert list(tmp_path.glob(".photo*")) == []


def test_the_readings_that_are_shown_are_readings(tmp_path: Path) -> None:
    block = blocks("json", page="sensors.md")[0]
    (tmp_path / "shown").write_text(block.text)
    argv = ["cat", "shown"]
    with Listener({"type": "command", "argv": argv, "format": "jsonl", "restart": "never"}, tmp_path) as listener:
        listener.wait_until_ended()
    assert listener.readings == [pytest.approx(list(json.loads(block.text).values()))]
