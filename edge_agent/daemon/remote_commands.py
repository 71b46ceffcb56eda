"""Commands over MQTT: `P/cmd`, and `{topic_prefix}/all/cmd` for every device.

A command is JSON, `{"command": NAME, …}`. None of the commands carries anything that is executed or loaded: a client
that may send them can make a device check for signed releases now, or roll back to a version that it already has; and,
where that is allowed, reload, restart, report its last log lines or examine itself (`maintenance`).
Commands to every device may name some of them, and are executed at random moments within a while, so that a repository
is not asked by all of them at once. The answer goes to the request's response topic (MQTT 5), otherwise to
`P/cmd/reply`.
"""

import json
import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paho.mqtt.client import MQTTMessage

from edge_agent.daemon.command_request import Command, Request, read
from edge_agent.errors import EdgeAgentError
from edge_agent.mqtt.link import Link, Subscription
from edge_agent.mqtt.publish_properties import PublishProperties, senders
from edge_agent.settings.topics import problem_of_name
from edge_agent.system.terminal import printable

# Waiting commands, and those that wait for their moment; further ones are refused.
MAX_WAITING = 16

log = logging.getLogger(__name__)


class RemoteCommands:
    """Receives commands from the broker and passes them to another thread, which executes one after the other.

    Args:
        prefix: of the device's topics.
        all_topic: where commands for all devices arrive.
        device_id: of the device.
        labels: returns those of the device.
        commands: the known ones, by name.
        call: calls a function in the thread that executes commands.
    """

    def __init__(
        self,
        prefix: str,
        all_topic: str,
        device_id: str,
        labels: Callable[[], Sequence[str]],
        commands: Mapping[str, Command],
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        self._prefix = prefix
        self._all_topic = all_topic
        self._device_id = device_id
        self._labels = labels
        self._commands = commands
        self._call = call
        self._room = threading.BoundedSemaphore(MAX_WAITING)
        self._slow = threading.BoundedSemaphore(1)
        self._room_for_later = threading.BoundedSemaphore(MAX_WAITING)
        self.subscriptions = (Subscription(f"{prefix}/cmd", 1), Subscription(all_topic, 1)) if commands else ()

    def received(self, link: Link, message: MQTTMessage) -> None:
        """Takes a message; called in the network thread, so it must not wait."""
        link.ack(message.mid, message.qos)
        if message.retain:  # it may be long outdated, and would be executed again after each reconnect
            log.warning("%s: ignoring a retained command", message.topic)
            return
        if any(senders(message)):  # an answer to somebody who gave the topic of commands as the response topic
            log.warning("%s: ignoring what an agent has published", message.topic)
            return
        if not self._room.acquire(blocking=False):
            self._answer(link, message, {"ok": False, "error": "too many commands are waiting"})
            return
        log.debug("%s: command queued", message.topic)
        self._call(lambda: self._execute(link, message))

    def _execute(self, link: Link, message: MQTTMessage) -> None:
        self._room.release()
        try:
            request = read(message.payload, self._commands, to_all=message.topic == self._all_topic)
        except EdgeAgentError as error:
            self._refuse(link, message, error)
            return
        if not request.is_for(self._device_id, self._labels()):
            log.debug("%s: %s is for other devices", message.topic, request.name)
        elif request.spread:
            self._later(link, message, request)
        else:
            self._carry_out(link, message, request)

    def _later(self, link: Link, message: MQTTMessage, request: Request) -> None:
        if not self._room_for_later.acquire(blocking=False):
            self._answer(link, message, {"ok": False, "error": "too many commands are waiting"})
            return

        def due() -> None:
            self._room_for_later.release()
            self._call(lambda: self._carry_out(link, message, request))

        delay = random.uniform(0, request.spread)  # noqa: S311 - spreads load
        log.info("command over %s: %s, in %.0f s", message.topic, request.name, delay)
        timer = threading.Timer(delay, due)
        timer.daemon = True
        timer.start()

    def _carry_out(self, link: Link, message: MQTTMessage, request: Request) -> None:
        command = self._commands[request.name]
        if not command.slow:
            self._run(link, message, request, command)
        elif not self._slow.acquire(blocking=False):
            self._refuse(link, message, EdgeAgentError(f"{request.name}: another one is still being carried out"))
        else:

            def run() -> None:
                try:
                    self._run(link, message, request, command)
                finally:
                    self._slow.release()

            threading.Thread(target=run, name=f"command {request.name}", daemon=True).start()

    def _run(self, link: Link, message: MQTTMessage, request: Request, command: Command) -> None:
        try:
            answer = {"command": request.name, "ok": True} | dict(command.run(request.options))
        except EdgeAgentError as error:
            self._refuse(link, message, error)
        else:
            self._answer(link, message, answer)
            # The log is the record of what was asked for; `_refuse` writes the rest of it.
            stated = f" {printable(json.dumps(dict(request.options)))}" if request.options else ""
            log.info("command over %s: %s%s: done", message.topic, request.name, stated)

    def _refuse(self, link: Link, message: MQTTMessage, error: EdgeAgentError) -> None:
        log.warning("%s: %s", message.topic, error)
        self._answer(link, message, {"ok": False, "error": str(error)})

    def _answer(self, link: Link, message: MQTTMessage, answer: Mapping[str, Any]) -> None:
        asked: Mapping[str, Any] = vars(message.properties) if message.properties else {}
        topic, properties = asked.get("ResponseTopic", ""), PublishProperties()
        if problem_of_name(topic):
            topic = f"{self._prefix}/cmd/reply"
        elif "CorrelationData" in asked:
            properties = PublishProperties(correlation_data=asked["CorrelationData"])
        link.publish(topic, json.dumps({"device_id": self._device_id} | dict(answer)), 1, properties=properties)
