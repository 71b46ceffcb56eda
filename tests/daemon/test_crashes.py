"""Exceptions that nothing handles, and the stacks of all threads."""

import re
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from edge_agent.models.shipped import shipped
from tests.broker import Mosquitto, Subscriber, free_port, wait_until
from tests.daemon_process import Daemon, configuration

DIGITS = shipped("digits")


def failing(broker: Mosquitto, folder: Path, thread: str, **sections: object) -> Daemon:
    config = configuration(
        broker,
        "failing",
        models={"digits": {"path": str(DIGITS)}},
        pipelines={"in": {"source": {"type": "mqtt", "topic": "in"}, "model": "digits"}},
        **sections,
    )
    return Daemon(folder, config, module="tests.daemon.failing", environment={"FAILING_THREAD": thread})


@pytest.mark.parametrize("thread", ["main", "in [01]", "outbox", "mqtt edge-agent-failing", "http[.]listen"])
def test_an_exception_that_ends_a_thread_ends_the_process(thread: str, broker: Mosquitto, tmp_path: Path) -> None:
    daemon = failing(broker, tmp_path, thread, http={"listen": f"127.0.0.1:{free_port()}"})
    with Subscriber(broker.port, "edge/failing/status") as client:
        daemon.start(ready=False)
        assert daemon.wait().code == 1
        if thread == "main":  # it was there, and the broker says that it has gone
            client.wait_for(lambda message: message.payload == b"offline")
    log = daemon.log()
    assert "a defect in edge-agent: the process ends" in log
    assert "Traceback" in log
    assert "LookupError: made up" in log


def test_a_request_that_fails_costs_only_its_answer(broker: Mosquitto, tmp_path: Path) -> None:
    port = free_port()
    daemon = failing(broker, tmp_path, "-", http={"listen": f"127.0.0.1:{port}"})
    daemon.environment["FAILING_PAGE"] = "1"
    with daemon:
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError) as refusal:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
            with refusal.value as answer:
                assert answer.code == 500
        assert "LookupError: made up" in daemon.log()
        assert daemon.stop().code == 0


def test_sigusr1_writes_what_every_thread_does_and_the_daemon_goes_on(broker: Mosquitto, tmp_path: Path) -> None:
    with failing(broker, tmp_path, "-") as daemon:
        for count in (1, 2):
            daemon.signal(signal.SIGUSR1)
            wait_until(lambda count=count: daemon.log().count("_run_module_as_main") >= count, 10, "stacks")  # type: ignore[misc]
        log = daemon.log()
        assert log.count("Thread 0x") > 4
        assert {"edge_agent/daemon/agent.py", "edge_agent/mqtt/outbox.py"} <= set(
            re.findall(r"edge_agent/[\w/]+[.]py", log)
        )
        assert daemon.stop().code == 0
