"""A broker that forgets PUBACKs: what has none is sent again over a new connection, and nothing stands still."""

import logging
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from edge_agent.mqtt import in_flight
from edge_agent.mqtt.in_flight import InFlight
from edge_agent.mqtt.outbox import MAX_PENDING
from tests.broker import wait_until
from tests.mqtt.bench import Bench, url
from tests.mqtt.scripted_broker import Published, ScriptedBroker
from tests.proxy import Proxy

pytestmark = pytest.mark.usefixtures("no_thread_is_left", "short_delays")

Answer = Callable[[Published], int | None]


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("OVERDUE_AFTER", 0.1), ("SILENT_AFTER", 0.3), ("RECONNECT_EVERY", 0.2)):
        monkeypatch.setattr(in_flight, name, seconds)


def forgets(*numbers: int) -> Answer:
    """Answers all results but those of these numbers, by when they come."""
    came = count()
    return lambda message: None if message.topic.endswith("result") and next(came) in numbers else 0


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({5}, "though there are of later ones"),
        (set(range(0, 300, 3)), "though there are of later ones"),
        (set(range(MAX_PENDING)), "no acknowledgement of any message"),
    ],
    ids=["one", "every third", "as many as may be pending"],
)
def test_what_a_broker_forgets_to_acknowledge_is_sent_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, numbers: set[int], reason: str
) -> None:
    with ScriptedBroker(on_publish=forgets(*numbers)) as broker, Bench(tmp_path, url(broker.port)) as bench:
        bench.wait_until_connected()
        bench.produce(MAX_PENDING + 20)
        bench.wait_for(acknowledged=MAX_PENDING + 20, timeout=60)
        assert sorted(bench.done) == list(range(1, MAX_PENDING + 21))
        assert reason in caplog.text
        assert reason in bench.connection.diagnosis
        assert "client uses this client id" not in caplog.text
        assert bench.counts()["discarded"]["refused"] == 0


@pytest.mark.usefixtures("short_patience")
def test_a_message_that_is_never_acknowledged_is_given_up_and_those_behind_it_arrive(tmp_path: Path) -> None:
    def answer(message: Published) -> int | None:
        return None if b'"seq":1,' in message.payload else 0

    with ScriptedBroker(on_publish=answer) as broker, Bench(tmp_path, url(broker.port), announces=True) as bench:
        bench.wait_until_connected()
        bench.produce(10)
        bench.wait_for(acknowledged=9, refused=1, timeout=30)


def test_the_reconnects_have_a_pause_between_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight, "OVERDUE_AFTER", 0.05)
    monkeypatch.setattr(in_flight, "RECONNECT_EVERY", 1.0)
    with ScriptedBroker(on_publish=forgets(*range(0, 1000, 2))) as broker, Bench(tmp_path, url(broker.port)) as bench:
        bench.wait_until_connected()
        began = time.monotonic()
        bench.produce(30)
        wait_until(lambda: len(broker.levels) == 4, 20, "three reconnects")
        assert time.monotonic() - began > 2.0


@pytest.mark.usefixtures("short_patience")
def test_a_network_that_does_not_get_the_messages_to_the_broker_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with (
        ScriptedBroker() as broker,
        Proxy(broker.port) as proxy,
        Bench(tmp_path, url(proxy.port)) as bench,
    ):
        bench.wait_until_connected()
        link = bench.connection.link
        assert link is not None
        proxy.freeze()
        bench.produce(3, size=4_000_000)
        wait_until(lambda: not link.delivered(), 10, "not all has been sent")
        patient = vars(vars(bench.outbox)["_in_flight"])
        wait_until(lambda: patient["_patient_until"] > 0, 10, "it has been looked at")
        proxy.thaw()
        bench.wait_for(acknowledged=3)
        assert link.delivered()
        assert "reconnecting" not in caplog.text


def test_only_acknowledgements_that_were_overtaken_are_overdue_early(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    messages: InFlight[str] = InFlight()
    for number, message in enumerate("abc"):
        messages.published(number, message)
    assert messages.acknowledged(1) == "b"
    assert messages.overdue_at() == now + in_flight.OVERDUE_AFTER
    assert messages.acknowledged(1) is None
    assert messages.acknowledged(0) == "a"  # it was late
    assert messages.overdue_at() == now + in_flight.SILENT_AFTER
    now += in_flight.SILENT_AFTER
    assert messages.overdue(delivered=False) == ""
    now = messages.overdue_at()
    assert messages.overdue(delivered=True) != ""
    messages.clear()
    assert not messages.worked
    assert messages.overdue_at() == float("inf")
