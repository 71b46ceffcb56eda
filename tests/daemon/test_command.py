"""Programs as sources of the daemon: from what they print to results over MQTT."""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge_agent.models.shipped import shipped
from tests import scenarios
from tests.broker import PATIENCE, Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon
from tests.images import decode_image
from tests.processes import alive
from tests.scenarios import IMAGES

# Prints the JPEG files of its folder again and again, says its secret on its standard error, and leaves a child behind.
CAMERA = """
import itertools, pathlib, subprocess, sys, time
print("opening", sys.argv[1], file=sys.stderr, flush=True)
sleeper = subprocess.Popen(["sleep", "1000"])
pathlib.Path("sleeper").write_text(str(sleeper.pid))
for path in itertools.cycle(sorted(pathlib.Path().glob("*.jpg"))):
    sys.stdout.buffer.write(path.read_bytes())
    sys.stdout.flush()
    time.sleep(0.05)
"""
SECRET = "rtsp://user:hidden@yard.lan/1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the digits as JPEG files."""
    for number, image in enumerate(IMAGES):
        pixels = decode_image(image)
        assert cv2.imwrite(str(tmp_path / f"{number:02}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])
    return tmp_path


def camera(broker: Mosquitto, **keys: Any) -> dict[str, Any]:
    argv = [sys.executable, "-c", CAMERA, SECRET]
    return scenarios.lab(broker, "cam") | {
        "pipelines": {"lab": {"source": {"type": "command", "argv": argv, "format": "mjpeg"} | keys, "model": "digits"}}
    }


def is_result(message: Message) -> bool:
    return message.topic == "edge/cam/lab/result"


def test_pictures_that_a_program_prints_become_results_and_its_secret_stays_one(
    mosquitto: Mosquitto, folder: Path
) -> None:
    with Subscriber(mosquitto.port, "edge/#") as client, Daemon(folder, camera(mosquitto)) as daemon:
        results = [json.loads(message.payload) for message in client.wait_for(is_result, 5)]
        sleeper = int((folder / "sleeper").read_text())
        assert alive(sleeper)
        end = daemon.stop()
        everything = daemon.log() + "".join(str(message.payload) for message in client.messages)
    assert (end.code, end.seconds < 5 * PATIENCE) == (0, True)
    assert all(result["input"]["command"] == Path(sys.executable).name for result in results)
    assert all(result["predictions"][0]["confidence"] > 0.5 for result in results)
    assert "opening rtsp://yard.lan/1" in everything
    assert "hidden" not in everything
    wait_until(lambda: not alive(sleeper), 10, "what the program started has ended with it")


def test_a_program_dies_with_a_daemon_that_is_killed(mosquitto: Mosquitto, folder: Path) -> None:
    with Subscriber(mosquitto.port, "edge/#") as client, Daemon(folder, camera(mosquitto)) as daemon:
        client.wait_for(is_result)
        sleeper = int((folder / "sleeper").read_text())
        daemon.kill()
        wait_until(lambda: not alive(sleeper), 10, "what the program started has ended")


@pytest.mark.parametrize(("argv", "code"), [(["sh", "-c", "cat *.jpg"], 0), (["sh", "-c", "cat *.jpg; exit 3"], 1)])
def test_run_once_ends_with_the_program(argv: list[str], code: int, mosquitto: Mosquitto, folder: Path) -> None:
    config = camera(mosquitto, argv=argv, restart="never")
    with Subscriber(mosquitto.port, "edge/#") as client:
        daemon = Daemon(folder, config, arguments=("--once",)).start(ready=False)
        assert daemon.wait(60).code == code, daemon.log()
        assert len(client.wait_for(is_result, len(IMAGES))) == len(IMAGES)


def test_a_program_that_is_missing_or_dies_stops_nothing_else(mosquitto: Mosquitto, folder: Path) -> None:
    config = camera(mosquitto)
    for name, argv in {"gone": ["no-such-program"], "dies": ["false"]}.items():
        source = {"type": "command", "argv": argv, "format": "mjpeg"}
        config["pipelines"][name] = {"source": source, "model": "digits"}
    with Subscriber(mosquitto.port, "edge/#") as client, Daemon(folder, config):
        client.wait_for(is_result, 3)
        errors = {
            name: json.loads(client.wait_for(lambda m, t=f"edge/cam/{name}/error": m.topic == t)[0].payload)["error"]  # type: ignore[misc]  # mypy infers no lambda with a default
            for name in ("gone", "dies")
        }
    assert errors == {
        "gone": "gone: command no-such-program: there is no program no-such-program: install it, or give its path",
        "dies": "dies: command false: ended with exit code 1",
    }


def test_readings_that_a_program_prints_become_results(mosquitto: Mosquitto, tmp_path: Path) -> None:
    golden = sorted((shipped("vibration") / "golden").glob("*.json"), reverse=True)  # normal ones first
    rows = [json.loads(path.read_text())["values"] for path in golden]
    (tmp_path / "readings").write_text("".join(f'{{"g": {value}}}\n' for row in rows for value in row))
    source = {"type": "command", "argv": ["cat", "readings"], "format": "jsonl", "rate": 200, "restart": "never"}
    config = scenarios.lab(mosquitto, "pump", models={"vibration": {"path": "vibration"}}) | {
        "pipelines": {"lab": {"source": source, "model": "vibration", "window": {"hop": 32}}}
    }
    with Subscriber(mosquitto.port, "edge/#") as client:
        daemon = Daemon(tmp_path, config, arguments=("--once",)).start(ready=False)
        assert daemon.wait(60).code == 0, daemon.log()
        came = client.wait_for(lambda message: message.topic == "edge/pump/lab/result", len(golden))
    labels = [json.loads(message.payload)["predictions"][0]["label"] for message in came]
    assert labels == [path.name.split("_")[0] for path in golden]
