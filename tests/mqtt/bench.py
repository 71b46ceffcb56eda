"""An outbox with a connection of its own, without the rest of the agent, as tests set it up."""

import uuid
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, Self

from edge_agent import settings
from edge_agent.counters import Counters, Settlement, imbalance
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.delivery import Delivery, Notice
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session
from edge_agent.mqtt.outbox import Outbox
from tests.broker import Subscriber, wait_until
from tests.reconcile import Ledger, on

RESULTS = "edge/bench/+/result"


class Bench:
    """Produces results and has them delivered; one run of what would be an agent.

    Args:
        folder: where the outbox is.
        url: the broker's.
        session: how the connection is made.
        announces: whether it says `online` whenever it is connected, as an agent does.
        options: of the outbox.
    """

    def __init__(
        self, folder: Path, url: str, session: Session | None = None, *, announces: bool = False, **options: Any
    ) -> None:
        self._announces = announces
        self.path = folder / "outbox.db"
        self.boot_id = uuid.uuid4().hex[:8]
        self.counters: dict[str, Counters] = defaultdict(Counters)
        self.done: list[int] = []
        self.outbox = Outbox(settings.Outbox(**options), self.path, lambda name: self.counters[name])
        self.connection = Connection(
            Endpoint.from_settings(settings.Mqtt(url=url), folder),
            session or Session(f"bench-{self.boot_id}", keepalive=2),
            on_up=self._up,
            on_down=self.outbox.link_down,
            on_acknowledged=self.outbox.acknowledged,
        )

    def _up(self, link: Link) -> None:
        self.outbox.link_up(link, [Notice("edge/bench/status", "online")] if self._announces else [])

    def __enter__(self) -> Self:
        self.outbox.start()
        self.connection.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.outbox.stop(0.5)
        self.connection.stop(5)
        assert not self.outbox._thread.is_alive()

    def produce(self, count: int = 1, pipeline: str = "lab", *, size: int = 300, **options: Any) -> None:
        """Results, each with a document of about `size` bytes."""
        for _ in range(count):
            seq = self.counters[pipeline].produce()
            document = {
                "boot_id": self.boot_id,
                "seq": seq,
                "replayed": False,
                "clock_synced": True,
                "input": {"topic": f"in/{self.boot_id}/{seq}"},
                "padding": "x" * max(0, size - 130),
            }
            topic = f"edge/bench/{pipeline}/result"
            settlement = Settlement(partial(self.done.append, seq))
            self.outbox.put(Delivery(pipeline, topic, document, settlement=settlement, **options))

    def counts(self, pipeline: str = "lab") -> dict[str, Any]:
        counts = self.counters[pipeline].as_dict()
        assert not imbalance(counts), imbalance(counts)
        return counts

    def wait_for(self, timeout: float = 10, pipeline: str = "lab", **wanted: int) -> None:
        """Waits until counters have reached these numbers."""
        what = f"{wanted} ({pipeline})"

        def reached() -> bool:
            counts = self.counts(pipeline)
            flat = counts | counts["discarded"]
            return all(flat[name] == number for name, number in wanted.items())

        try:
            wait_until(reached, timeout, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.counts(pipeline)}") from None

    def wait_until_connected(self) -> None:
        wait_until(lambda: self.connection.link, 30, f"connected ({self.connection.problem})")

    def wait_until_saved(self) -> None:
        """Waits until everything produced so far is safe."""
        assert self.outbox.drain(10)


def url(port: int) -> str:
    """A broker's address on this machine."""
    return f"mqtt://127.0.0.1:{port}"


def arrived(client: Subscriber, count: int, timeout: float = 15) -> Ledger:
    """Everything that has been received, once there are `count` different results: copies by a replay count once."""
    client.wait_for(on("result"), count, timeout)
    wait_until(lambda: Ledger(client.messages).different() >= count, timeout, f"{count} different results arrive")
    return Ledger(client.messages)
