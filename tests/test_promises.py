"""Random histories of a whole agent against what it promises, with a broker in memory and nothing else replaced.

Every QoS 1 input is answered, refused by the broker for its result, or still with the broker; every input ends exactly
once; the counters balance at every moment; results are numbered without gaps and come in order.
"""

import tempfile
import threading
from collections import Counter
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from edge_agent.config import loader
from edge_agent.counters import imbalance
from edge_agent.daemon import agent as agent_module
from edge_agent.daemon.agent import Agent
from edge_agent.errors import ModelError
from edge_agent.models.model import Model
from edge_agent.sources import SOURCES
from tests.broker import wait_until
from tests.live_frames import LiveFrames
from tests.memory_broker import MemoryBroker, MemoryConnection
from tests.reconcile import Ledger
from tests.scenarios import DIGITS, IMAGES

PIPELINES = ("lab", "shed")
Inputs = list[tuple[str, int, bool]]
# For each its pipeline, its QoS, and whether the image is one.
INPUTS = st.lists(
    st.tuples(st.sampled_from(PIPELINES), st.sampled_from([1, 1, 0]), st.sampled_from([True, True, True, False])),
    max_size=8,
)
# Waiting times of the agent, shortened: by module and name.
SHORT = {
    "edge_agent.pipeline.registry.DRAIN_TIMEOUT": 0.05,
    "edge_agent.pipeline.registry.DELIVER_TIMEOUT": 0.05,
    "edge_agent.daemon.uplink.DELIVER_TIMEOUT": 0.05,
    "edge_agent.pipeline.registry.CLOSE_TIMEOUT": 0.02,
    "edge_agent.mqtt.outbox.COMMIT_EVERY": 0.02,
    "edge_agent.mqtt.outbox.STALLED_AFTER": 0.1,
}


def configuration(folder: Path, **changes: Any) -> dict[str, Any]:
    def inputs(name: str) -> dict[str, Any]:
        return {
            "source": {"type": "mqtt", "topic": f"in/{name}/#"},
            "model": "digits",
            "top_k": changes.get("top_k", 1),
        }

    return {
        "device_id": "pi",
        "mqtt": {"url": "mqtt://127.0.0.1:9", "keepalive": changes.get("keepalive", "30s"), "session_expiry": "1h"},
        "outbox": {"path": str(folder / changes.get("outbox", "outbox.db")), "replay_rate": 10_000},
        "models": {"digits": {"path": str(DIGITS)}},
        "pipelines": {
            **{name: inputs(name) for name in PIPELINES},
            "cam": {"source": {"type": "camera", "device": 0}, "model": "digits"},
        },
    }


