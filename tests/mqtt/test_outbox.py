import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.backoff import Backoff
from edge_agent.mqtt.link import Session
from edge_agent.mqtt.outbox import MAX_IN_HAND, MAX_NOTICES_SIZE, REPLAY_WINDOW
from edge_agent.samples import ReplyTo
from tests.broker import Mosquitto, Subscriber, free_port, wait_until
from tests.disks import small_disk, turn_read_only
from tests.mqtt.bench import Bench
from tests.mqtt.scripted_broker import ScriptedBroker, connack
from tests.proxy import Proxy
from tests.reconcile import Ledger, on

RESULTS = "edge/bench/+/result"


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    wait_until(lambda: set(threading.enumerate()) <= before, 15, f"{set(threading.enumerate()) - before} have ended")


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.mqtt.connection.Backoff", lambda: Backoff(0.05, 1.0))


@pytest.fixture
def proxy(broker: Mosquitto) -> Iterator[Proxy]:
    with Proxy(broker.port) as proxy:
        yield proxy


def url(port: int) -> str:
    return f"mqtt://127.0.0.1:{port}"


def arrived(client: Subscriber, count: int, timeout: float = 15) -> Ledger:
    """Everything that has been received, once there are so many results."""
    client.wait_for(on("result"), count, timeout)
    return Ledger(client.messages)


