"""Results that can't be delivered at once: the disk, the replay, and what becomes of them."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent.mqtt.outbox import REPLAY_WINDOW
from tests.broker import Mosquitto, Subscriber, free_port, wait_until
from tests.disks import small_disk, turn_read_only
from tests.mqtt.bench import RESULTS, Bench, arrived, url
from tests.mqtt.scripted_broker import ScriptedBroker, connack
from tests.proxy import Proxy
from tests.reconcile import on

pytestmark = pytest.mark.usefixtures("no_thread_is_left", "short_delays")


def test_results_wait_on_disk_while_the_broker_is_away_and_come_in_order(mosquitto: Mosquitto, tmp_path: Path) -> None:
    mosquitto.stop()
    with Bench(tmp_path, mosquitto.url, replay_rate=2000) as bench:
        bench.produce(300)
        bench.wait_until_saved()
        assert bench.counts()["queued"] == 300
        assert sorted(bench.done) == list(range(1, 301))
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


def test_stopping_saves_what_the_broker_does_not_answer(tmp_path: Path, broker: Mosquitto) -> None:
    with ScriptedBroker(on_publish=lambda _: None) as mute:
        with Bench(tmp_path, url(mute.port)) as bench:
            bench.wait_until_connected()
            bench.produce(20)
            wait_until(lambda: len(mute.published) == 20, 10, "all are sent")
        assert bench.counts()["queued"] == 20
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url):
        arrived(client, 20)


def test_live_results_are_not_held_up_behind_a_long_replay(broker: Mosquitto, tmp_path: Path) -> None:
    with Bench(tmp_path, url(free_port())) as before:
        before.produce(500)
    with Subscriber(broker.port, RESULTS) as client, Bench(tmp_path, broker.url, replay_rate=200) as bench:
        client.wait_for(on("result"), 50)
        bench.produce(20)
        live = {"boot_id": bench.boot_id}
        wait_until(lambda: _from_run(client, live["boot_id"]) >= 20, 5, "the live results")
        assert len(client.messages) < 450, "the replay goes on meanwhile"
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
        assert len(bench.done) == 500
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


def test_an_outbox_that_is_removed_while_it_is_in_use_is_accounted_for(tmp_path: Path) -> None:
    with Bench(tmp_path, url(free_port())) as bench:
        bench.produce(10)
        bench.wait_until_saved()
        (tmp_path / "outbox.db").unlink()
        bench.produce(5)
        bench.wait_for(damaged=10, queued=5)
        bench.wait_until_saved()
    assert bench.outbox.facts()["problem"] == ""


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
        assert "5 results lost: they can neither be delivered nor saved" in caplog.text
        assert first.counts()["queued"] == 5
