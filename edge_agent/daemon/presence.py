"""The agent as others see it: its session with the broker, what it announces, and the device in Home Assistant."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edge_agent.config.loader import Config
from edge_agent.daemon import maintenance
from edge_agent.daemon.command_request import Command
from edge_agent.daemon.keep_commands import commands_of
from edge_agent.daemon.main_loop import MainLoop
from edge_agent.daemon.remote_commands import RemoteCommands
from edge_agent.daemon.state import State
from edge_agent.daemon.status import Reports
from edge_agent.daemon.uplink import Uplink
from edge_agent.mqtt.delivery import Notice
from edge_agent.update.control import UpdateControl

if TYPE_CHECKING:
    from edge_agent.home_assistant.discovery import Discovery

log = logging.getLogger(__name__)

FIRST_CONNECT_TIMEOUT = 15.0


class Presence:
    """Connects, announces, and disconnects. Used by the main thread, except for `announce`.

    Args:
        state: of the agent.
        reports: of the agent.
        loop: of the main thread.
        updates: of the agent's models.
        reload: requests a reload of the configuration.
    """

    def __init__(
        self, state: State, reports: Reports, loop: MainLoop, updates: UpdateControl, reload: Callable[[], None]
    ) -> None:
        self._reload = reload
        self._state = state
        self._reports = reports
        self._loop = loop
        self._updates = updates
        self._controls: dict[str, Command] = {}
        self._discovery: Discovery | None = None

    def control(self, commands: dict[str, Command]) -> None:
        """Takes the commands that Home Assistant sends."""
        self._controls = commands

    def uplink(self, config: Config) -> Uplink:
        """The way to the broker of a configuration, which is not connected yet.

        Raises:
            EdgeAgentError: the embedded broker can't be started.
        """
        device = self._state.device_of(config)
        commands = RemoteCommands(
            device.prefix,
            f"{config.settings.mqtt.topic_prefix}/all/cmd",
            device.device_id,
            self._labels,
            self._commands(config),
            self._loop.call,
        )
        return Uplink(config, device, self._state.pipelines.counters_of, commands, self._announcements)

    def _commands(self, config: Config) -> dict[str, Command]:
        updates = {
            "update": Command(self._updates.check_now, {"again": bool}),
            "rollback": Command(self._updates.roll_back, {"model": str, "target": str}),
            "pin": Command(self._updates.pin, {"model": str, "target": str, "pinned": bool}),
        }
        allowed = config.settings.remote_commands
        return {
            **(updates if config.settings.update else {}),
            **(self._controls if config.settings.home_assistant.enabled else {}),
            **commands_of(self._state.pipelines, config.settings),
            **maintenance.commands_of(allowed, config.path, self._reload, self._state.started),
        }

    def _labels(self) -> Sequence[str]:
        update = self._state.settings.update
        return () if update is None else update.labels

    def connect(self, uplink: Uplink, *, restore: bool) -> None:
        """Opens a session with the broker, and waits a while for it to be up.

        Args:
            uplink: the way to it.
            restore: whether results on the disk are from an earlier run, and so have yet to be counted.
        """
        state = self._state
        state.uplink = uplink
        state.uplink.connect(restore=restore)
        if not self._loop.wait(state.uplink.connection.wait_until_tried, FIRST_CONNECT_TIMEOUT):
            log.warning("%s: not reached yet: retrying in the background", state.uplink.endpoint.address)

    def come_online(self) -> None:
        """Announces the agent as soon as its sources take input; waits for them for a while."""
        state = self._state
        deadline = time.monotonic() + FIRST_CONNECT_TIMEOUT
        for pipeline in state.pipelines.running.values():
            if state.uplink.link is not None:
                self._loop.wait(pipeline.wait_ready, deadline - time.monotonic())
        state.online = True
        self.announce()
        if state.settings.home_assistant.enabled:
            self._publish_discovery()

    def announce(self) -> None:
        """Publishes what the agent runs, and on what; nothing before it is online. From any thread."""
        if self._state.online:
            self._state.uplink.notify(self._announcements())

    def _announcements(self) -> list[Notice]:
        return self._reports.announcements(self._updates.document()) if self._state.online else []

    def _publish_discovery(self) -> None:
        from edge_agent.home_assistant.discovery import Discovery
        from edge_agent.home_assistant.entities import document

        options, uplink = self._state.settings, self._state.uplink
        if self._discovery is None:
            prefix = options.home_assistant.prefix
            self._discovery = Discovery(uplink.endpoint, uplink.mqtt, prefix, options.device_id)
            self._discovery.start()
        self._discovery.publish(document(self._state.device.prefix, options, self._state.models))

    def stop_discovery(self, *, withdraw: bool = False) -> None:
        """Closes the connection for Home Assistant's discovery, if there is one.

        Args:
            withdraw: whether Home Assistant is to forget the device; else it is shown as unavailable.
        """
        if self._discovery is not None:
            self._discovery.stop(withdraw=withdraw)
            self._discovery = None

    def disconnect(self, successor: Uplink | None = None) -> None:
        """Delivers or saves pending results, publishes the last counters and `offline`, and closes the session.

        Args:
            successor: takes its place, and the results that come later.
        """
        self._state.uplink.disconnect(self._reports.stats(), successor)
