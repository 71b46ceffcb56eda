"""From the field and back: what a device keeps is labelled, trains its model on, and comes back as a release."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.release.repository import SignedRepository
from edge_agent.release.upload import upload
from edge_agent.sample_store.store import Stored, read_store
from tests.broker import Mosquitto, Subscriber, wait_until
from tests.command_line import edge_agent
from tests.daemon_process import PROJECT, Daemon, configuration
from tests.update.kit import PASSPHRASE, WebServer, ask

FRAMES = 1000
KEEP = {
    "when": {"confidence": [0, 0.8], "margin": 0.5},
    "encoding": "png",
    "per_hour": 1000,
    "max_share": 1,
    "flush_every": "100ms",
}
PLAN = {"steps": [{"groups": ["canary"], "soak": 0}, {"percent": 100, "soak": 0, "devices": 3}], "silence": "30s"}


def recipe(module: str, *arguments: object) -> None:
    command = [sys.executable, "-m", f"numerals.{module}", *map(str, arguments)]
    further = {"PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = os.environ | further
    subprocess.run(command, cwd=PROJECT / "models" / "recipes", env=environment, check=True, timeout=120)


def run(folder: Path, *arguments: str | Path) -> str:
    done = edge_agent(*arguments, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Field:
    """A folder with a model that knows half of the looks, and what devices see.

    Args:
        folder: for everything.
        broker: of the devices.
    """

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.folder, self.broker = folder, broker
        recipe("train", "--out", folder / "1", "--pictures", 2500)
        recipe("clip", folder / "clip.avi", "--count", FRAMES, "--new", 0.4)
        recipe("clip", folder / "fresh", "--count", 400, "--new", 0.5, "--seed", 3)
        self.truth: dict[str, Any] = json.loads((folder / "clip.json").read_text())
        self.store = folder / "collector" / "samples" / "panel"

    def device(self, name: str, *, keep: bool = False, **further: Any) -> Daemon:
        pipeline = {
            "source": {
                "type": "video",
                "url": str(self.folder / "clip.avi"),
                "fps": "max" if keep else 5,
                "loop": not keep,
            },
            "model": "numerals",
        }
        config = configuration(
            self.broker,
            name,
            models={"numerals": {"path": str(self.folder / "1" / "bundle")}},
            pipelines={"panel": pipeline | ({"keep": KEEP} if keep else {})},
            **further,
        )
        return Daemon(self.folder / name, config, environment={"XDG_CACHE_HOME": str(self.folder / "cache")})

    def number(self, sample: Stored) -> int:
        """Which frame of the clip a sample is."""
        position_s: float = sample.read().document["origin"]["position_s"]
        return round(position_s * float(self.truth["fps"]))


@pytest.fixture
def field(tmp_path: Path, mosquitto: Mosquitto) -> Field:
    return Field(tmp_path, mosquitto)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """Of a signed repository, which is empty yet."""
    monkeypatch.setenv("EDGE_AGENT_PASSPHRASE", PASSPHRASE.decode())
    SignedRepository(tmp_path / "repository", ask).init()
    upload(tmp_path / "repository", str(tmp_path / "www"))
    with WebServer(tmp_path / "www") as server:
        yield server


@pytest.mark.faults  # a minute of processor time
@pytest.mark.timeout(600)  # two dozen processes, most of which import a runtime
def test_what_a_device_keeps_makes_its_model_better_and_comes_back_to_three_devices(
    field: Field, server: WebServer
) -> None:
    keep(field)
    label(field)
    train_on(field)
    release(field, server)


def keep(field: Field) -> None:
    """A device serves the clip, and keeps what it is unsure of: more often than not a look that is new to it."""
    with Subscriber(field.broker.port, "edge/collector/#") as client, field.device("collector", keep=True) as device:
        client.wait_for(lambda m: m.topic == "edge/collector/panel/result", FRAMES, timeout=60)
        device.stop()
    found = [field.truth["new"][field.number(one)] for one in read_store(field.store)]
    assert len(found) >= 40
    assert sum(found) / len(found) > 1.5 * sum(field.truth["new"]) / FRAMES, Counter(found)


def label(field: Field) -> None:
    """Somebody sorts the exported pictures into a folder for each label."""
    run(field.folder, "samples", "export", "-o", "unsorted", "--format", "jsonl", field.store)
    for one in read_store(field.store):
        [file] = (field.folder / "unsorted").rglob(f"{one.id}.png")
        place = field.folder / "sorted" / field.truth["labels"][field.number(one)]
        place.mkdir(parents=True, exist_ok=True)
        file.rename(place / file.name)
    run(field.folder, "samples", "import", "sorted", field.store)


def train_on(field: Field) -> None:
    """The recipe trains on with the labelled samples; as int8 it is better than what serves."""
    folder = field.folder
    run(folder, "samples", "export", "-o", "labelled", "--labelled", field.store)
    recipe(
        "train", "--out", folder / "2", "--version", "2",
        "--learned", folder / "1" / "learned.npz", "--samples", folder / "labelled",
    )  # fmt: skip
    run(folder, "models", "quantize", "2/bundle", "--samples", field.store, "-o", "int8")
    compared = json.loads(run(folder, "evaluate", "int8", "fresh", "--against", "1/bundle", "--json"))
    assert compared["metrics"]["top1"] > compared["against"]["metrics"]["top1"]
    assert compared["difference"]["interval"]["top1"][0] > 0, compared["difference"]


def release(field: Field, server: WebServer) -> None:
    """It goes to a canary and then to all, each of which tries it in the shadow and on probation."""
    folder = field.folder
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN))
    (folder / "operator.yaml").write_text(yaml.safe_dump({"mqtt": {"url": field.broker.url}}))
    root = folder / "repository" / "metadata" / "1.root.json"
    with ExitStack() as stack:
        client = stack.enter_context(Subscriber(field.broker.port, "edge/#"))
        for number in range(3):
            update = {
                "url": server.url,
                "root": str(root),
                "models": {"numerals": "numerals"},
                "interval": "1s",
                "labels": ["canary"] if number == 0 else [],
                "shadow": {"samples": 10, "min_agreement": 0.6, "max_slowdown": 1000},
                "probation": {"duration": "1s", "max_slowdown": 1000},
            }
            stack.enter_context(field.device(f"field{number}", update=update))
        run(folder, "release", "add", "int8", "--channel", "numerals", "-r", "repository")
        run(folder, "release", "plan", "numerals/2", "plan.yaml", "-r", "repository")
        options = ("--promote", "--upload", folder / "www", "-c", "operator.yaml", "--passed", "3", "--timeout", "50s")
        assert "step 2 of 2" in run(folder, "release", "watch", "numerals/2", "-r", "repository", *options)

        def served() -> set[str]:
            results = [m for m in list(client.messages)[-300:] if m.topic.endswith("/panel/result")]
            return {m.topic for m in results if json.loads(m.payload)["model"]["version"] == "2"}

        wait_until(lambda: len(served()) == 3, 10, "all three serve the new version")
