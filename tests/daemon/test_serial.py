"""An accelerometer on a serial line: 100 readings of three axes a second, all the way to the broker."""

import itertools
import json
import math
import os
import statistics
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("serial", reason="needs pyserial")

from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration
from tests.timeseries.small_models import clipping_autoencoder

RATE, LENGTH = 100, 50
RESULT, ERROR = "edge/board/motion/result", "edge/board/motion/error"


class Board:
    """Writes lines at its rate, by its own clock, from `start` to `stop`."""

    def __init__(self, port: Path) -> None:
        self._port = port
        self.plug_in()

    def plug_in(self) -> None:
        self._ends = os.openpty()
        tty.setraw(self._ends[1])
        self._port.unlink(missing_ok=True)
        self._port.symlink_to(os.ttyname(self._ends[1]))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write, name="board")

    def send(self, line: str) -> None:
        os.write(self._ends[0], f"{line}\r\n".encode())

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def unplug(self) -> None:
        self.stop()
        self._port.unlink(missing_ok=True)
        for end in self._ends:
            os.close(end)

    def _write(self) -> None:
        began, number = time.monotonic(), 0
        while not self._stopping.wait(max(0.0, began + number / RATE - time.monotonic())):
            angle = 2 * math.pi * number / RATE
            self.send(f"{math.sin(angle):.4f},{math.cos(angle):.4f},1.0000")
            number += 1


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    one = Board(tmp_path / "ttyBoard")
    yield one
    one.unplug()


def board_config(folder: Path, mosquitto: Mosquitto) -> dict[str, Any]:
    (folder / "clips.onnx").write_bytes(clipping_autoencoder(3 * LENGTH))
    source = {
        "type": "serial",
        "port": str(folder / "ttyBoard"),
        "format": "csv",
        "rate": RATE,
        "channels": ["x", "y", "z"],
    }
    taken = {"kind": "series", "rate": RATE, "channels": ["x", "y", "z"]}
    return configuration(
        mosquitto,
        "board",
        models={"motion": {"path": "clips.onnx", "input": taken}},
        pipelines={"motion": {"source": source, "model": "motion"}},
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_result(message: Message) -> bool:
    return message.topic == RESULT


def stats_of(subscriber: Subscriber) -> dict[str, Any]:
    last = [message for message in list(subscriber.messages) if message.topic == "edge/board/stats"][-1]
    counts: dict[str, Any] = json.loads(last.payload)["pipelines"]["motion"]
    return counts


@pytest.mark.parametrize(
    "seconds", [6, pytest.param(600, marks=[pytest.mark.faults, pytest.mark.timeout(900)])], ids=["short", "long"]
)
def test_no_window_is_lost(seconds: int, board: Board, mosquitto: Mosquitto, tmp_path: Path) -> None:
    config = board_config(tmp_path, mosquitto)
    with Subscriber(mosquitto.port, "edge/board/#") as subscriber, Daemon(tmp_path, config) as daemon:
        board.start()
        subscriber.wait_for(is_result, 1, 20)
        used, began = cpu_seconds(daemon.pid), time.monotonic()
        subscriber.wait_for(is_result, seconds * RATE // LENGTH, seconds + 20)
        share = (cpu_seconds(daemon.pid) - used) / (time.monotonic() - began)
        messages = [message for message in list(subscriber.messages) if is_result(message)]
        found = [json.loads(message.payload) for message in messages]
        positions = [one["input"]["position_s"] for one in found]
        assert positions == [round(number * LENGTH / RATE, 3) for number in range(len(found))]
        assert [one["seq"] for one in found] == list(range(1, len(found) + 1))
        assert sum(stats_of(subscriber)["dropped"].values()) == 0
        gaps = [after.arrived_at - before.arrived_at for before, after in itertools.pairwise(messages)]
        late = sorted(abs(gap - LENGTH / RATE) * 1000 for gap in gaps)
        print(
            f"{len(found)} windows, jitter: median {statistics.median(late):.2f} ms, "
            f"99 % {late[len(late) * 99 // 100]:.1f} ms, most {late[-1]:.1f} ms; CPU {share:.1%} of a core"
        )


def test_a_reading_that_is_no_number_and_a_sensor_that_disappears_are_counted_and_said_once(
    board: Board, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    config = board_config(tmp_path, mosquitto)
    with Subscriber(mosquitto.port, "edge/board/#") as subscriber, Daemon(tmp_path, config) as daemon:
        board.start()
        subscriber.wait_for(is_result, 1, 20)
        board.send("nan,0,0")
        subscriber.wait_for(lambda message: message.topic == ERROR, 1)
        wait_until(lambda: stats_of(subscriber)["dropped"]["invalid"] == 1, 10, "it is counted")
        before = sum(map(is_result, list(subscriber.messages)))
        subscriber.wait_for(is_result, before + 2, 20)
        board.unplug()
        subscriber.wait_for(lambda message: message.topic == ERROR, 2, 20)
        before = sum(map(is_result, list(subscriber.messages)))
        board.plug_in()
        board.start()
        messages = subscriber.wait_for(is_result, before + 2, 60)
        assert json.loads(messages[before].payload)["input"]["position_s"] == 0
        errors = [json.loads(one.payload)["error"] for one in list(subscriber.messages) if one.topic == ERROR]
        assert "nan" in errors[0]
        assert len(errors) == 2, errors
        counts = stats_of(subscriber)
        assert counts["dropped"]["invalid"] == 1
        assert counts["dropped"]["stale"] <= 2  # what waited in the two windows that had begun, if they had
        assert daemon.log().count("trying again until it is back") == 1
