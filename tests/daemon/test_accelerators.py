"""What becomes of a running daemon, and of who listens to it, when an accelerator goes wrong."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from edge_agent.counters import imbalance
from edge_agent.models.shipped import shipped
from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.daemon_process import Daemon, configuration
from tests.delegates import CUSTOM, TestDelegate
from tests.models import compiled_models
from tests.processes import children

DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
TIMEOUT_S = 1.0


class Scene:
    """A daemon that reads digits on an accelerator, and somebody who sends it pictures and listens.

    Args:
        pipeline: further settings of the pipeline.
        model: further settings of the model.
    """

    def __init__(
        self, broker: Mosquitto, folder: Path, device: str, pipeline: Mapping[str, Any] | None = None, **model: Any
    ) -> None:
        self.device = device
        self.client = Subscriber(broker.port, f"edge/{device}/#")
        options = {"path": str(DIGITS), "timeout": TIMEOUT_S, **model}
        source = {"type": "mqtt", "topic": f"{device}/in"}
        pipelines = {"lab": {"source": source, "model": "digits", **(pipeline or {})}}
        self.daemon = Daemon(
            folder,
            configuration(broker, device, models={"digits": options}, pipelines=pipelines),
            environment={"XDG_CACHE_HOME": str(folder.parent / "cache")},  # the CPU proves itself once for all tests
        )
        self._sent = 0

    def __enter__(self) -> Self:
        self.client.__enter__()
        self.daemon.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.daemon.__exit__(*details)
        self.client.__exit__(*details)

    def send(self) -> None:
        """Sends a picture of a five."""
        self._sent += 1
        self.client.publish(f"{self.device}/in", IMAGE)

    def wait_until_answered(self) -> None:
        """Waits until each picture has its result, which must be right; after a crash one may have two."""
        results = [json.loads(one.payload) for one in self.client.wait_for(self.about("lab/result"), self._sent)]
        assert {result["predictions"][0]["label"] for result in results} == {"5"}

    def ask(self) -> float:
        """Sends a picture; returns the seconds to its result."""
        began = time.monotonic()
        self.send()
        self.wait_until_answered()
        return time.monotonic() - began

    def told(self, moves: int) -> dict[str, Any]:
        """What is told of the model's accelerator, once it has changed so many times."""

        def tells(message: Message) -> bool:
            return self.about("accelerator")(message) and _of_model(message)["moves"] == moves

        return _of_model(self.client.wait_for(tells, timeout=30)[-1])

    def stats(self) -> dict[str, Any]:
        """The next statistics."""
        before = len([message for message in self.client.messages if self.about("stats")(message)])
        stats: dict[str, Any] = json.loads(self.client.wait_for(self.about("stats"), before + 1)[-1].payload)
        return stats

    def counts(self) -> dict[str, Any]:
        """The counters of the pipeline, once every input is counted: its result comes first."""

        def settled() -> dict[str, Any]:
            found: dict[str, Any] = self.stats()["pipelines"]["lab"]
            return found if found["in_progress"] == 0 else {}

        return wait_until(settled, 10, "all inputs are counted")

    def about(self, topic: str) -> Callable[[Message], bool]:
        """Whether a message is on one of the device's topics."""
        return lambda message: message.topic == f"edge/{self.device}/{topic}"


def _of_model(message: Message) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(message.payload)["models"]["digits"]
    return facts


