import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.mqtt.connection import Connection
from edge_agent.mqtt.endpoint import Endpoint
from edge_agent.mqtt.link import Link, Session
from tests.broker import Mosquitto, wait_until

pytestmark = pytest.mark.faults

LEAST = 10  # that Mosquitto lets a configuration state


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy with QoS 0"])
def test_a_broker_s_shorter_keep_alive_is_obeyed(tmp_path: Path, *, busy: bool) -> None:
    ups: list[Link] = []
    with Mosquitto(tmp_path, [f"max_keepalive {LEAST}"]) as strict:
        session = replace(Session("calm"), keepalive=600, protocol="5")
        endpoint = Endpoint.from_settings(settings.Mqtt(url=strict.url), Path())
        one = Connection(endpoint, session, on_up=ups.append)
        one.start()
        try:
            wait_until(lambda: ups, 10, "connected")
            until = time.monotonic() + 4 * LEAST  # Mosquitto ends a connection after one and a half intervals
            while time.monotonic() < until:
                time.sleep(1)
                if busy:
                    ups[-1].publish("t", b"1", 0)
            assert (len(ups), one.problem) == (1, "")
            assert "exceeded timeout" not in strict.log()
        finally:
            one.stop(5)
