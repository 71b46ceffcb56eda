"""Hard times for the daemon, as short or as long as a test wants them."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from edge_agent.models.shipped import shipped
from edge_agent.preprocess.opencv import cv2
from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration
from tests.proxy import Proxy
from tests.reconcile import Ledger, on

DIGITS = shipped("digits")
IMAGES = [path.read_bytes() for path in sorted((DIGITS / "golden").glob("*.png"))]
MODELS = {"digits": {"path": str(DIGITS)}}


def image(digit: str) -> bytes:
    """A picture of a digit."""
    return (DIGITS / "golden" / f"{digit}_printed.png").read_bytes()


class Sender:
    """Publishes images at QoS 1, each to a topic of its own below `in/`, evenly paced, in the background.

    Args:
        port: the broker's.
        count: how many images.
        rate: how many a second.
        first: number of the first topic.
    """

    def __init__(self, port: int, count: int, rate: float, first: int = 0) -> None:
        self.topics = [f"in/{number:05}" for number in range(first, first + count)]
        self._pause = 1 / rate
        self._client = Subscriber(port)
        self._thread = threading.Thread(target=self._send, name="sender")

    def _send(self) -> None:
        began = time.monotonic()
        for number, topic in enumerate(self.topics):
            time.sleep(max(0.0, began + number * self._pause - time.monotonic()))
            self._client.publish(topic, IMAGES[number % len(IMAGES)])

    def finish(self) -> None:
        """Waits until everything has been published."""
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._client.close()


def lab(
    broker: Mosquitto | str, device: str, *, source: dict[str, Any] | None = None, **sections: Any
) -> dict[str, Any]:
    """A configuration with one pipeline, `lab`, that reads digits from what arrives below `in/`."""
    pipeline = {"source": {"type": "mqtt", "topic": "in/#"} | (source or {}), "model": "digits"}
    return configuration(broker, device, models=MODELS, pipelines={"lab": pipeline}) | sections


def all_answered(client: Subscriber, sender: Sender, timeout: float, before: Collection[str] = ()) -> Ledger:
    """What was said until every input had been answered, with those of an earlier sender."""
    wanted, answered, seen = {*before, *sender.topics}, set[str](), 0

    def complete() -> bool:
        nonlocal seen
        fresh, seen = client.messages[seen:], len(client.messages)
        answered.update(r["input"]["topic"] for results in Ledger(fresh).results.values() for r in results)
        return answered >= wanted

    try:
        wait_until(complete, timeout, "every input is answered")
    except AssertionError as error:
        raise AssertionError(f"{error}: {len(answered)} of {len(wanted)} are") from None
    return Ledger(client.messages)


def settled(client: Subscriber) -> bool:
    """Whether nothing is in progress or waits, by the latest counters."""
    stats = next((message for message in reversed(client.messages) if on("stats")(message)), None)
    counts = Ledger([stats]).last_counts("lab") if stats else {"queued": 1}
    return counts["queued"] == 0 and counts["in_progress"] == 0


def kill_again_and_again(
    folder: Path, broker: Mosquitto, *, kills: int, images: int, protocol: str, seed: int
) -> Ledger:
    """SIGKILL at random moments, from the first import to full work, while images arrive."""
    dice = random.Random(seed)
    config = lab(broker, "victim")
    config["mqtt"]["protocol"] = protocol
    daemon = Daemon(folder, config)
    with Subscriber(broker.port, "edge/victim/#") as client, ExitStack() as ends:
        ends.push(daemon)
        daemon.start()
        client.wait_for(lambda message: message.payload == b"online", timeout=30)
        with Sender(broker.port, images, images / (kills * 1.5)) as sender:
            for _ in range(kills):
                time.sleep(dice.uniform(0, 2))
                daemon.kill()
                daemon.start(ready=False)
            sender.finish()
            ledger = all_answered(client, sender, 60)
        wait_until(lambda: settled(client), 10, "all is settled")
        daemon.stop()
        ledger = Ledger(client.messages)
    answered = ledger.answers("lab", sender.topics)
    ledger.in_order("lab")
    ledger.balanced()
    again = sum(count > 1 for count in answered.values())
    print(f"{kills} kills, {len(answered)} of {images} inputs answered, {again} of them more than once, all marked")
    return ledger


def redelivered(ledger: Ledger) -> int:
    """How many results are of inputs that the broker delivered again."""
    return sum(bool(result["input"].get("redelivered")) for result in ledger.results["lab"])


def clip(path: Path, fps: float) -> Path:
    """A film of 50 pictures of digits."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 96))
    for number in range(50):
        encoded = np.frombuffer(IMAGES[number % len(IMAGES)], np.uint8)
        writer.write(cv2.resize(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)), (64, 96)))
    writer.release()
    return path


def film(broker: Mosquitto | str, device: str, path: Path, **sections: Any) -> dict[str, Any]:
    """A configuration with one pipeline, `lab`, that reads a clip at its own pace, in a loop."""
    source = {"type": "video", "url": str(path), "loop": True}
    pipelines = {"lab": {"source": source, "model": "digits", "top_k": 1}}
    return configuration(broker, device, models=MODELS, pipelines=pipelines) | sections


def on_the_disk(folder: Path) -> list[Path]:
    """The files in which results wait."""
    return list(folder.glob("outbox*"))


