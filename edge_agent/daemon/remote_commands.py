"""Commands over MQTT: `P/cmd`, and `{topic_prefix}/all/cmd` for every device.

A command is JSON, `{"command": NAME, …}`. There are few, and none of them carries anything that would be run or loaded:
whoever can give commands can have a device look for signed releases sooner, or go back to a version that it has.
The answer goes to the request's response topic (MQTT 5), else to `P/cmd/reply`.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.errors import EdgeAgentError
from edge_agent.mqtt.link import Link, Subscription
from edge_agent.system.terminal import printable

MAX_COMMAND = 10_000
# Commands that wait; more are answered with a refusal.
MAX_WAITING = 16

log = logging.getLogger(__name__)

# Carries a command out; what it returns is part of the answer, what it raises is the answer.
Command = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class RemoteCommands:
    """Takes commands from the broker and has them carried out, one after the other, in another thread.

    Args:
        prefix: of the device's topics.
        all_topic: where commands for all devices arrive.
        device_id: of the device.
        commands: what can be asked for.
        hand_over: has something called in the thread that carries commands out.
    """

    def __init__(
        self,
        prefix: str,
        all_topic: str,
        device_id: str,
        commands: Mapping[str, Command],
        hand_over: Callable[[Callable[[], None]], None],
    ) -> None:
        self._prefix = prefix
        self._device_id = device_id
        self._commands = commands
        self._hand_over = hand_over
        self._room = threading.BoundedSemaphore(MAX_WAITING)
        self.subscriptions = (Subscription(f"{prefix}/cmd", 1), Subscription(all_topic, 1))

    def received(self, link: Link, message: MQTTMessage) -> None:
        """A message has come; called in the network thread, which must not wait."""
        if message.qos:
            link.ack(message.mid)
        if message.retain:  # it was meant for some moment long ago, and would come again after each reconnect
            log.warning("%s: a retained command is not carried out", message.topic)
            return
        if not self._room.acquire(blocking=False):
            self._answer(link, message, {"ok": False, "error": "too many commands are waiting"})
            return
        self._hand_over(lambda: self._carry_out(link, message))

    def _carry_out(self, link: Link, message: MQTTMessage) -> None:
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
            request = json.loads(message.payload)
        except (ValueError, RecursionError):
            raise EdgeAgentError('not JSON: expected {"command": …}') from None
        name = request.get("command") if isinstance(request, dict) else None
        if not isinstance(name, str) or name not in self._commands:
            raise EdgeAgentError(f"no such command: {printable(repr(name)[:100])}; known here: {known}")
        return name, request

    def _answer(self, link: Link, message: MQTTMessage, answer: Mapping[str, Any]) -> None:
        asked: Mapping[str, Any] = vars(message.properties) if message.properties else {}
        topic, properties = asked.get("ResponseTopic", ""), None
        if not topic or set("+#\0") & set(topic):
            topic = f"{self._prefix}/cmd/reply"
        elif "CorrelationData" in asked:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
            properties.CorrelationData = asked["CorrelationData"]
        link.publish(topic, json.dumps({"device_id": self._device_id} | dict(answer)), 1, properties=properties)
