"""Keeps a fleet up to date over a connection, and shows it, live in a terminal, or once."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import MQTTMessage

from edge_agent.commands.arrival import Arrival
from edge_agent.commands.fleet import KINDS, Fleet, Row
from edge_agent.commands.fleet_table import devices, in_room, line, print_document, problems, summary, table
from edge_agent.commands.text_table import as_text, write
from edge_agent.errors import EdgeAgentError
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Subscription
from edge_agent.samples import timestamp
from edge_agent.settings import Mqtt

if TYPE_CHECKING:
    from rich.text import Text

CONNECT_TIMEOUT = 15.0
REFRESH, POLL = 0.5, 0.1
ARRIVE_SECONDS = 60.0
# Results, and the counters of agents that do not have them kept, are waited for this long, in a fleet of up to that
# many rows.
ONCE_SECONDS = 12.0
MAX_AWAITED = 100
# Most pipelines whose results are subscribed to, and topics of one SUBSCRIBE packet.
MAX_FOLLOWED = 1000
BATCH = 100
# Lines below the table about problems.
PROBLEM_LINES = 3
# Lines of the terminal that are not rows: header, two for the summary, two for the connection. And the problems.
FRAME_LINES = 5


class Watcher:
    """Keeps a fleet up to date over one connection.

    Results are subscribed to pipeline by pipeline, for those that are shown: all results of a large fleet would be a
    load on the broker, the network and this machine.

    Attributes:
        fleet: the devices.
    """

    def __init__(self, mqtt: Mqtt, folder: Path) -> None:
        self.fleet = Fleet(mqtt.topic_prefix)
        self._refused = ""
        self._endpoint = Endpoint.from_settings(mqtt, folder)
        self._arrival = Arrival(mqtt.topic_prefix, KINDS)
        self._followed: set[str] = set()
        self._followed_over: Link | None = None
        self._connection = Connection(
            self._endpoint,
            self._arrival.session(mqtt, f"edge-agent-watch-{os.getpid()}-{time.monotonic_ns() % 10**6}"),
            on_up=lambda _: self._refusal(""),
            on_message=self._receive,
        )

    @property
    def address(self) -> str:
        """Of the broker."""
        return self._endpoint.address

    @property
    def problem(self) -> str:
        """The problem with the connection; "" if there is none."""
        return self._refused if self._connection.link else self._connection.problem

    def _receive(self, _link: Link, message: MQTTMessage) -> None:
        self._arrival.note(message.topic, retained=message.retain)
        self.fleet.receive(message.topic, bytes(message.payload), time.monotonic())

    def _refusal(self, text: str) -> None:
        self._refused = text

    def connect(self) -> None:
        """Connects for the first time; afterwards the connection is restored automatically.

        Raises:
            EdgeAgentError: the broker can't be reached, or refuses the connection.
        """
        logger = logging.getLogger("edge_agent")
        logger.addHandler(_Refusals(self._refusal))
        logger.propagate = False  # log lines would break the table
        self._connection.start()
        self._connection.wait_until_tried(CONNECT_TIMEOUT)
        if self._connection.link is None:
            raise EdgeAgentError(self._connection.problem)

    def has_arrived(self) -> bool:
        """Whether all that the broker keeps has come."""
        return self._arrival.is_complete(self._connection.link)

    def follow(self, rows: Iterable[Row]) -> None:
        """Subscribes to the results of these pipelines, and of no others."""
        link = self._connection.link
        if link is None:
            return
        if link is not self._followed_over:  # a new session has no subscriptions
            self._followed, self._followed_over = set(), link
        wanted = {self.fleet.result_topic(row) for row in rows if row.pipeline}
        gone, new = sorted(self._followed - wanted), sorted(wanted - self._followed)
        for part in _batches(gone):
            Session("", unsubscriptions=part).subscribe(link.version, link.client)
        for part in _batches(new):
            wants = [Subscription(topic, 0) for topic in part]
            Session("", subscriptions=wants).subscribe(link.version, link.client)
        self._followed = wanted

    def gather(self) -> None:
        """Listens until all that the broker keeps has arrived.

        In a small fleet it also waits for a result of each pipeline that gives any, and for counters that the broker
        does not keep: twelve seconds at most.
        """
        began = time.monotonic()
        pause = threading.Event()
        while (spent := time.monotonic() - began) < ARRIVE_SECONDS:
            pause.wait(POLL)
            if not self.has_arrived():
                continue
            rows = self.fleet.rows()
            if len(rows) > MAX_AWAITED or spent > ONCE_SECONDS:
                return
            # A pipeline that has published a result needs no subscription any more.
            silent = [row for row in rows if row.pipeline and row.last_at is None and row.status == "online"]
            self.follow(silent)
            awaited = [row for row in silent if row.results_per_s]
            if rows and self.fleet.has_stats() and not awaited:
                return

    def close(self) -> None:
        """Ends the connection."""
        self._connection.stop()


class _Refusals(logging.Handler):
    """Passes on the errors that a connection logs: refused subscriptions are only logged."""

    def __init__(self, refused: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._refused = refused

    def emit(self, record: logging.LogRecord) -> None:
        self._refused(record.getMessage())


def _batches(topics: Sequence[str]) -> list[Sequence[str]]:
    return [topics[start : start + BATCH] for start in range(0, len(topics), BATCH)]


def show_live(watcher: Watcher) -> None:
    """Shows the fleet until the terminal is closed."""
    from rich.console import Console, Group
    from rich.live import Live

    console = Console()
    pause = threading.Event()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while console.is_terminal:  # false once its window is closed
            rows = watcher.fleet.rows()
            shown = in_room(rows, console.size.height - FRAME_LINES - len(problems(rows, PROBLEM_LINES)))
            if watcher.has_arrived():
                watcher.follow(shown[:MAX_FOLLOWED])
            lines = [as_text(one) for one in table(shown, console.size.width, time.monotonic())]
            live.update(Group(*lines, *_foot(watcher, rows, shown)), refresh=True)
            pause.wait(REFRESH)


def show_once(watcher: Watcher, mqtt: Mqtt, *, as_json: bool) -> None:
    """Prints the fleet as it is now, as a table or as one JSON document."""
    rows = watcher.fleet.rows()
    if as_json:
        head: dict[str, Any] = {
            "at": timestamp(time.time()),
            "broker": watcher.address,
            "topic_prefix": mqtt.topic_prefix,
        }
        head |= {"incomplete": True} if watcher.fleet.full else {}
        print_document(head, devices(rows, time.monotonic()))
        return
    from rich.console import Console

    console = Console()
    write(table(rows, console.size.width, time.monotonic()), console)
    for text in _foot(watcher, rows, rows):
        console.print(text)


def _foot(watcher: Watcher, rows: Sequence[Row], shown: Sequence[Row]) -> "list[Text]":
    """What stands below the table."""
    foot = [line(text, "red") for text in problems(shown, PROBLEM_LINES)]
    foot += [line(text) for text in summary(rows, shown, watcher.fleet.left_out, full=watcher.fleet.full)]
    return [*foot, line(watcher.problem, "red") if watcher.problem else line(watcher.address)]
