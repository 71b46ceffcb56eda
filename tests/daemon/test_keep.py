"""A daemon that keeps samples: what it says of that, what it does on command, and what is there after SIGKILL."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.models.shipped import shipped
from edge_agent.sample_store.store import read_store
from tests.broker import Message, Mosquitto, Subscriber, wait_until
from tests.command_line import edge_agent
from tests.daemon_process import Daemon, configuration
from tests.keeping.kit import entries

DEVICE = "bench"
IMAGES = [path.read_bytes() for path in sorted((shipped("digits") / "golden").iterdir())]
KEPT = {"when": {"random": 1, "failed": True}, "flush_every": "100ms", "max_share": 1}


@pytest.fixture
def daemon(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Daemon]:
    config = configuration(
        mosquitto,
        DEVICE,
        models={"digits": {"path": str(shipped("digits"))}},
        pipelines={
            "lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits", "keep": KEPT},
            "quiet": {"source": {"type": "mqtt", "topic": "quiet"}, "model": "digits", "keep": {}},
            "taped": {
                "source": {"type": "mqtt", "topic": "taped"},
                "model": "digits",
                "record": {"before": "1h", "after": 0, "when": ["command"]},
            },
            "plain": {"source": {"type": "mqtt", "topic": "plain"}, "model": "digits"},
        },
    )
    with Daemon(tmp_path, config) as running:
        yield running


@pytest.fixture
def client(mosquitto: Mosquitto) -> Iterator[Subscriber]:
    with Subscriber(mosquitto.port, f"edge/{DEVICE}/#") as client:
        yield client


def latest(client: Subscriber, topic: str, count: int = 1) -> dict[str, Any]:
    def is_it(message: Message) -> bool:
        return message.topic == f"edge/{DEVICE}/{topic}"

    document: dict[str, Any] = json.loads(client.wait_for(is_it, count)[-1].payload)
    return document


def test_kept_samples_are_counted_listed_and_survive_sigkill(
    daemon: Daemon, client: Subscriber, tmp_path: Path
) -> None:
    info = latest(client, "info")["pipelines"]
    assert (info["lab"]["keep"], info["quiet"]["keep"]) == (True, True)
    assert info["taped"]["record"] is True
    assert not info["plain"].keys() & {"keep", "record"}
    for image in (*IMAGES, b"no image"):
        client.publish("lab", image)
    store = tmp_path / "samples" / "lab"
    wait_until(lambda: store.is_dir() and len(list(read_store(store))) == len(IMAGES) + 1, 10, "all are written")
    wait_until(lambda: latest(client, "stats")["keep"]["lab"]["written"] == len(IMAGES) + 1, 10, "and counted")
    daemon.kill()
    kept = entries(store)  # a failure has no place in the order of results
    assert [entry.data for entry in kept if "error" in entry.document] == [b"no image"]
    kept = [entry for entry in kept if "error" not in entry.document]
    assert [entry.data for entry in kept] == IMAGES
    results = [json.loads(m.payload) for m in client.messages if m.topic == f"edge/{DEVICE}/lab/result"]
    assert [entry.document["result"] for entry in kept] == results
    listed = edge_agent("samples", "list", "-c", daemon.config_file, "--reason", "failed", "--json", cwd=tmp_path)
    [row] = json.loads(listed.stdout)["samples"]
    assert (row["pipeline"], row["reasons"]) == ("lab", ["failed"])


def test_the_latest_inputs_are_kept_on_command(daemon: Daemon, client: Subscriber, tmp_path: Path) -> None:
    for image in IMAGES[:3]:
        client.publish("quiet", image)
    latest(client, "quiet/result", 3)
    requests: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"cmd": "keep", "pipeline": "quiet", "last": 2}, {"ok": True, "kept": 2}),
        ({"command": "keep", "pipeline": "quiet"}, {"ok": True, "kept": 0}),
        ({"command": "keep", "pipeline": "plain"}, {"ok": False}),
        ({"command": "keep", "pipeline": "quiet", "last": 0}, {"ok": False}),
        ({"command": "update"}, {"ok": False}),  # there are no updates here
    ]
    for number, (request, expected) in enumerate(requests, 1):
        client.publish(f"edge/{DEVICE}/cmd", json.dumps(request))
        answer = latest(client, "cmd/reply", number)
        assert answer.items() >= expected.items(), answer
    daemon.stop()
    assert [entry.data for entry in entries(tmp_path / "samples" / "quiet")] == IMAGES[1:3]
    assert not (tmp_path / "samples" / "plain").exists()


def test_what_a_daemon_has_recorded_is_replayed_to_the_bit(daemon: Daemon, client: Subscriber, tmp_path: Path) -> None:
    for image in IMAGES:
        client.publish("taped", image)
    latest(client, "taped/result", len(IMAGES))
    client.publish(f"edge/{DEVICE}/cmd", json.dumps({"cmd": "record", "pipeline": "taped"}))
    assert latest(client, "cmd/reply")["ok"] is True
    wait_until(lambda: latest(client, "stats")["record"]["taped"]["recorded"] == 1, 10, "it is recorded")
    daemon.stop()
    listed = edge_agent("recordings", "list", "-c", daemon.config_file, "--json", cwd=tmp_path)
    [row] = json.loads(listed.stdout)["recordings"]
    assert (row["pipeline"], row["reason"], row["inputs"]) == ("taped", "command", len(IMAGES))
    replayed = edge_agent("replay", row["path"], "--json", cwd=tmp_path)
    document = json.loads(replayed.stdout)
    assert (replayed.returncode, document["equal"]) == (0, len(IMAGES)), document["first_difference"]
    assert document["compared"]["bits"] == len(IMAGES)
