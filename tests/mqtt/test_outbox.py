import json
import socket
import threading
import time
from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.mqtt.outbox import MAX_NOTICES_SIZE, MAX_PENDING, Outbox
from edge_agent.samples import ReplyTo
from tests.broker import PATIENCE, Mosquitto, Subscriber, wait_until
from tests.mqtt.bench import RESULTS, Bench, arrived, url
from tests.mqtt.scripted_broker import ScriptedBroker, connack
from tests.proxy import Proxy
from tests.reconcile import on

pytestmark = pytest.mark.usefixtures("no_thread_is_left", "short_delays")


def test_results_are_delivered_and_settled_and_nothing_touches_the_disk(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        before = _bytes_written()
        bench.produce(500)
        bench.wait_for(acknowledged=500, queued=0)
        assert _bytes_written() == before
        ledger = arrived(client, 500)
        assert sorted(bench.done) == list(range(1, 501))
        assert list(tmp_path.iterdir()) == []
    ledger.without_gaps("lab")
    ledger.in_order("lab")
    assert not any(result["replayed"] for result in ledger.results["lab"])


def test_while_connected_the_outboxs_own_thread_sleeps(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        bench.produce()
        bench.wait_for(acknowledged=1)
        before = _wake_ups(bench.outbox._thread)
        for number in range(2, 102):
            bench.produce()
            bench.wait_for(acknowledged=number)
        assert _wake_ups(bench.outbox._thread) - before < 50  # a few times, when its turn was taken by another thread


def _wake_ups(thread: threading.Thread) -> int:
    """How often a thread has waited so far."""
    lines = Path(f"/proc/self/task/{thread.native_id}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("voluntary_ctxt_switches")).split()[1])


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
    assert bench.done == [1]


def test_a_reply_topic_that_can_not_be_published_to_holds_nothing_up(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        for topic in ("a/#", "+", "", "x" * 70000):
            bench.produce(reply_to=ReplyTo(topic, None))
        bench.produce()
        bench.wait_for(acknowledged=5)
        ledger = arrived(client, 5)
    assert not any(result["replayed"] for result in ledger.results["lab"]), "the connection is not lost over it"


def test_stopping_delivers_what_is_in_hand(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port, RESULTS) as client:
        with Bench(tmp_path, broker.url) as bench:
            bench.wait_until_connected()
            bench.produce(50)
        assert bench.counts()["acknowledged"] == 50
        arrived(client, 50)


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
        assert time.monotonic() - began < 4 * PATIENCE, "what the broker does not answer goes to the disk"
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
        producer = threading.Thread(target=bench.produce, args=(MAX_PENDING + 10,))
        producer.start()
        wait_until(lambda: len(mute.published) == MAX_PENDING, 5, "as many as may be pending are sent")
        assert producer.is_alive()
        assert bench.counts()["queued"] <= MAX_PENDING + 1
        bench.outbox.stop(0.1)
        producer.join(5)
        assert bench.counts()["discarded"]["outbox_full"] == 10, "those that came after the end"
        assert len(bench.done) == MAX_PENDING, "only what is on the disk is done: the inputs of the rest come again"


def test_what_comes_after_the_end_goes_to_the_successor(broker: Mosquitto, tmp_path: Path) -> None:
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        bench.produce(3)
        bench.outbox.stop(5, successor := Outbox(settings.Outbox(), bench.path, lambda name: bench.counters[name]))
        bench.produce(2)
        assert bench.counts()["queued"] == 2
        successor.start(restore=False)
        assert bench.connection.link is not None
        successor.link_up(bench.connection.link)
        bench.connection._on_acknowledged = successor.acknowledged
        bench.outbox.notify("edge/bench/late/result", json.dumps({"boot_id": bench.boot_id, "seq": 1}))
        bench.wait_for(acknowledged=5, queued=0)
        ledger = arrived(client, 6)
        successor.stop(5)
    ledger.without_gaps("lab")
    assert len(ledger.results["late"]) == 1


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
        wait_until(lambda: not bench.outbox._events, 10, "all have been looked at")
        assert sum(len(notice.payload) for notice in bench.outbox._notices) <= MAX_NOTICES_SIZE


def test_the_connection_is_not_delayed_by_nagle(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, broker.url) as bench:
        bench.wait_until_connected()
        assert bench.connection.link is not None
        sock = bench.connection.link.client.socket()
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
