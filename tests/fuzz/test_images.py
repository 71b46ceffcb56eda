"""Damaged pictures: each is refused with a sentence or read, and whoever decodes it lives on."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.counters import imbalance
from edge_agent.models.shipped import shipped
from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration
from tests.fuzz.road import travel
from tests.mutate import mutated

COUNT = 2000
DEVICE = "fuzzed"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One of each kind that is taken, of 120 x 90 pixels."""
    rng = np.random.default_rng(7)
    color = cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3), np.uint8), (9, 9), 0)
    with_alpha = np.dstack([color, color[..., 0]])
    jpeg = cv2.imencode(".jpg", color, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    kinds = {
        "base.jpg": jpeg,
        "turned.jpg": jpeg[:2] + _exif(orientation=6) + jpeg[2:],
        "progressive.jpg": cv2.imencode(".jpg", color, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
        "gray.jpg": cv2.imencode(".jpg", color[..., 0])[1].tobytes(),
        "color.png": cv2.imencode(".png", color)[1].tobytes(),
        "alpha.png": cv2.imencode(".png", with_alpha)[1].tobytes(),
        "deep.png": cv2.imencode(".png", color.astype(np.uint16) * 257)[1].tobytes(),
        "color.bmp": cv2.imencode(".bmp", color)[1].tobytes(),
        "gray.bmp": cv2.imencode(".bmp", color[..., 0])[1].tobytes(),
        "lossy.webp": cv2.imencode(".webp", color, [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes(),
        "lossless.webp": cv2.imencode(".webp", with_alpha, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes(),
    }
    folder = tmp_path_factory.mktemp("pictures")
    for name, content in kinds.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in kinds]


def _exif(orientation: int) -> bytes:
    """An APP1 segment with nothing but the orientation: CIPA DC-008, 4.6."""
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00" + bytes([orientation, 0, 0, 0])
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
    return b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif


def test_damaged_pictures_harm_nobody(pictures: list[Path]) -> None:
    tally = travel("images", range(COUNT), pictures)
    print(tally)
    assert tally.fatal == []
    assert tally.outcomes.total() == COUNT
    kinds = {"jpg", "png", "bmp", "webp"}
    assert set(tally.outcomes) == {f"{kind} {outcome}" for kind in kinds for outcome in ("read", "refused")}
    assert tally.slowest < 5
    assert tally.growth_mib < 200


@pytest.mark.fuzz
@pytest.mark.timeout(600)
def test_a_daemon_answers_every_damaged_picture(pictures: list[Path], broker: Mosquitto, tmp_path: Path) -> None:
    config = configuration(
        broker,
        DEVICE,
        models={"digits": {"path": str(shipped("digits"))}},
        pipelines={"lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}},
    )
    ends = {f"edge/{DEVICE}/lab/result", f"edge/{DEVICE}/lab/error"}
    with Daemon(tmp_path, config) as daemon, Subscriber(broker.port, f"edge/{DEVICE}/#") as client:
        memory = [daemon.memory()]
        for seed in range(COUNT):
            client.publish("lab", mutated(pictures[seed % len(pictures)].read_bytes(), seed))
            if seed % (COUNT // 10) == 0:
                client.wait_for(lambda message: message.topic in ends, seed + 1, timeout=60)
                memory.append(daemon.memory())
        client.wait_for(lambda message: message.topic in ends, COUNT, timeout=60)
        memory.append(daemon.memory())
        last_stats = [m for m in client.messages if m.topic.endswith("/stats")][-1]
    print(memory)
    assert max(memory) - memory[2] < 100
    assert imbalance(json.loads(last_stats.payload)["pipelines"]["lab"]) == ""
    assert "Traceback" not in daemon.log()
    assert "defect" not in daemon.log()