def test_results_are_delivered_and_settled_and_nothing_touches_the_disk(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        before = _bytes_written()
        bench.produce(500)
        bench.wait_for(acknowledged=500, queued=0)
        assert _bytes_written() == before
        ledger = arrived(client, 500)
        assert sorted(bench.settled) == list(range(1, 501))
        assert list(tmp_path.iterdir()) == []
    ledger.without_gaps("lab")
    ledger.in_order("lab")
    assert not any(result["replayed"] for result in ledger.results["lab"])


def _bytes_written() -> int:
    """What this process has had written to disks so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


def test_mqtt_5_tells_content_type_and_expiry(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        bench.produce(deadline=time.monotonic() + 100)
        arrived(client, 1)
        [message] = client.wait_for(on("result"))
    assert "ContentType : application/json" in str(message.properties)
    assert 95 <= getattr(message.properties, "MessageExpiryInterval", 0) <= 100


def test_a_copy_goes_to_whoever_asked_and_to_the_extra_topic(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port, "#") as client, Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        bench.produce(reply_to=ReplyTo("answers/1", b"id"), extra_topic="home/porch")
        bench.wait_for(acknowledged=1)
        client.wait_for(lambda message: message.topic == "answers/1")
    copies = {message.topic: message for message in client.messages if not message.topic.startswith("$")}
    assert set(copies) == {"edge/bench/lab/result", "answers/1", "home/porch"}
    assert len({message.payload for message in copies.values()}) == 1
    assert getattr(copies["answers/1"].properties, "CorrelationData", None) == b"id"
    assert bench.settled == [1]


def test_a_reply_topic_that_can_not_be_published_to_holds_nothing_up(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        for topic in ("a/#", "+", "", "x" * 70000):
            bench.produce(reply_to=ReplyTo(topic, None))
        bench.produce()
        bench.wait_for(acknowledged=5)
        arrived(client, 5)


def test_results_wait_on_disk_while_the_broker_is_away_and_come_in_order(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.stop()
    with Bench(tmp_path, mosquitto.url, replay_rate=2000) as bench:
        bench.produce(300)
        bench.wait_until_saved()
        assert bench.counts()["queued"] == 300
        assert sorted(bench.settled) == list(range(1, 301))
        assert bench.path.exists()
        mosquitto.start()
        with Subscriber(mosquitto.port, RESULTS) as client:
            ledger = arrived(client, 300, timeout=30)
            bench.wait_for(acknowledged=300)
            wait_until(lambda: list(tmp_path.glob("outbox*")) == [], 5, "the outbox is removed when it is empty")
    ledger.without_gaps("lab")
    ledger.in_order("lab")
    assert all(result["replayed"] for result in ledger.results["lab"])


def test_a_second_absence_is_got_over_like_the_first(broker: Mosquitto, proxy: Proxy, tmp_path: Path) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, url(proxy.port)) as bench:
        for absence, count in enumerate((20, 10, 30)):
            proxy.mode = "refuse"
            proxy.cut()
            wait_until(lambda: not bench.connection.link, 10, "the connection is gone")
            bench.produce(count)
            bench.wait_until_saved()
            proxy.mode = "forward"
            wait_until(lambda: bench.counts()["queued"] == 0, 10, f"all are delivered after absence {absence}")
        ledger = arrived(client, 60)
    ledger.without_gaps("lab")
    ledger.in_order("lab")


def test_results_outlive_the_agent(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, url(free_port())) as first:
        first.produce(10)
        first.produce(5, pipeline="porch")
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url) as second:
        assert second.counts()["restored"] == 10
        second.wait_until_connected()
        second.produce(1)
        second.wait_for(acknowledged=11, produced=11, restored=10)
        second.wait_for(pipeline="porch", acknowledged=5, restored=5)
        ledger = arrived(client, 16)
    ledger.without_gaps("lab")
    ledger.in_order("lab")
    live = [result["seq"] for result in ledger.results["lab"] if not result["replayed"]]
    assert live == [1]


def test_stopping_delivers_what_is_in_hand(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port, RESULTS) as client:
        with Bench(tmp_path, broker.url) as bench:
            bench.wait_until_connected()
            bench.produce(50)
        assert bench.counts()["acknowledged"] == 50
        arrived(client, 50)


def test_stopping_saves_what_the_broker_does_not_answer(tmp_path: Path, broker: Mosquitto) -> None:
    with ScriptedBroker(on_publish=lambda _: None) as mute:
        with Bench(tmp_path, url(mute.port)) as bench:
            bench.wait_until_connected()
            bench.produce(20)
            wait_until(lambda: len(mute.published) == 20, 10, "all are sent")
        assert bench.counts()["queued"] == 20
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url):
        arrived(client, 20)


def test_cuts_at_any_moment_lose_nothing(broker: Mosquitto, tmp_path: Path) -> None:
    with (
        Proxy(broker.port) as proxy,
        Subscriber(broker.port, RESULTS) as client,
        Bench(tmp_path, url(proxy.port), replay_rate=2000) as bench,
    ):
        for round_ in range(4):
            bench.wait_until_connected()
            proxy.cut_after(1997 + 3001 * round_)
            bench.produce(100)
        bench.wait_for(acknowledged=400, timeout=30)
        ledger = arrived(client, 400)
    ledger.answers("lab", [f"in/{bench.boot_id}/{seq}" for seq in range(1, 401)])
    ledger.without_gaps("lab")
    ledger.in_order("lab")


def test_a_half_open_connection_holds_nothing_up_for_long(proxy: Proxy, tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, url(proxy.port)) as bench:
        bench.wait_until_connected()
        proxy.freeze()
        began = time.monotonic()
        bench.produce(200)
        assert time.monotonic() - began < 4, "what the broker does not answer goes to the disk"
        wait_until(lambda: not bench.connection.link, 10, "the dead connection is noticed")
        proxy.cut()
        proxy.thaw()
        bench.wait_for(acknowledged=200, timeout=20)
        arrived(client, 200).without_gaps("lab")


def test_a_connection_that_is_frozen_and_thaws_loses_nothing(proxy: Proxy, tmp_path: Path, broker: Mosquitto) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, url(proxy.port)) as bench:
        bench.wait_until_connected()
        proxy.freeze()
        bench.produce(100)
        proxy.thaw()
        bench.wait_for(acknowledged=100, timeout=20)
        ledger = arrived(client, 100)
    ledger.without_gaps("lab")


def test_a_slow_network_loses_nothing(proxy: Proxy, tmp_path: Path, broker: Mosquitto) -> None:
    proxy.delay = 0.05
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, url(proxy.port)) as bench:
        bench.wait_until_connected()
        bench.produce(200)
        bench.wait_for(acknowledged=200, timeout=20)
        ledger = arrived(client, 200)
    ledger.without_gaps("lab")


def test_whoever_brings_too_much_waits(tmp_path: Path) -> None:
    with ScriptedBroker(on_publish=lambda _: None) as mute, Bench(tmp_path, url(mute.port)) as bench:
        bench.wait_until_connected()
        producer = threading.Thread(target=bench.produce, args=(MAX_IN_HAND + 10,))
        producer.start()
        wait_until(lambda: len(mute.published) == MAX_IN_HAND, 5, "as many as may be in hand are sent")
        assert producer.is_alive()
        assert bench.counts()["queued"] <= MAX_IN_HAND + 1
        bench.outbox.stop(0.1)
        producer.join(5)


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


def test_live_results_are_not_held_up_behind_a_long_replay(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, url(free_port())) as before:
        before.produce(500)
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url, replay_rate=200) as bench:
        client.wait_for(on("result"), 50)
        sent = time.monotonic()
        bench.produce(20)
        live = {"boot_id": bench.boot_id}
        wait_until(lambda: _from_run(client, live["boot_id"]) >= 20, 5, "the live results")
        assert time.monotonic() - sent < 0.5
        assert len(client.messages) < 300, "the replay goes on meanwhile"
        bench.wait_for(acknowledged=520, timeout=20)
        ledger = arrived(client, 520)
    ledger.in_order("lab")
    ledger.without_gaps("lab")


def _from_run(client: Subscriber, boot_id: str) -> int:
    return sum(boot_id.encode() in message.payload for message in list(client.messages))


def test_a_replay_keeps_to_its_rate(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, url(free_port())) as before:
        before.produce(100)
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url, replay_rate=50):
        arrived(client, 100)
    replayed = [message.arrived_at for message in client.messages]
    assert 1.7 < replayed[-1] - replayed[0] < 4
    assert replayed[REPLAY_WINDOW] - replayed[0] > 0.5, "it does not begin with a burst"


def test_a_busy_pipeline_does_not_keep_a_replay_waiting(tmp_path: Path) -> None:
    with Bench(tmp_path, url(free_port())) as before:
        before.produce(10)

    def slowly(_: Any) -> int:
        time.sleep(0.005)
        return 0

    with (
        ScriptedBroker(lambda _: connack(properties=b"\x21\0\2"), slowly) as busy,
        Bench(tmp_path, url(busy.port)) as bench,
    ):
        bench.wait_until_connected()
        bench.produce(300)
        assert sum(before.boot_id.encode() in message.payload for message in busy.published) == 10


def test_a_replayed_result_does_not_take_the_place_of_a_newer_retained_one(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, url(free_port())) as before:
        before.produce(100, retain=True)
    with Bench(tmp_path, broker.url, replay_rate=50) as bench:
        bench.wait_until_connected()
        bench.produce(retain=True)
        bench.wait_for(acknowledged=101)
    with Subscriber(broker.port, RESULTS) as client:
        [kept] = client.wait_for(lambda message: message.retain)
        assert bench.boot_id.encode() in kept.payload
        client.publish(kept.topic, b"", retain=True)


def test_the_last_result_of_before_is_retained_when_nothing_newer_has_come(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, url(free_port())) as before:
        before.produce(10, retain=True)
    with Bench(tmp_path, broker.url) as bench:
        bench.wait_for(acknowledged=10)
    with Subscriber(broker.port, RESULTS) as client:
        [kept] = client.wait_for(lambda message: message.retain)
        assert b'"seq":10,' in kept.payload
        client.publish(kept.topic, b"", retain=True)


def test_a_full_outbox_gives_up_the_oldest(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, url(free_port()), max_size=100_000) as bench:
        bench.produce(500, size=1000)
        bench.wait_until_saved()
        counts = bench.counts()
        waiting = counts["queued"]
        assert 80 <= waiting <= 100
        assert counts["discarded"]["outbox_full"] == 500 - waiting
        assert len(bench.settled) == 500
        assert sum(path.stat().st_size for path in tmp_path.glob("outbox*")) < 100_000 + 1_500_000
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url) as later:
        later.wait_for(acknowledged=waiting)
        ledger = arrived(client, waiting)
    assert [result["seq"] for result in ledger.results["lab"]] == list(range(501 - waiting, 501))


def test_a_full_outbox_can_give_up_the_newest_instead(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, url(free_port()), max_size=100_000, when_full="drop_newest") as bench:
        bench.produce(500, size=1000)
        bench.wait_until_saved()
        waiting = bench.counts()["queued"]
        bench.wait_for(outbox_full=500 - waiting)
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url) as later:
        later.wait_for(acknowledged=waiting)
        ledger = arrived(client, waiting)
    assert [result["seq"] for result in ledger.results["lab"]] == list(range(1, waiting + 1))


def test_what_nobody_wants_any_more_is_not_sent(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.stop()
    with Bench(tmp_path, mosquitto.url) as bench:
        bench.produce(10, deadline=time.monotonic() + 0.1)
        bench.produce(10, deadline=time.monotonic() + 100)
        bench.produce(10)
        bench.wait_until_saved()
        mosquitto.start()
        with Subscriber(mosquitto.port, RESULTS) as client:
            bench.wait_for(acknowledged=20, expired=10)
            ledger = arrived(client, 20)
    assert [result["seq"] for result in ledger.results["lab"]] == list(range(11, 31))


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
    monkeypatch.setattr("edge_agent.mqtt.setbacks.FIRST_PAUSE", 0.2)
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
            bench.outbox.settle(10)
            counts = bench.counts()
            assert counts["acknowledged"] + counts["discarded"]["refused"] == 120
            assert bench.connection.link
        assert "oversize" not in small.log().lower()


def test_a_full_disk_is_said_and_got_over(
    tmp_path: Path, broker: Mosquitto, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.mqtt.backlog.DISK_RETRY", 0.2)
    caplog.set_level(logging.INFO)
    with Proxy(broker.port) as proxy, small_disk(tmp_path / "disk", 150_000) as disk:
        proxy.mode = "refuse"
        (disk / "ballast").write_bytes(bytes(100_000))
        with Subscriber(broker.port, RESULTS) as client, Bench(disk, url(proxy.port)) as bench:
            bench.produce(300, size=1000)
            wait_until(lambda: "the outbox can't be used, the latest results wait in memory" in caplog.text, 5, "said")
            counts = bench.counts()
            assert counts["queued"] + counts["discarded"]["outbox_full"] == 300
            (disk / "ballast").unlink()
            wait_until(lambda: "the outbox can be used again" in caplog.text, 5, "said")
            bench.wait_until_saved()
            proxy.mode = "forward"
            wait_until(lambda: bench.counts()["queued"] == 0, 20, "all are delivered")
            ledger = arrived(client, bench.counts()["acknowledged"])
    ledger.without_gaps("lab", discarded=bench.counts()["discarded"]["outbox_full"])
    assert [result["seq"] for result in ledger.results["lab"]][-1] == 300, "the newest are kept"


def test_without_a_disk_results_go_out_as_long_as_the_broker_is_there(
    tmp_path: Path, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        turn_read_only(disk)
        with (
            Proxy(broker.port) as proxy,
            Subscriber(broker.port, RESULTS) as client,
            Bench(disk, url(proxy.port)) as bench,
        ):
            bench.wait_until_connected()
            bench.produce(100)
            bench.wait_for(acknowledged=100)
            proxy.cut()
            bench.produce(30)
            bench.wait_for(acknowledged=130)
            arrived(client, 130).without_gaps("lab")


def test_what_waits_on_a_disk_that_is_read_only_is_delivered_later(
    tmp_path: Path, broker: Mosquitto, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.mqtt.backlog.DISK_RETRY", 0.2)
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        with Bench(disk, url(free_port())) as before:
            before.produce(10)
        turn_read_only(disk)
        with Subscriber(broker.port, RESULTS) as client, Bench(disk, broker.url) as bench:
            bench.wait_until_connected()
            assert "the outbox can't be used" in caplog.text
            bench.produce(5)
            bench.wait_for(acknowledged=5)
            turn_read_only(disk, back=True)
            bench.wait_for(acknowledged=15, restored=10)
            arrived(client, 15).without_gaps("lab")


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
    assert "it hangs up on it (" in caplog.text


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


def test_a_jump_of_the_wall_clock_changes_nothing(
    broker: Mosquitto, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, url(proxy.port)) as bench:
        bench.wait_until_connected()
        for moment in (1e10, 0.0):
            proxy.mode = "refuse"
            proxy.cut()
            wait_until(lambda: not bench.connection.link, 10, "the connection is gone")
            bench.produce(20, deadline=time.monotonic() + 60)
            monkeypatch.setattr(time, "time", lambda moment=moment: moment)
            bench.produce(20, deadline=time.monotonic() + 60)
            bench.wait_until_saved()
            proxy.mode = "forward"
            bench.wait_until_connected()
        bench.wait_for(acknowledged=80, expired=0)
        arrived(client, 80).without_gaps("lab")


def test_results_of_qos_0_are_counted_when_they_are_sent(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        bench.produce(100, qos=0)
        bench.wait_for(acknowledged=100)
        arrived(client, 100)
        assert {message.qos for message in client.messages} == {0}


def test_notices_are_published_or_dropped_and_never_kept(broker: Mosquitto, proxy: Proxy, tmp_path: Path) -> None:
    with Subscriber(broker.port, "edge/bench/#") as client, Bench(tmp_path, url(proxy.port)) as bench:
        bench.wait_until_connected()
        bench.outbox.notify("edge/bench/info", "1")
        client.wait_for(on("info"))
        proxy.mode = "refuse"
        proxy.cut()
        wait_until(lambda: not bench.connection.link, 10, "the connection is gone")
        bench.outbox.notify("edge/bench/info", "2")
        bench.produce()
        bench.wait_until_saved()
        proxy.mode = "forward"
        arrived(client, 1)
        assert [message.payload for message in client.messages if on("info")(message)] == [b"1"]


def test_notices_do_not_pile_up_without_bound(tmp_path: Path) -> None:
    with (
        ScriptedBroker(lambda _: connack(properties=b"\x21\0\1"), lambda _: None) as mute,
        Bench(tmp_path, url(mute.port)) as bench,
    ):
        bench.wait_until_connected()
        for _ in range(100):
            bench.outbox.notify("edge/bench/snapshot", bytes(100_000))
        wait_until(bench.outbox._events.empty, 10, "all have been looked at")
        assert sum(len(notice.payload) for notice in bench.outbox._notices) <= MAX_NOTICES_SIZE


def test_a_damaged_outbox_is_set_aside_and_a_new_one_begun(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "outbox.db").write_bytes(os.urandom(50_000))
    with Bench(tmp_path, url(free_port())) as bench:
        bench.produce(10)
    assert (tmp_path / "outbox.db.damaged").stat().st_size == 50_000
    assert "set aside as" in caplog.text
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url):
        arrived(client, 10)


def test_an_outbox_that_is_damaged_while_it_is_in_use_is_accounted_for(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Bench(tmp_path, url(free_port())) as before:
        before.produce(1000, size=6000)
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url, replay_rate=1000) as bench:
        client.wait_for(on("result"), 100)
        with (tmp_path / "outbox.db").open("r+b") as file:
            file.seek(3_000_000)
            file.write(os.urandom(3_000_000))
        wait_until(lambda: bench.counts()["queued"] == 0, 20, "all are accounted for")
        assert bench.counts()["discarded"]["damaged"] > 0
        bench.produce(10)
        wait_until(lambda: bench.counts()["queued"] == 0, 20, "it goes on")
        assert len({message.payload for message in client.messages}) <= bench.counts()["acknowledged"]
    assert caplog.text.count("set aside as") == 1


def test_two_agents_do_not_share_an_outbox(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Bench(tmp_path, url(free_port())) as first:
        first.produce(5)
        first.wait_until_saved()
        with Bench(tmp_path, url(free_port())) as second:
            second.produce(5)
            wait_until(lambda: "is another edge-agent running with it?" in caplog.text, 10, "it is said")
            assert second.counts()["restored"] == 0
        assert "5 results are lost: they can neither be delivered nor saved" in caplog.text
        assert first.counts()["queued"] == 5


def test_the_connection_is_not_delayed_by_nagle(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        assert bench.connection.link is not None
        sock = bench.connection.link.client.socket()
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
