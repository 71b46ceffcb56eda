from pathlib import Path

import pytest

from edge_agent.errors import SourceError
from edge_agent.models.model import Model
from edge_agent.sources.v4l2 import find_device
from tests.sources.stage import Stage


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """As /sys/class/video4linux shows a machine with two cameras, the first of which has two nodes."""
    cameras = {"video0": "HD Webcam: HD Webcam\n", "video1": "HD Webcam: HD Webcam\n", "video10": "unicam\n"}
    for node, name in cameras.items():
        (tmp_path / node).mkdir()
        (tmp_path / node / "name").write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("device", "path"),
    [
        (3, "/dev/video3"),
        ("3", "/dev/video3"),
        ("/dev/v4l/by-id/usb-cam-index0", "/dev/v4l/by-id/usb-cam-index0"),
        ("HD Webcam", "/dev/video0"),
        ("webcam", "/dev/video0"),
        ("unicam", "/dev/video10"),
    ],
)
def test_a_camera_is_found_by_number_path_or_name(device: int | str, path: str, sysfs: Path) -> None:
    assert find_device(device, sysfs) == path


def test_a_name_that_no_camera_has_is_answered_with_those_that_there_are(sysfs: Path) -> None:
    with pytest.raises(SourceError) as caught:
        find_device("telescope", sysfs)
    assert str(caught.value) == (
        "camera 'telescope': no camera has this name; there is: /dev/video0 (HD Webcam: HD Webcam), "
        "/dev/video1 (HD Webcam: HD Webcam), /dev/video10 (unicam)"
    )


def test_on_a_machine_without_a_camera_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no camera has this name; there is: none"):
        find_device("webcam", tmp_path / "there is no such folder")


def test_a_camera_that_is_not_there_is_said_and_tried_again(
    digits: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The same node that is not there; later something is there that is no camera.
    device = tmp_path / "video99"
    with Stage({"type": "camera", "device": str(device)}, digits, tmp_path) as stage:
        stage.wait_for(lambda stage: stage.troubles, "it is said that the camera is not there")
        device.touch()
        stage.wait_for(lambda stage: len(stage.troubles) == 2, "it is tried again")
        assert not stage.pipeline.ended
    not_there, no_camera = stage.troubles
    where = f"camera {device}: {device} can't be opened"
    assert not_there == f"{where}: there is no such device: is the camera plugged in?"
    assert no_camera == f"{where}: it is in use by another program, or gives no pictures (a metadata node?)"
    assert caplog.messages == [f"{trouble}: trying again until it is back" for trouble in stage.troubles]
