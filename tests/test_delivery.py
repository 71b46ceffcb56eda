"""The daemon in hard times: nothing lost, nothing silent. The long versions stand in tests/faults."""

from pathlib import Path

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests import scenarios
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon
from tests.reconcile import Ledger, on


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_sigkill_at_any_moment_loses_no_input(mosquitto: Mosquitto, tmp_path: Path, protocol: str) -> None:
    ledger = scenarios.kill_again_and_again(
        tmp_path / "agent", mosquitto, kills=2, images=40, protocol=protocol, seed=2
    )
    assert len({result["boot_id"] for result in ledger.results["lab"]}) > 1


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_inputs_that_were_in_work_when_it_was_killed_come_again_and_say_so(
    mosquitto: Mosquitto, tmp_path: Path, protocol: str
) -> None:
    config = scenarios.lab(mosquitto, "victim")
    config["mqtt"]["protocol"] = protocol
    daemon = Daemon(tmp_path, config)
    with Subscriber(mosquitto.port, "edge/victim/#") as client:
        daemon.start()
        client.wait_for(lambda message: message.payload == b"online")
        with scenarios.Sender(mosquitto.port, 150, 2000) as sender:
            client.wait_for(on("result"))
            daemon.kill()
            with daemon:
                ledger = scenarios.all_answered(client, sender, 30)
    ledger.answers("lab", sender.topics)
    assert scenarios.redelivered(ledger) > 0


def test_what_does_not_change_is_not_published_and_counts_as_inferred(mosquitto: Mosquitto, tmp_path: Path) -> None:
    options = {"on_change": True, "retain": True, "topic": "meters/{pipeline}/{label}"}
    config = scenarios.lab(mosquitto, "meter")
    config["pipelines"]["lab"]["publish"] = options
    five, other = scenarios.image("5"), scenarios.image("7")
    with Subscriber(mosquitto.port, "#") as client, Daemon(tmp_path, config):
        for number, image in enumerate([five, five, other, other, five]):
            client.publish(f"in/{number}", image)
        request = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
        request.ResponseTopic = "answer"
        client.publish("in/request", five, properties=request)
        client.wait_for(on("answer"))
        wait_until(lambda: Ledger(client.messages).stats, 5, "stats")
        wait_until(lambda: Ledger(client.messages).last_counts("lab")["inferred"] == 6, 5, "all are inferred")
    ledger = Ledger(client.messages)
    assert [result["input"]["topic"] for result in ledger.results["lab"]] == ["in/0", "in/2", "in/4", "in/request"]
    assert [result["seq"] for result in ledger.results["lab"]] == [1, 2, 3, 4]
    further = [message.topic for message in client.messages if message.topic.startswith("meters/")]
    assert further == ["meters/lab/5", "meters/lab/7", "meters/lab/5", "meters/lab/5"]
    ledger.balanced()
    counts = ledger.last_counts("lab")
    assert (counts["produced"], counts["withheld"], counts["in_progress"], counts["acknowledged"]) == (4, 2, 0, 4)
    with Subscriber(mosquitto.port, "edge/meter/lab/result") as later:
        [kept] = later.wait_for(lambda message: message.retain)
        assert b'"seq":4,' in kept.payload


def test_results_wait_for_a_broker_that_is_away(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", persistence=tmp_path / "state") as broker:
        ledger = scenarios.broker_away(tmp_path, broker, seconds=3)
    replayed = sum(result["replayed"] for result in ledger.results["lab"])
    assert replayed >= 50


def test_a_bad_network_loses_nothing(mosquitto: Mosquitto, tmp_path: Path) -> None:
    scenarios.bad_network(tmp_path, mosquitto, rounds=3, seed=3)


@pytest.mark.parametrize(("comes_back", "protocol"), [(True, "5"), (False, "5"), (False, "3.1.1")])
def test_a_group_loses_nothing_when_a_member_is_killed(
    mosquitto: Mosquitto, tmp_path: Path, comes_back: bool, protocol: str
) -> None:
    scenarios.a_member_is_killed(tmp_path, mosquitto, images=200, comes_back=comes_back, protocol=protocol)
