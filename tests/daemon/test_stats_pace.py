"""When counters are published."""

import json
from pathlib import Path

from edge_agent.counters import Counters
from edge_agent.daemon.stats_pace import UNCHANGED, StatsPace
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon
from tests.scenarios import lab


class Device:
    """A device with one pipeline, at whose counters the pace looks once an interval."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.pace = StatsPace()

    def published(self, intervals: int = 1) -> int:
        """In how many of the next intervals the counters are published."""
        return sum(self.pace.is_due({"lab": self.counters.as_dict()}, None) for _ in range(intervals))

    def infer(self, *, result: bool) -> None:
        self.counters.capture()
        self.counters.infer()
        if result:
            self.counters.produce()
        else:
            self.counters.withhold()


def settled() -> Device:
    device = Device()
    device.published(3)
    return device


def test_counters_that_do_not_change_are_published_each_30th_interval() -> None:
    assert settled().published(3 * (UNCHANGED + 1)) == 3


def test_counters_are_published_at_each_interval_that_has_results_and_once_more_after_the_last() -> None:
    device = settled()
    for _ in range(5):
        device.infer(result=True)
        assert device.published() == 1
    assert device.published(UNCHANGED) == 2  # inferences have stopped, and then nothing has changed


def test_a_scene_without_results_is_published_seldom() -> None:
    device = settled()
    found = 0
    for _ in range(UNCHANGED):
        device.infer(result=False)
        found += device.published()
    assert found <= 3


def test_inputs_that_fail_are_a_change_and_those_that_are_replaced_are_not() -> None:
    device = settled()
    for reason, published in (("superseded", 0), ("failed", 1)):
        device.counters.capture()
        device.counters.drop(reason)  # type: ignore[arg-type]  # one of the literals
        assert device.published() == published


def test_a_new_connection_has_the_counters_published_again() -> None:
    device = settled()
    device.pace.reset()
    assert device.published() == 1


def test_who_comes_later_finds_the_counters_at_the_broker(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with Daemon(tmp_path, lab(mosquitto, "idle", stats_interval="100ms")):
        with Subscriber(mosquitto.port, "edge/idle/stats") as first:
            first.wait_for(lambda message: message.topic == "edge/idle/stats")

        def kept() -> bool:
            with Subscriber(mosquitto.port, "edge/idle/stats") as later:
                [message, *_] = later.wait_for(lambda message: message.retain)
            return bool(json.loads(message.payload)["pipelines"]["lab"]["captured"] == 0)

        wait_until(kept, 10.0, "the counters are retained")
