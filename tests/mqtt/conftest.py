import threading
from collections.abc import Iterator

import pytest

from edge_agent.system.backoff import Backoff
from tests.broker import Mosquitto, wait_until
from tests.proxy import Proxy


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    wait_until(lambda: set(threading.enumerate()) <= before, 15, f"{set(threading.enumerate()) - before} have ended")


@pytest.fixture
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.mqtt.connection.Backoff", lambda: Backoff(0.05, 1.0))


@pytest.fixture
def proxy(broker: Mosquitto) -> Iterator[Proxy]:
    with Proxy(broker.port) as proxy:
        yield proxy
