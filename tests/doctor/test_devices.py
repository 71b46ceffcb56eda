import os
from pathlib import Path

import pytest

from edge_agent.doctor import devices, machine
from edge_agent.doctor.machine import Finding, failure, ok, warning
from tests.doctor.made_up import configured, only
from tests.doctor.made_up import machine as made_up

CAMERA = {
    "/sys/class/video4linux/video0/name": "HD Webcam\n",
    "/sys/class/video4linux/video0/index": "0\n",
    "/sys/class/video4linux/video1/name": "HD Webcam\n",
    "/sys/class/video4linux/video1/index": "1\n",
    "/sys/class/video4linux/video10/name": "bcm2835-codec-decode\n",
    "/dev/video0": "",
    "/dev/video1": "",
    "/dev/video10": "",
}
RIBBON = {"/sys/class/video4linux/video0/name": "unicam\n", "/dev/video0": ""}
NOWHERE = {"PATH": ""}


def program(folder: Path, name: str, text: str) -> dict[str, str]:
    """An environment with this program, and what else is there."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_camera_is_listed_once_without_its_metadata_and_without_codecs(tmp_path: Path) -> None:
    assert devices.cameras(made_up(tmp_path, CAMERA, environ=NOWHERE)) == [ok("/dev/video0: HD Webcam")]


def test_a_machine_without_devices_has_none(tmp_path: Path) -> None:
    bare = made_up(tmp_path, environ=NOWHERE)
    for check in devices.cameras, devices.microphones, devices.serial_ports, devices.sensors:
        assert check(bare) == [ok("none")]


def test_a_device_that_the_user_may_not_open_is_told_with_its_group_and_the_command(tmp_path: Path) -> None:
    bare = made_up(tmp_path, {**CAMERA, "/etc/group": f"cameras:x:{os.getgid()}:\n"}, may_use=lambda _: False)
    (found,) = [finding for finding in devices.cameras(bare) if finding.state == "warning"]
    assert found.text == "HD Webcam: pi may not open /dev/video0 (group cameras)"
    assert found.fix == "sudo usermod -aG cameras pi  # then log out and in again"


def test_a_user_who_has_joined_the_group_since_is_told_to_log_in_again(tmp_path: Path) -> None:
    files = {"/dev/ttyUSB0": "", "/etc/group": f"dialout:x:{os.getgid()}:root,pi\n"}
    found = only(devices.serial_ports(made_up(tmp_path, files, may_use=lambda _: False)))
    assert (found.state, found.fix) == ("warning", "log out and in again")


def test_a_camera_without_a_file_in_dev_is_told(tmp_path: Path) -> None:
    files = {"/sys/class/video4linux/video3/name": "Gone\n"}
    found = only(devices.cameras(made_up(tmp_path, files, environ=NOWHERE)))
    assert found == warning("Gone: /dev/video3 is missing", "sudo udevadm trigger")


def test_a_camera_on_the_ribbon_cable_needs_the_tools_of_libcamera(tmp_path: Path) -> None:
    found = only(devices.cameras(made_up(tmp_path, RIBBON, environ=NOWHERE)))
    assert (found.state, found.fix) == ("warning", "sudo apt install rpicam-apps-lite")


@pytest.mark.parametrize(
    ("listing", "found"),
    [
        (
            "echo 'Available cameras'; echo '0 : imx708_wide [4608x2592 10-bit RGGB] (/base/soc/imx708@1a)'",
            ok("libcamera: imx708_wide: use `command` with rpicam-vid"),
        ),
        (
            "echo 'No cameras available!'",
            warning(
                "the ribbon cable's port is on, and libcamera sees no camera",
                "sudo poweroff  # then seat the cable again, contacts as the port wants them",
            ),
        ),
    ],
)
def test_what_libcamera_sees_is_told(listing: str, found: Finding, tmp_path: Path) -> None:
    program(tmp_path, "rpicam-vid", "")
    environ = program(tmp_path, "rpicam-hello", listing)
    assert devices.cameras(made_up(tmp_path / "root", RIBBON, environ=environ)) == [found]


def test_a_camera_tool_that_hangs_or_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROGRAM_TIMEOUT", 0.2)
    program(tmp_path, "rpicam-vid", "")
    for text, said in ("exec sleep 60", "does not end within 0.2 s"), ("echo 'no library' >&2; exit 1", "no library"):
        environ = program(tmp_path, "rpicam-hello", text)
        found = only(devices.cameras(made_up(tmp_path / "root", RIBBON, environ=environ)))
        assert (found.state, found.text) == ("warning", f"{tmp_path}/rpicam-hello --list-cameras: {said}")


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (7, "pipeline porch: there is no /dev/video7"),
        ("C920", "pipeline porch: camera 'C920': no camera has this name; there is: /dev/video0 (HD Webcam), …"),
    ],
)
def test_a_camera_of_the_configuration_that_is_not_there_is_a_failure(
    device: int | str, said: str, tmp_path: Path
) -> None:
    document = {
        "models": {"digits": {"path": "digits"}},
        "pipelines": {"porch": {"source": {"type": "camera", "device": device}, "model": "digits"}},
    }
    with_camera = made_up(tmp_path, CAMERA, environ=NOWHERE, config=configured(tmp_path, document))
    (found,) = [finding for finding in devices.cameras(with_camera) if finding.state == "failure"]
    assert found.text.startswith(said.removesuffix("…"))
    assert found.fix == "v4l2-ctl --list-devices"


def test_a_camera_of_the_configuration_that_may_not_be_opened_is_a_failure(tmp_path: Path) -> None:
    document = {
        "models": {"digits": {"path": "digits"}},
        "pipelines": {"porch": {"source": {"type": "camera", "device": "webcam"}, "model": "digits"}},
    }
    closed = made_up(tmp_path, CAMERA, environ=NOWHERE, config=configured(tmp_path, document), may_use=lambda _: False)
    assert [finding.text.partition(":")[0] for finding in devices.cameras(closed) if finding.state == "failure"] == [
        "pipeline porch"
    ]


def test_ports_programs_and_sensors_of_the_configuration_that_are_not_there_are_failures(tmp_path: Path) -> None:
    sources = {
        "lab": {"type": "serial", "port": "/dev/ttyUSB7", "format": "csv"},
        "hall": {"type": "command", "argv": ["rpicam-vid", "-o", "-"], "format": "mjpeg"},
        "attic": {"type": "command", "argv": ["./mine"], "format": "mjpeg"},
        "room": {"type": "microphone"},
        "shed": {"type": "iio", "device": "bme280", "rate": 1},
        "roof": {"type": "iio", "device": "imu", "buffered": True},
    }
    pipelines = {name: {"source": source, "model": "digits"} for name, source in sources.items()}
    loaded = configured(tmp_path, {"models": {"digits": {"path": "digits"}}, "pipelines": pipelines})
    files = {"/sys/bus/iio/devices/iio:device1/name": "imu\n"}
    here = made_up(tmp_path, files, environ=NOWHERE, config=loaded, file=tmp_path / "agent.yaml")
    assert [finding.text for finding in devices.serial_ports(here)] == ["pipeline lab: there is no /dev/ttyUSB7"]
    program(tmp_path, "mine", "")
    assert devices.programs(here) == [
        failure("pipeline hall: there is no program rpicam-vid", "sudo apt install rpicam-apps-lite"),
        ok(f"pipeline attic: {tmp_path}/mine"),
        failure("pipeline room: there is no program arecord", "sudo apt install alsa-utils"),
    ]
    assert [finding.text for finding in devices.sensors(here)] == [
        "iio:device1: imu",
        "pipeline shed: there is no such device: is its driver loaded? There is: 1 (imu)",
        "pipeline roof: there is no /dev/iio:device1",
    ]


def test_ports_sensors_and_microphones_are_listed(tmp_path: Path) -> None:
    files = {
        "/dev/ttyACM0": "",
        "/dev/snd/pcmC1D0c": "",
        "/dev/snd/pcmC1D0p": "",
        "/sys/bus/iio/devices/iio:device0/name": "bme280\n",
    }
    full = made_up(tmp_path, files)
    assert devices.serial_ports(full) == [ok("/dev/ttyACM0")]
    assert devices.microphones(full) == [ok("/dev/snd/pcmC1D0c")]
    assert devices.sensors(full) == [ok("iio:device0: bme280")]


def test_the_user_is_told_with_the_names_of_the_groups(tmp_path: Path) -> None:
    assert devices.user(made_up(tmp_path, groups=frozenset({44, 20, 999}))) == [ok("pi, groups 999, dialout, video")]
    assert "may open everything" in only(devices.user(made_up(tmp_path, user="root"))).text


def test_failures_of_the_kernel_to_read_a_name_are_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "sys/class/video4linux/video0").mkdir(parents=True)
    (found,) = devices.cameras(made_up(tmp_path, {"/dev/video0": ""}, environ=NOWHERE))
    assert found == ok("/dev/video0: ")


def test_findings_that_need_no_fixing_have_no_command() -> None:
    assert ok("x").fix == ""
    assert failure("x", "y") == Finding("failure", "x", "y")