class Promises(RuleBasedStateMachine):
    """One agent, from its start to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = ExitStack()
        self.folder = Path(self.ends.enter_context(tempfile.TemporaryDirectory()))
        self.changes: dict[str, Any] = {}
        self.sent: dict[str, tuple[int, bool]] = {}  # by topic: QoS, and whether the image is one
        self.free = threading.Event()
        self.free.set()
        self.failures = 0
        self.reloads = [0]  # how many inputs had been delivered then
        self.broker = MemoryConnection.broker = MemoryBroker()
        self.write()
        self.agent = Agent(loader.load(self.folder / "agent.yaml"))
        self.agent.start()
        self.break_model()

    def write(self) -> None:
        (self.folder / "agent.yaml").write_text(yaml.safe_dump(configuration(self.folder, **self.changes)))

    def break_model(self) -> None:
        model = self.agent._state.models["digits"]
        assert isinstance(model, Model)
        infer = model.infer_each

        def infer_each(*arguments: Any) -> Any:
            assert self.free.wait(30)
            if self.failures:
                self.failures -= 1
                raise ModelError("out of order")
            return infer(*arguments)

        model.infer_each = infer_each  # type: ignore[method-assign,assignment]  # to make it slow, or fail

    def send(self, inputs: Inputs) -> None:
        for name, qos, usable in inputs:
            topic = f"in/{name}/{len(self.sent):05}"
            self.sent[topic] = (qos, usable)
            self.broker.send(topic, IMAGES[len(self.sent) % len(IMAGES)] if usable else b"no image", qos)

    @rule(inputs=INPUTS)
    def send_only(self, inputs: Inputs) -> None:
        self.send(inputs)

    @rule(inputs=INPUTS, count=st.integers(1, 5))
    def show_frames(self, inputs: Inputs, count: int) -> None:
        for _ in range(count):
            LiveFrames.newest.show()
        self.send(inputs)

    @precondition(lambda self: self.free.is_set())
    @rule(inputs=INPUTS)
    def hold_model(self, inputs: Inputs) -> None:
        self.free.clear()
        self.send(inputs)

    @precondition(lambda self: not self.free.is_set())
    @rule(inputs=INPUTS)
    def release_model(self, inputs: Inputs) -> None:
        self.send(inputs)
        self.free.set()

    @rule(inputs=INPUTS, count=st.integers(1, 3))
    def fail(self, inputs: Inputs, count: int) -> None:
        self.failures = count
        self.send(inputs)

    @precondition(lambda self: self.broker.up)
    @rule(inputs=INPUTS, forgets=st.sampled_from([False, False, False, True]))
    def lose_connections(self, inputs: Inputs, forgets: bool) -> None:
        self.send(inputs)
        if forgets:
            self.broker.forget()
        else:
            self.broker.drop()

    @precondition(lambda self: not self.broker.up)
    @rule(inputs=INPUTS)
    def reach_broker(self, inputs: Inputs) -> None:
        self.send(inputs)
        self.broker.come_back()

    @rule(inputs=INPUTS, acks=st.sampled_from(["at once", "later", "refused"]))
    def acknowledge(self, inputs: Inputs, acks: Any) -> None:
        self.broker.acks = acks
        self.send(inputs)
        if acks == "at once":
            self.broker.acknowledge()

    @rule(
        inputs=INPUTS,
        changes=st.fixed_dictionaries(
            {},
            optional={
                "top_k": st.integers(1, 3),
                "keepalive": st.sampled_from(["20s", "30s"]),
                "outbox": st.sampled_from(["outbox.db", "other.db"]),
            },
        ),
    )
    def reload(self, inputs: Inputs, changes: dict[str, Any]) -> None:
        self.changes |= changes
        self.write()
        self.send(inputs)
        self.agent.reload()
        self.reloads.append(len(self.broker.delivered))

    @invariant()
    def balanced(self) -> None:
        for name, counts in self.agent.counters().items():
            assert not imbalance(counts), f"{name}: {imbalance(counts)}"

    def settled(self) -> bool:
        """Whether nothing is under way any more."""
        self.broker.deliver()
        counts = self.agent.counters().values()
        return not self.broker.still_held() and not any(one["in_progress"] or one["queued"] for one in counts)

    def teardown(self) -> None:
        try:
            self.free.set()
            self.failures = 0
            self.broker.acks = "at once"
            self.broker.acknowledge()
            if not self.broker.up:
                self.broker.come_back()
            wait_until(self.settled, 20, f"settled: {self.agent.counters()}, {self.broker.still_held()}")
            self.agent.stop()
            self.check()
        finally:
            self.ends.close()

    def check(self) -> None:
        ledger, counters = Ledger(self.broker.published), self.agent.counters()
        refused = Counter(topic.split("/")[1] for topic in self.broker.refused if topic)
        for name in PIPELINES:
            its = {topic: kind for topic, kind in self.sent.items() if topic.startswith(f"in/{name}/")}
            counts = counters[name]
            excused = {*self.broker.lost, *self.broker.refused}
            failed = counts["dropped"]["failed"]
            answered = {result["input"]["topic"] for result in ledger.results[name]}
            missing = {topic for topic, kind in its.items() if kind == (1, True)} - answered - excused
            assert len(missing) <= failed, f"{len(missing)} inputs are not answered, {failed} have failed: {missing}"
            ledger.answers(name, answered)
            assert answered <= {topic for topic, (_, usable) in its.items() if usable}
            assert counts["discarded"] | {"refused": 0} == dict.fromkeys(counts["discarded"], 0)
            assert counts["discarded"]["refused"] <= refused[name]
            assert counts["captured"] >= len([topic for topic, (qos, _) in its.items() if qos]) - len(excused)
            ledger.without_gaps(name, discarded=0 if not refused[name] else self.gaps(ledger, name))
            ledger.in_order(name)
            self.in_order_of_arrival(ledger, name)
        ledger.balanced()

    def in_order_of_arrival(self, ledger: Ledger, name: str) -> None:
        """Results have the order of their inputs, but for those that came again or were left behind by a reload."""
        results = [one for one in ledger.results[name] if not one["input"].get("redelivered")]
        numbers = {result["input"]["topic"]: result["seq"] for result in results}
        for start, end in pairwise([*self.reloads, len(self.broker.delivered)]):
            seen = [numbers[topic] for topic in self.broker.delivered[start:end] if topic in numbers]
            assert seen == sorted(seen), f"not in the order in which the inputs came: {seen}"

    def gaps(self, ledger: Ledger, name: str) -> int:
        """Numbers below the highest one that are missing: those of refused results."""
        numbers = {result["seq"] for result in ledger.results[name]}
        missing = set(range(1, max(numbers, default=0) + 1)) - numbers
        assert len(missing) <= self.agent.counters()[name]["discarded"]["refused"]
        return len(missing)


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("edge_agent.sources.mqtt", "edge_agent.daemon.uplink"):
        monkeypatch.setattr(f"{module}.Connection", MemoryConnection)
    for name, seconds in SHORT.items():
        monkeypatch.setattr(name, seconds)
    monkeypatch.setattr(agent_module, "gc", _NoCollection)
    monkeypatch.setitem(SOURCES, "camera", "tests.live_frames")


class _NoCollection:
    """A full collection at each reload would be most of the time."""

    @staticmethod
    def collect() -> None: ...

    @staticmethod
    def enable() -> None: ...


def run(*, histories: int, steps: int, repeatable: bool) -> None:
    run_state_machine_as_test(
        Promises,
        settings=hypothesis_settings(
            max_examples=histories,
            stateful_step_count=steps,
            deadline=None,
            derandomize=repeatable,
            # To make a failing history shorter takes minutes: only for the long ones.
            phases=(Phase.generate,) if repeatable else (Phase.generate, Phase.shrink),
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_promises_hold_in_short_histories() -> None:
    run(histories=5, steps=40, repeatable=True)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_the_promises_hold_in_long_histories() -> None:
    run(histories=100, steps=100, repeatable=False)
