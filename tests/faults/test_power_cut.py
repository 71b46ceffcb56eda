"""What is safe when the power goes. See `PowerCutDisk` for what is shown, and what is not."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.mqtt.disk_queue import DiskQueue
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.disks import PowerCutDisk
from tests.mqtt.bench import Bench, arrived

pytestmark = pytest.mark.faults

CUTS = 20


class Producer:
    """A process that produces results, and the numbers of those that it said were safe."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.faults.produce", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        self.safe: list[int] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith(b"\n"):
                self.safe.append(int(line))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def producing(folder: Path, *arguments: str) -> Iterator[Producer]:
    producer = Producer(str(folder), *arguments)
    try:
        wait_until(lambda: producer.safe, 20, "the first results are safe")
        yield producer
    finally:
        producer.kill()


def test_results_that_were_safe_before_the_power_went_are_there_afterwards(tmp_path: Path) -> None:
    dice, proven = random.Random(20), 0
    with PowerCutDisk(tmp_path) as disk:
        for cut in range(CUTS):
            folder = disk.path / str(cut)
            folder.mkdir()
            os.sync()  # the folder itself is not what is at stake
            with producing(folder) as producer:
                time.sleep(dice.choice([0.0, dice.uniform(0, 0.1), dice.uniform(0, 2)]))
                safe = list(producer.safe)
                with disk.cut() as after:
                    kept = numbers(after / str(cut) / "outbox.db")
            assert set(safe) <= set(kept), f"cut {cut}: {len(set(safe) - set(kept))} of {len(safe)} are lost"
            assert kept == list(range(1, len(kept) + 1)), "in order, each once, none invented"
            proven += len(safe)
    print(f"{CUTS} power cuts, {proven} results were safe before them and intact afterwards")


def numbers(path: Path) -> list[int]:
    """The results in an outbox after the power has come back."""
    queue = DiskQueue(path, 10**9)
    found = queue.open()
    assert not path.with_name("outbox.db.damaged").exists()
    kept = [int(row.payload.split(b'"seq":')[1].split(b",")[0]) for _, row in queue.after(0, 10**6)]
    assert found == Counter({"lab": len(kept)})
    queue.close()
    return kept


def test_an_agent_delivers_after_a_power_cut_what_was_safe_before(tmp_path: Path) -> None:
    # By default, a broker drops what a subscriber is too slow for.
    with (
        Mosquitto(tmp_path / "broker", ["max_queued_messages 0"]) as mosquitto,
        PowerCutDisk(tmp_path / "disks") as disk,
        producing(disk.path) as producer,
    ):
        time.sleep(1)
        safe = list(producer.safe)
        with disk.cut() as after, Subscriber(mosquitto.port, "edge/bench/+/result") as client:
            with Bench(after, mosquitto.url, replay_rate=5000) as bench:
                bench.wait_until_connected()
                wait_until(lambda: bench.counts()["queued"] == 0, 60, "everything is delivered")
            arrived(client, len(safe), timeout=60)
            delivered = {int(message.payload.split(b'"seq":')[1].split(b",")[0]) for message in client.messages}
    assert delivered >= set(safe)


def test_the_cut_takes_what_was_not_written_to_the_disk(tmp_path: Path) -> None:
    """Else the other tests would show nothing."""
    with PowerCutDisk(tmp_path) as disk, producing(disk.path, "unsynced") as producer:
        wait_until(lambda: len(producer.safe) > 1000, 20, "a thousand lines are written")
        with disk.cut() as after:
            file = after / "lines"
            assert not file.exists() or len(file.read_text().splitlines()) < 1000