@pytest.mark.parametrize("harm", ["hang", "fail"])
def test_an_input_is_answered_although_its_accelerator_goes_wrong_which_serves_again_once_it_can(
    harm: str, broker: Mosquitto, delegate: TestDelegate, tmp_path: Path
) -> None:
    with Scene(broker, tmp_path, harm, accelerators=[delegate.entry(harm, at_will=True), "cpu"]) as scene:
        facts = scene.told(moves=0)
        assert facts["in_use"].startswith("libtest_delegate.so take=25")
        assert (facts["share"], facts["fallback"]) == ({"on": 1, "of": 10}, "")
        assert facts["speed_up"] > 0
        scene.ask()
        delegate.do_harm()
        assert scene.ask() < TIMEOUT_S + 5
        facts = scene.told(moves=1)
        assert facts["in_use"] == "cpu"
        assert ("gives no answer for 1 s" if harm == "hang" else "inference failed: ") in facts["fallback"]
        scene.ask()
        assert scene.stats()["models"] == {"digits": {"accelerator": "cpu", "moves": 1}}
        delegate.do_no_harm()
        assert scene.told(moves=2)["in_use"].startswith("libtest_delegate.so")
        scene.ask()
        counts = scene.counts()
        assert imbalance(counts) == ""
        assert (counts["captured"], counts["inferred"]) == (4, 4)
        assert scene.daemon.stop().code == 0
        log = scene.daemon.log()
        assert "digits: runs on cpu from now on, since libtest_delegate.so" in log
        assert "from now on, since it proves itself again" in log
        assert "Traceback" not in log


def test_an_accelerator_that_kills_the_daemon_is_left_alone_after_the_third_time(
    broker: Mosquitto, delegate: TestDelegate, tmp_path: Path
) -> None:
    with Scene(broker, tmp_path, "killed", accelerators=[delegate.entry("crash", at_will=True), "cpu"]) as scene:
        for _ in range(3):
            scene.ask()
            delegate.do_harm()
            scene.send()
            assert scene.daemon.wait().code == -signal.SIGSEGV
            delegate.do_no_harm()
            scene.daemon.start()
            scene.wait_until_answered()  # the broker has sent it again
        said = [_of_model(message) for message in scene.client.wait_for(scene.about("accelerator"), 4)]
        assert [facts["in_use"] == "cpu" for facts in said] == [False, False, False, True]
        assert said[-1]["fallback"].endswith(": has crashed the agent 3 times in a row: not used before the next boot")
        delegate.do_harm()
        scene.ask()
        assert imbalance(scene.stats()["pipelines"]["lab"]) == ""
        assert scene.daemon.stop().code == 0
        assert "has crashed the agent, 2 of at most 3 times in a row" in scene.daemon.log()


def test_an_isolated_model_crashes_without_the_daemon_and_no_input_is_lost(
    broker: Mosquitto, delegate: TestDelegate, tmp_path: Path
) -> None:
    entry = delegate.entry("crash", at_will=True)
    with Scene(broker, tmp_path, "isolated", accelerators=[entry, "cpu"], isolate=True) as scene:
        assert scene.told(moves=0)["share"] == {"on": 1, "of": 10}
        scene.ask()
        pid = scene.daemon.pid
        delegate.do_harm()
        scene.ask()
        facts = scene.told(moves=1)
        assert facts["in_use"] == "cpu"
        assert facts["fallback"].endswith(": its process has crashed (SIGSEGV)")
        delegate.do_no_harm()
        assert scene.told(moves=2)["in_use"].startswith("libtest_delegate.so")
        scene.ask()
        counts = scene.counts()
        assert imbalance(counts) == ""
        assert (counts["captured"], counts["inferred"]) == (3, 3)
        assert scene.daemon.pid == pid


def test_an_isolated_model_whose_only_process_is_killed_is_started_again(broker: Mosquitto, tmp_path: Path) -> None:
    with Scene(broker, tmp_path, "sole", accelerators=["cpu"], isolate=True) as scene:
        for _ in range(2):
            scene.ask()
            [worker] = children(scene.daemon.pid)
            os.kill(worker, signal.SIGKILL)

        def answered() -> bool:
            """Of those that come before the back-off has passed, each is counted and reported."""
            before = scene.stats()["pipelines"]["lab"]["inferred"]
            scene.client.publish("sole/in", IMAGE)
            return bool(scene.stats()["pipelines"]["lab"]["inferred"] > before)

        wait_until(answered, 20, "it serves again")
        counts = scene.counts()
        assert imbalance(counts) == ""
        assert counts["captured"] == counts["inferred"] + counts["dropped"]["failed"]


