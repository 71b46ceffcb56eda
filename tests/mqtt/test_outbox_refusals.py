"""Brokers that do not take everything."""

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from edge_agent.mqtt.link import Session
from edge_agent.samples import ReplyTo
from tests.broker import Mosquitto, Subscriber, free_port, wait_until
from tests.mqtt.bench import RESULTS, Bench, arrived, url
from tests.mqtt.scripted_broker import ScriptedBroker, connack
from tests.proxy import Proxy

pytestmark = pytest.mark.usefixtures("no_thread_is_left", "short_delays")


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_no_more_is_unanswered_than_the_broker_allows(tmp_path: Path, limit: int) -> None:
    bound = bytes([0x21, 0, limit])
    answers = threading.Semaphore(0)

    def slowly(_: Any) -> int:
        answers.acquire(timeout=10)
        return 0

    with Bench(tmp_path, url(free_port())) as before:
        before.produce(20)
    with ScriptedBroker(lambda _: connack(properties=bound), slowly) as strict:
        with Bench(tmp_path, url(strict.port)) as bench:
            bench.wait_until_connected()
            bench.outbox.notify("edge/bench/status", "online")
            bench.produce(20, reply_to=ReplyTo("reply", None), extra_topic="extra")
            answers.release(1000)
            bench.wait_for(acknowledged=40)
        # The broker reads a packet only when it has answered the one before: what lies in the socket it can't count.
        assert strict.most_unanswered <= limit


@pytest.mark.parametrize("replayed", [False, True])
def test_what_the_broker_refuses_is_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, replayed: bool
) -> None:
    if replayed:
        with Bench(tmp_path, url(free_port())) as before:
            before.produce(3)
    with (
        ScriptedBroker(on_publish=lambda message: 0x87 if b'"seq":2,' in message.payload else 0) as strict,
        Bench(tmp_path, url(strict.port)) as bench,
    ):
        if not replayed:
            bench.wait_until_connected()
            bench.produce(3)
        bench.wait_for(acknowledged=2, refused=1)
    assert caplog.text.count("edge/bench/lab/result: a result is given up: the broker refuses it: Not authorized") == 1
    assert not list(tmp_path.iterdir())


def test_a_refused_copy_does_not_make_the_result_a_refused_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        ScriptedBroker(on_publish=lambda message: 0x87 if message.topic == "reply" else 0) as strict,
        Bench(tmp_path, url(strict.port)) as bench,
    ):
        bench.wait_until_connected()
        bench.produce(reply_to=ReplyTo("reply", None))
        bench.wait_for(acknowledged=1)
    assert "reply: a copy of a result is refused: Not authorized" in caplog.text


@pytest.mark.parametrize("replayed", [False, True])
def test_a_quota_makes_results_wait_and_loses_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, replayed: bool
) -> None:
    monkeypatch.setattr("edge_agent.mqtt.retry.FIRST_DELAY", 0.2)
    caplog.set_level(logging.INFO)
    if replayed:
        with Bench(tmp_path, url(free_port())) as before:
            before.produce(100)
    quota = iter([0] * 20 + [0x97] * 3)
    with ScriptedBroker(on_publish=lambda _: next(quota, 0)) as strict, Bench(tmp_path, url(strict.port)) as bench:
        if not replayed:
            bench.wait_until_connected()
            bench.produce(100)
        bench.wait_for(acknowledged=100, timeout=60)
    seqs = [int(message.payload.split(b'"seq":')[1].split(b",")[0]) for message in strict.published]
    assert set(seqs) == set(range(1, 101))
    assert caplog.text.count("the broker takes no more results for now: Quota exceeded") == 1
    assert caplog.text.count("the broker takes results again") == 1


def test_a_result_that_is_too_large_for_the_broker_is_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Mosquitto(tmp_path / "broker", config=["max_packet_size 2000"]) as small,
        Subscriber(small.port, RESULTS) as client,
        Bench(tmp_path, small.url) as bench,
    ):
        bench.wait_until_connected()
        for size in (300, 1900, 2000, 5000, 300):
            bench.produce(size=size)
        bench.wait_for(acknowledged=3, refused=2)
        arrived(client, 3)
        assert bench.connection.link
    assert "bytes, the broker takes 2000: raise its maximum packet size" in caplog.text


def test_the_largest_packet_that_the_broker_takes_is_sent(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", config=["max_packet_size 2000"]) as small:
        with Bench(tmp_path, small.url) as bench:
            bench.wait_until_connected()
            for size in range(1890, 2010):
                bench.produce(size=size)
            bench.outbox.drain(10)
            counts = bench.counts()
            assert counts["acknowledged"] + counts["discarded"]["refused"] == 120
            assert bench.connection.link
        assert "oversize" not in small.log().lower()


def test_a_result_at_which_an_old_broker_hangs_up_is_found_and_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session("old", "3.1.1", keepalive=2)
    with (
        Mosquitto(tmp_path / "broker", config=["max_packet_size 2000"]) as small,
        Subscriber(small.port, RESULTS) as client,
        Bench(tmp_path, small.url, session, announces=True) as bench,
    ):
        bench.wait_until_connected()
        for size in (300, 5000, 300, 300):
            bench.produce(size=size)
        bench.wait_for(acknowledged=3, refused=1, timeout=30)
        bench.produce(20)
        bench.wait_for(acknowledged=23)
        ledger = arrived(client, 23)
    ledger.without_gaps("lab", discarded=1)
    assert "it hangs up on it" in caplog.text


def test_a_network_that_breaks_again_and_again_makes_no_result_a_suspect(
    broker: Mosquitto, proxy: Proxy, tmp_path: Path
) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, url(proxy.port), announces=True) as bench:
        bench.wait_until_connected()
        for _ in range(6):
            bench.produce(20)
            proxy.cut()
            wait_until(lambda: not bench.connection.link, 10, "the connection is gone")
            bench.wait_until_connected()
        bench.wait_for(acknowledged=120, refused=0, timeout=30)
        arrived(client, 120).without_gaps("lab")
