"""Eight agents, releases that are bad on live input only, and nobody who does anything about it by hand."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import yaml

from edge_agent.release.configuration import pack
from tests.broker import Subscriber, wait_until
from tests.daemon_process import Daemon, configuration
from tests.update import camera
from tests.update.kit import DIGITS, PASSPHRASE, Scene, bundle
from tests.update.releasing import Operator

DEVICES = [f"gateway-{number}" for number in range(8)]
CANARIES, SITE_B = DEVICES[:2], DEVICES[2:4]
PLAN = """
steps:
  - {groups: [canary], soak: 0, devices: 2}
  - {percent: 100, soak: 0, devices: 8}
silence: 60s
"""
PATIENCE_S = 300.0


class Fleet:
    """Eight devices, each started again when it ends, as systemd does."""

    def __init__(self, stage: Scene) -> None:
        self.stage = stage
        self.client = Subscriber(stage.broker.port, "edge/+/+")
        self._stopped = threading.Event()
        self.daemons = {name: self._daemon(name) for name in DEVICES}

    def _daemon(self, name: str) -> Daemon:
        labels = [*(["canary"] if name in CANARIES else []), *(["site-b"] if name in SITE_B else [])]
        update = self.stage.update | {
            "labels": labels,
            "config": "config",
            "shadow": {"samples": 2, "max_slowdown": 1000, "timeout": "4m"},
            "probation": {"duration": "4s", "max_slowdown": 1000, "input_within": "4s"},
        }
        config = configuration(
            self.stage.broker,
            name,
            models={"digits": {"path": str(DIGITS)}},
            pipelines={"lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"}},
            update=update,
        )
        environment = {"XDG_CACHE_HOME": str(self.stage.cache), "BAD_SERVICE": "dies 2"}
        return Daemon(self.stage.folder / name, config, environment=environment, module="tests.update.faulty")

    def supervise(self, name: str) -> None:
        """Starts a device again and again until it is to be stopped."""
        daemon = self.daemons[name]
        while not self._stopped.is_set():
            daemon.start(ready=False)
            while not daemon.ended and not self._stopped.wait(0.5):
                pass
            if not self._stopped.is_set():
                daemon.wait()
        daemon.stop()

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.supervise, args=(name,)) for name in DEVICES]
        with ExitStack() as ends:
            ends.callback(self.client.close)
            for thread in threads:
                ends.callback(thread.join)
                thread.start()
            ends.callback(self._stopped.set)
            yield

    def said(self, device: str) -> list[dict[str, Any]]:
        topic = f"edge/{device}/update"
        return [json.loads(m.payload) for m in list(self.client.messages) if m.topic == topic]

    def versions(self, what: str = "digits") -> dict[str, str]:
        """Of all devices that have said one: version and step."""
        found = {}
        for device in DEVICES:
            for document in self.said(device)[-1:]:
                facts = document["config"] if what == "config" else document["models"][what]
                found[device] = (facts["active"] or {"version": "as configured"})["version"]
        return found

    def took(self, release: str) -> set[str]:
        """The devices that have ever tried a release."""
        return {
            device
            for device in DEVICES
            for document in self.said(device)
            for facts in (document["config"], *document["models"].values())
            if facts["version"] == release
        }

    def wait_for_version(self, version: str, what: str = "digits") -> None:
        try:
            wait_until(lambda: self.versions(what) == dict.fromkeys(DEVICES, version), PATIENCE_S, f"{version} on all")
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.versions(what)}") from None


def release_configuration(stage: Scene, version: str, **files: Any) -> None:
    folder = stage.folder / f"configuration-{version}"
    for name, content in files.items():
        file = folder / f"{name.replace('__', '/').replace('_', '-')}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content))
    pack(folder, archive := folder.with_suffix(".zip"))
    stage.repository.add(archive, "config", version, 0, [])


def pipelines(stage: Scene, picture: str) -> dict[str, Any]:
    source = {"type": "video", "url": f"{stage.server.url}/{picture}", "fps": 1}
    return {"pipelines": {"door": {"source": source, "model": "digits"}}}


@pytest.mark.faults
def test_what_is_bad_on_live_input_reaches_only_the_first_devices_and_all_come_back_by_themselves(
    stage: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AGENT_PASSPHRASE", PASSPHRASE.decode())
    for version in ("2", "3"):
        bundle(stage.cache, version)
    operator, fleet = Operator(stage, PLAN), Fleet(stage)
    stage.server.wrongly = camera.answer
    with stage.sending(), fleet.running():
        fleet.wait_for_version("as configured")

        # It passes its golden samples and the shadow, and ends the agent at the first picture that it serves.
        operator.release("2")
        ended = operator.watch("digits/2", "10m")
        assert ended.returncode == 1, ended.stdout
        assert "digits/2: revoked in step 1" in ended.stdout
        fleet.wait_for_version("as configured")
        assert fleet.took("digits/2") <= set(CANARIES)

        operator.release("3")
        ended = operator.watch("digits/3", "10m")
        assert ended.returncode == 0, ended.stdout
        fleet.wait_for_version("3")

        release_configuration(stage, "1", base=pipelines(stage, "camera.jpg"))
        operator.plan("config/1")
        ended = operator.watch("config/1", "15m")
        assert ended.returncode == 0, ended.stdout
        fleet.wait_for_version("1", "config")

        # For the devices of one site, another address of their camera, at which there is none.
        moved = pipelines(stage, "moved.jpg")
        (operator.folder / "plan.yaml").write_text("steps: [{groups: [site-b], devices: 2}, {percent: 100}]\n")
        release_configuration(stage, "2", base=pipelines(stage, "camera.jpg"), label__site_b=moved)
        operator.plan("config/2")
        ended = operator.watch("config/2", "15m")
        assert ended.returncode == 1, ended.stdout
        assert "door: no input" in ended.stdout
        fleet.wait_for_version("1", "config")
        assert fleet.took("config/2") <= set(SITE_B)