def test_an_accelerator_that_gives_other_answers_does_not_serve(
    broker: Mosquitto, delegate: TestDelegate, tmp_path: Path
) -> None:
    with Scene(broker, tmp_path, "wrong", accelerators=[delegate.entry("wrong"), "cpu"]) as scene:
        facts = scene.told(moves=0)
        assert (facts["in_use"], facts["share"]) == ("cpu", None)
        assert "13 of 14 golden samples come out wrong" in facts["fallback"]
        scene.ask()
        assert "digits: runs on cpu, since libtest_delegate.so take=25 harm=wrong: 13 of 14" in scene.daemon.log()


def test_a_daemon_that_must_not_fall_back_does_not_start(
    broker: Mosquitto, delegate: TestDelegate, tmp_path: Path
) -> None:
    scene = Scene(broker, tmp_path, "alone", accelerators=[delegate.entry("unprepared")])
    with scene.client:
        scene.daemon.start(ready=False)
        assert scene.daemon.wait().code == 2
        assert "models.digits: " in scene.daemon.log()
        assert "libtest_delegate.so take=25 harm=unprepared: LiteRT" in scene.daemon.log()
        assert scene.client.messages == []


def test_a_model_compiled_for_an_npu_serves_there_and_its_sibling_on_the_cpu_takes_over(
    broker: Mosquitto, delegate: TestDelegate, tmp_path: Path
) -> None:
    bundle = compiled_models.bundle(tmp_path / "bundle", compiled={"ethosu": "digits_ethosu.tflite"})
    library = delegate.library.rename(tmp_path / "libethosu_delegate.so")
    npu = delegate.entry("fail", at_will=True, take=CUSTOM) | {"delegate": str(library)}
    with Scene(broker, tmp_path, "npu", path=str(bundle), accelerators=[npu, "cpu"]) as scene:
        facts = scene.told(moves=0)
        assert facts["in_use"].startswith("libethosu_delegate.so")
        assert (facts["share"], facts["fallback"]) == ({"on": 1, "of": 10}, "")
        scene.ask()
        delegate.do_harm()
        scene.ask()
        assert scene.told(moves=1)["in_use"] == "cpu"
        delegate.do_no_harm()
        assert scene.told(moves=2)["in_use"].startswith("libethosu_delegate.so")
        scene.ask()
        counts = scene.counts()
        assert imbalance(counts) == ""
        assert (counts["captured"], counts["inferred"]) == (3, 3)


def test_a_model_compiled_for_a_provider_that_is_not_here_has_its_sibling_answer(
    broker: Mosquitto, tmp_path: Path
) -> None:
    bundle = compiled_models.bundle(tmp_path / "bundle", compiled={"qnn": "digits_qnn.onnx"})
    with Scene(broker, tmp_path, "context", path=str(bundle), accelerators=["qnn", "cpu"]) as scene:
        facts = scene.told(moves=0)
        assert facts["in_use"] == "cpu"
        assert " has no QNNExecutionProvider, only " in facts["fallback"]
        scene.ask()
        assert imbalance(scene.stats()["pipelines"]["lab"]) == ""


def test_a_batch_is_answered_by_one_that_takes_it_and_by_one_that_does_not(
    broker: Mosquitto, delegate: TestDelegate, tmp_path: Path
) -> None:
    regions = {"regions": {"one": [0, 0, 1, 1], "same": [0, 0, 1, 1]}}
    one_at_a_time = delegate.entry("batch")
    one_at_a_time["delegate"] = str(shutil.copy(delegate.library, tmp_path / "libone_at_a_time.so"))
    accelerators = [delegate.entry("fail", at_will=True), one_at_a_time, "cpu"]
    with Scene(broker, tmp_path, "batch", regions, accelerators=accelerators) as scene:
        assert scene.told(moves=0)["in_use"].startswith("libtest_delegate.so")
        scene.ask()
        delegate.do_harm()
        scene.ask()
        assert scene.told(moves=1)["in_use"].startswith("libone_at_a_time.so")
        for _ in range(3):
            scene.ask()
        delegate.do_no_harm()
        assert scene.told(moves=2)["in_use"].startswith("libtest_delegate.so")
        scene.ask()
        assert scene.stats()["models"]["digits"]["moves"] == 2
        counts = scene.counts()
        assert imbalance(counts) == ""
        assert (counts["captured"], counts["inferred"]) == (6, 6)
