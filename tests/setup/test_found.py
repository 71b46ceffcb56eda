from pathlib import Path

import pytest

from edge_agent.models.registry import entries
from edge_agent.setup.found import PROPOSED, Takes, cameras, microphones, models

LISTED = """\
Available cameras
-----------------
0 : imx708 [4608x2592 10-bit RGGB] (/base/soc/i2c0mux/i2c@1/imx708@1a)
    Modes: 'SRGGB10_CSI2P' : 1536x864 [120.13 fps]
"""


def device(sysfs: Path, number: int, name: str, index: int = 0) -> None:
    folder = sysfs / f"video{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "index").write_text(f"{index}\n")


def test_cameras_are_those_that_give_pictures(tmp_path: Path) -> None:
    device(tmp_path, 0, "HD Webcam: HD Webcam")
    device(tmp_path, 1, "HD Webcam: HD Webcam", index=1)
    device(tmp_path, 10, "bcm2835-codec-decode")
    device(tmp_path, 20, "unicam")
    usb, ribbon = cameras(tmp_path, lambda: LISTED)
    assert usb.source == {"type": "camera", "device": 0, "fps": 5}
    assert "HD Webcam" in usb.title
    assert ribbon.source["argv"][:3] == ["rpicam-vid", "--camera", "0"]
    assert "imx708" in ribbon.title


def test_a_machine_without_cameras_and_sound_has_none(tmp_path: Path) -> None:
    assert cameras(tmp_path / "none", lambda: "No cameras available!") == []
    assert microphones(tmp_path / "none") == []


def test_microphones_are_the_devices_that_record(tmp_path: Path) -> None:
    lines = "00-00: bcm2835 Headphones : bcm2835 Headphones : playback 8\n02-00: USB Audio : USB Audio : capture 1\n"
    (tmp_path / "pcm").write_text(lines)
    [found] = microphones(tmp_path)
    assert found.source == {"type": "microphone", "device": "plughw:2,0"}


@pytest.mark.parametrize("takes", ["pictures", "sound", "readings"])
def test_models_are_listed_for_what_they_take_the_proposed_one_first(takes: Takes) -> None:
    known = models(takes)
    assert known[0].name == PROPOSED[takes]
    assert all(one.size > 0 and one.licence for one in known)
    assert {entries()[one.name].input is None for one in known if one.name in entries()} <= {takes == "pictures"}
