"""Brings in all that the broker keeps of a fleet, and tells when it has arrived.

A broker sends retained messages one after the other, without a sign at the end, and not necessarily all: of those that
the line has not taken yet, Mosquitto keeps up to `max_queued_messages` (1000) and drops the rest.
"""

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from paho.mqtt.client import Client

from edge_agent.commands.published import is_name
from edge_agent.mqtt.link import Link, Session, Subscription
from edge_agent.settings import Mqtt

# Seconds without a retained message, after which there may be no more.
QUIET = 0.5
MAX_DEVICES = 200_000
# Topics of one SUBSCRIBE, and packets that are under way at a time: together fewer than the broker would drop.
BATCH, WINDOW = 100, 4
# Seconds without anything, after which an answer has been dropped too.
GIVE_UP = 5.0
# Bytes that a connection should read before it handles the first: all that 10,000 devices have retained.
_READ_AHEAD = 32 << 20


class Arrival:
    """Asks for what has not come, device by device.

    When no retained message has come for half a second, an UNSUBSCRIBE follows, which the broker answers in turn: on a
    slow line, or with a busy broker, half a second is only a pause. Then each topic of which nothing has come, of a
    device that has a status, is subscribed to by itself for a moment.

    Args:
        prefix: of all topics.
        kinds: what devices have retained, `status` first.
    """

    def __init__(self, prefix: str, kinds: Sequence[str]) -> None:
        self._prefix, self._kinds = f"{prefix}/", kinds
        self._seen: dict[str, set[str]] = {kind: set() for kind in kinds}
        self._link: Link | None = None
        self._kept_at = 0.0  # when the last retained message came
        self._heard_at = 0.0  # when an answer came
        self._begun = self._complete = False
        self._missing: deque[list[str]] = deque()
        self._under_way = 0

    def session(self, mqtt: Mqtt, client_id: str) -> Session:
        """What a connection requests from the broker, so that everything comes."""
        return Session(
            client_id=client_id,
            protocol=mqtt.protocol,
            keepalive=mqtt.keepalive,
            subscriptions=[Subscription(f"{self._prefix}+/{kind}", 0, retained_again=True) for kind in self._kinds],
            reads_properties=False,
            read_ahead=_READ_AHEAD,
        )

    def note(self, topic: str, *, retained: bool) -> None:
        """A message has come; in the network thread."""
        if not retained:
            return
        self._kept_at = time.monotonic()
        name, _, kind = topic.removeprefix(self._prefix).partition("/")
        if (known := self._seen.get(kind)) is not None and len(known) < MAX_DEVICES and is_name(name):
            known.add(name)

    def is_complete(self, link: Link | None) -> bool:
        """Whether everything has come; call it again until it has.

        Args:
            link: the connection; None: there is none.
        """
        now = time.monotonic()
        if link is not self._link:  # what comes over a new one is complete by itself
            self._link, self._kept_at = link, now
            self._begun = self._complete = False
        if link is not None and not self._begun and now - self._kept_at >= QUIET:
            self._begun, self._under_way = True, 1
            link.client.on_unsubscribe = self._answered
            self._heard_at = now
            link.client.unsubscribe(f"{self._prefix}+/{self._kinds[0]}/none")
        given_up = self._begun and now - max(self._kept_at, self._heard_at) >= GIVE_UP
        return self._complete or given_up

    # In the network thread:

    def _answered(self, client: Client, *_: Any) -> None:
        link = self._link
        if link is None or client is not link.client or self._complete:
            return
        self._heard_at = time.monotonic()
        if self._under_way == 1 and not self._missing:
            self._missing.extend(self._unseen())
        self._under_way -= 1
        while self._missing and self._under_way < WINDOW:
            topics = self._missing.popleft()
            Session("", subscriptions=[Subscription(topic, 0) for topic in topics]).subscribe(link.version, client)
            client.unsubscribe(topics)
            self._under_way += 1
        self._complete = not self._under_way

    def _unseen(self) -> list[list[str]]:
        """What has not come, in batches; each is asked for once."""
        names = self._seen[self._kinds[0]]
        topics = []
        for kind in self._kinds[1:]:
            topics += [f"{self._prefix}{name}/{kind}" for name in names - self._seen[kind]]
            self._seen[kind] |= names
        return [topics[start : start + BATCH] for start in range(0, len(topics), BATCH)]
