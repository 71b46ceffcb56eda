"""Hard times for the daemon, as short or as long as a test wants them."""

import random
import threading
import time
from pathlib import Path
from typing import Any, Self

from edge_agent.models.shipped import shipped
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.daemon import Daemon, configuration
from tests.reconcile import Ledger

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
    """

    def __init__(self, port: int, count: int, rate: float) -> None:
        self.topics = [f"in/{number:05}" for number in range(count)]
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


def all_answered(client: Subscriber, sender: Sender, timeout: float) -> Ledger:
    """What was said until every input had been answered."""
    wanted, answered, seen = set(sender.topics), set[str](), 0

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


def kill_again_and_again(
    folder: Path, broker: Mosquitto, *, kills: int, images: int, protocol: str, seed: int
) -> Ledger:
    """SIGKILL at random moments, from the first import to full work, while images arrive."""
    dice = random.Random(seed)
    config = lab(broker, "victim")
    config["mqtt"]["protocol"] = protocol
    daemon = Daemon(folder, config)
    with Subscriber(broker.port, "edge/victim/#", client_id="witness") as client:
        daemon.start()
        client.wait_for(lambda message: message.payload == b"online", timeout=30)
        with Sender(broker.port, images, images / (kills * 1.5)) as sender:
            for _ in range(kills):
                time.sleep(dice.uniform(0, 2))
                daemon.kill()
                daemon.start(ready=False)
            sender.finish()
            ledger = all_answered(client, sender, 60)
        wait_until(lambda: Ledger(client.messages).last_counts("lab")["in_progress"] == 0, 10, "all is settled")
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
