"""Commands over MQTT: `P/cmd`, and `{topic_prefix}/all/cmd` for every device.

A command is JSON, `{"command": NAME, …}`. None of the commands carries anything that is executed or loaded: a client
that may send them can make a device check for signed releases now, or roll back to a version that it already has.
The answer goes to the request's response topic (MQTT 5), otherwise to `P/cmd/reply`.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from paho.mqtt.client import MQTTMessage

from edge_agent.errors import EdgeAgentError
from edge_agent.mqtt.link import Link, Subscription
from edge_agent.mqtt.publish_properties import PublishProperties, senders
from edge_agent.settings.topics import problem_of_name
from edge_agent.system.terminal import printable
from edge_agent.system.text import parse_json

MAX_COMMAND = 10_000
# Waiting commands; further ones are refused.
MAX_WAITING = 16

log = logging.getLogger(__name__)

# Executes a command. The answer consists of what it returns, or of the error that it raises.
Command = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class RemoteCommands:
    """Receives commands from the broker and passes them to another thread, which executes one after the other.

    Args:
        prefix: of the device's topics.
        all_topic: where commands for all devices arrive.
        device_id: of the device.
        commands: the known ones, by name.
        call: calls a function in the thread that executes commands.
    """

    def __init__(
        self,
        prefix: str,
        all_topic: str,
        device_id: str,
        commands: Mapping[str, Command],
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        self._prefix = prefix
        self._device_id = device_id
        self._commands = commands
        self._call = call
        self._room = threading.BoundedSemaphore(MAX_WAITING)
        self.subscriptions = (Subscription(f"{prefix}/cmd", 1), Subscription(all_topic, 1))

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
            name, request = self._read(message)
            log.info("command over %s: %s", message.topic, name)
            answer = {"command": name, "ok": True} | dict(self._commands[name](request))
        except EdgeAgentError as error:
            log.warning("%s: %s", message.topic, error)
            answer = {"ok": False, "error": str(error)}
        self._answer(link, message, answer)

    def _read(self, message: MQTTMessage) -> tuple[str, Mapping[str, Any]]:
        known = ", ".join(self._commands)
        if len(message.payload) > MAX_COMMAND:
            raise EdgeAgentError(f"a command has at most {MAX_COMMAND} bytes, this one {len(message.payload)}")
        try:
            request = parse_json(message.payload)
        except ValueError:
            raise EdgeAgentError('not JSON: expected {"command": …}') from None
        name = request.get("command") if isinstance(request, dict) else None
        if not isinstance(name, str) or name not in self._commands:
            raise EdgeAgentError(f"no such command: {printable(repr(name)[:100])}; known here: {known}")
        return name, request

    def _answer(self, link: Link, message: MQTTMessage, answer: Mapping[str, Any]) -> None:
        request: Mapping[str, Any] = vars(message.properties) if message.properties else {}
        topic, properties = request.get("ResponseTopic", ""), PublishProperties()
        if problem_of_name(topic):
            topic = f"{self._prefix}/cmd/reply"
        elif "CorrelationData" in request:
            properties = PublishProperties(correlation_data=request["CorrelationData"])
        link.publish(topic, json.dumps({"device_id": self._device_id} | dict(answer)), 1, properties=properties)