def broker_away(folder: Path, broker: Mosquitto, *, seconds: float, **outbox: Any) -> Ledger:
    """The broker stops for a while and comes back while a source runs at 20 frames a second.

    Everything that was produced arrives, in order, or is counted as discarded because the outbox was too small.
    """
    path = clip(folder / "clip.avi", 20)
    with Proxy(broker.port) as way, ExitStack() as ends:
        daemon = Daemon(folder / "agent", film(way.url, "camera", path, outbox=outbox))
        ends.push(daemon)
        with Subscriber(broker.port, "edge/camera/#") as client:
            daemon.start()
            client.wait_for(on("result"), 20)
            broker.stop()
            before = client.messages
        time.sleep(seconds)
        way.mode = "refuse"  # until there is a witness again: a broker that has restarted knows no subscriptions
        broker.start()
        with Subscriber(broker.port, "edge/camera/#") as client:
            way.mode = "forward"
            return _until_caught_up(folder / "agent", daemon, client, before)


def _until_caught_up(folder: Path, daemon: Daemon, client: Subscriber, before: list[Message]) -> Ledger:
    wait_until(lambda: on_the_disk(folder) == [], 120, "what had to wait is delivered")
    daemon.stop()
    wait_until(lambda: any(m.payload == b"offline" for m in client.messages), 10, "it has said goodbye")
    ledger = Ledger([*before, *client.messages])
    ledger.balanced()
    ledger.in_order("lab")
    counts = ledger.last_counts("lab")
    ledger.without_gaps("lab", discarded=sum(counts["discarded"].values()))
    assert counts["produced"] == max(result["seq"] for result in ledger.results["lab"])
    assert counts["queued"] == 0
    return ledger


def bad_network(folder: Path, broker: Mosquitto, *, rounds: int, seed: int) -> Ledger:
    """Connections are cut, in the middle of a packet too, or freeze, or are slow, while images arrive."""
    dice = random.Random(seed)
    with Proxy(broker.port) as way, Subscriber(broker.port, "edge/far/#") as client:
        config = lab(way.url, "far")
        config["mqtt"]["keepalive"] = "2s"
        with Daemon(folder, config) as daemon:
            client.wait_for(lambda message: message.payload == b"online")
            with Sender(broker.port, rounds * 60, 20) as sender:
                for _ in range(rounds):
                    trouble = dice.choice(["cut", "cut in a packet", "freeze", "freeze and cut", "delay"])
                    way.delay = 0.1 if trouble == "delay" else 0.0
                    if trouble == "cut in a packet":
                        way.cut_after(dice.randrange(1, 3000))
                    if "freeze" in trouble:
                        way.freeze()
                    time.sleep(dice.uniform(0.5, 5 if "freeze" in trouble else 2))
                    if trouble.endswith("cut"):
                        way.cut()
                    way.thaw()
                    time.sleep(dice.uniform(0, 1))
                way.delay = 0.0
                sender.finish()
                all_answered(client, sender, 90)
                wait_until(lambda: settled(client), 30, "what had to wait is delivered")
            daemon.stop()
            client.wait_for(lambda message: message.payload == b"offline" and not message.retain)
            ledger = Ledger(client.messages)
    answered = ledger.answers("lab", sender.topics)
    ledger.without_gaps("lab")
    ledger.balanced()
    assert ledger.last_counts("lab")["queued"] == 0
    again = sum(count > 1 for count in answered.values())
    print(f"{rounds} troubles, {way.connections} connections, {len(answered)} inputs answered, {again} more than once")
    return ledger


def _online(device: str) -> Callable[[Message], bool]:
    return lambda message: message.topic == f"edge/{device}/status" and message.payload == b"online"


def a_member_is_killed(
    folder: Path,
    broker: Mosquitto,
    *,
    images: int,
    comes_back: bool,
    protocol: str = "5",
    kills: int = 1,
    absence: float = 0.0,
) -> Ledger:
    """Of two agents that share a topic one is killed in the middle of work."""
    members = {}
    for name in ("first", "second"):
        config = lab(broker, name, source={"share": "team", "stand_in": ["first", "second"]})
        config["mqtt"]["protocol"] = protocol
        members[name] = Daemon(folder / name, config)
    with Subscriber(broker.port, "edge/#") as client, ExitStack() as ends:
        for name, member in members.items():
            ends.push(member)
            member.start()
            client.wait_for(_online(name))
        with Sender(broker.port, images, 200) as sender:
            for kill in range(kills):
                victim = members["first" if kill % 2 == 0 else "second"]
                client.wait_for(on("lab", "result"), images // 4 * (kill + 1) // kills)
                victim.kill()
                if comes_back:
                    time.sleep(absence)
                    victim.start()
            ledger = all_answered(client, sender, 60)
        inputs = sender.topics
        if absence:  # the first inputs may have been over before it was back, where the machine is slow
            with Sender(broker.port, images // 10, 200, first=images) as sender:
                ledger = all_answered(client, sender, 60, before=inputs)
            inputs = inputs + sender.topics
        for member in members.values() if comes_back else [members["second"]]:
            member.stop()
    answered = ledger.answers("lab", inputs)
    shares = Counter(result["device_id"] for result in ledger.results["lab"])
    assert len(shares) == 2, "both take part"
    again = sum(count > 1 for count in answered.values())
    print(f"{len(answered)} of {len(inputs)} inputs answered, {again} of them more than once, by {dict(shares)}")
    return ledger
