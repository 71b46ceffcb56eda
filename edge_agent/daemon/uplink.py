"""The way to the broker: one session, the outbox in front of it, and the embedded broker where that is configured."""

import errno
import logging
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.config.loader import Config
from edge_agent.counters import Counters
from edge_agent.daemon.remote_commands import RemoteCommands
from edge_agent.mqtt import client_ids
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.delivery import Notice
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session, Will
from edge_agent.mqtt.outbox import Outbox
from edge_agent.pipeline.registry import DELIVER_TIMEOUT, Broker
from edge_agent.publish.publisher import Device
from edge_agent.settings import Mqtt

if TYPE_CHECKING:
    from edge_agent.mqtt.embedded import EmbeddedBroker

log = logging.getLogger(__name__)


class Uplink:
    """One session with the broker, from `connect` to `disconnect`.

    Args:
        config: the configuration in use.
        device: whose session it is.
        counters: of a pipeline, by its name.
        commands: remote commands, subscribed to where updates are configured.
        announcements: what to publish first after each connect.

    Attributes:
        mqtt: the broker's settings; the embedded broker's are filled in.
        outbox: takes results and notices.
        connection: to the broker.

    Raises:
        EdgeAgentError: the embedded broker can't be started.
    """

    def __init__(
        self,
        config: Config,
        device: Device,
        counters: Callable[[str], Counters],
        commands: RemoteCommands,
        announcements: Callable[[], list[Notice]],
    ) -> None:
        self._status_topic = device.topic("status")
        self._outbox_path = config.outbox_path()
        self._announcements = announcements
        self._embedded: EmbeddedBroker | None = None
        self.mqtt = self._broker_of(config.settings.mqtt)
        self.endpoint = Endpoint.from_settings(self.mqtt, config.path.parent)
        self.outbox = Outbox(config.settings.outbox, self._outbox_path, counters)
        session = Session(
            client_id=client_ids.of_device(device.device_id),
            device_id=device.device_id,
            protocol=self.mqtt.protocol,
            keepalive=self.mqtt.keepalive,
            will=Will(self._status_topic, b"offline"),
            subscriptions=commands.subscriptions,
        )
        self.connection = Connection(
            self.endpoint,
            session,
            on_up=self._link_up,
            on_down=self.outbox.link_down,
            on_message=commands.received,
            on_acknowledged=self.outbox.acknowledged,
        )

    def _broker_of(self, mqtt: Mqtt) -> Mqtt:
        """The broker to connect to; starts the embedded one, whose port is known only then."""
        if mqtt.url != "embedded":
            return mqtt
        from edge_agent.mqtt.embedded import EmbeddedBroker

        self._embedded = EmbeddedBroker()
        # 3.1.1 is the only version that it speaks.
        return mqtt.model_copy(update={"url": self._embedded.start(), "protocol": "3.1.1"})

    @property
    def broker(self) -> Broker:
        """For pipelines: the way to the broker and back."""
        return Broker(self.endpoint, self.mqtt, self.outbox)

    @property
    def link(self) -> Link | None:
        """The connection that is up now, if any."""
        return self.connection.link

    def connect(self, *, restore: bool) -> None:
        """Loads the results that are on the disk, and starts to connect; does not wait for the broker.

        Args:
            restore: whether these results are from an earlier run, and so have yet to be counted.
        """
        self.outbox.start(restore=restore)
        self.connection.start()

    def stop_embedded(self) -> None:
        """Ends the embedded broker, if there is one; before `connect` nothing else has been opened."""
        if self._embedded is not None:
            self._embedded.stop()

    def disconnect(self, stats: Notice, successor: "Uplink | None" = None) -> None:
        """Delivers or saves pending results, and publishes `offline`.

        Args:
            stats: the last counters.
            successor: takes its place, and the results that come later.
        """
        self.outbox.stop(DELIVER_TIMEOUT, None if successor is None else successor.outbox)
        self.publish(stats)
        self.publish(Notice(self._status_topic, "offline", retain=True), qos=1)
        self.connection.stop()
        self.stop_embedded()
        if successor is not None:
            _move(self._outbox_path, successor._outbox_path)  # noqa: SLF001 - of the same class

    def notify(self, notices: Iterable[Notice]) -> None:
        """Publishes at QoS 1 through the outbox's thread; dropped while there is no connection."""
        for notice in notices:
            self.outbox.notify(notice.topic, notice.payload, retain=notice.retain)

    def publish(self, notice: Notice, qos: int = 0) -> None:
        """Publishes at once; dropped while there is no connection."""
        if (link := self.link) is not None:
            link.publish(notice.topic, notice.payload, qos, retain=notice.retain)

    def facts(self) -> dict[str, Any]:
        """The broker's address, whether it is connected, and what is wrong with the connection."""
        return {
            "address": self.endpoint.address,
            "connected": self.link is not None,
            "problem": self.connection.diagnosis,
        }

    def _link_up(self, link: Link) -> None:
        log.debug("%s: link up, resumed: %s", self.endpoint.address, link.resumed)
        self.outbox.link_up(link, self._announcements())


def _move(old: Path, new: Path) -> None:
    """Moves the results that wait on the disk to where they are looked for from now on."""
    if old == new or not old.exists():
        return
    try:
        if new.exists():
            raise FileExistsError(errno.EEXIST, "there is an outbox already", str(new))
        shutil.move(old, new)
    except OSError as error:
        log.error("the results that wait in %s stay there until outbox.path names it again: %s", old, error)
