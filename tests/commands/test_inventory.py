"""`fleet`: the inventory, from what devices keep at the broker."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent import cli, settings
from edge_agent.commands import fleet_inventory
from edge_agent.commands.fleet_inventory import Inventory, cells
from edge_agent.daemon.inventory import configuration_hash
from tests import scenarios
from tests.broker import Mosquitto
from tests.command_line import edge_agent
from tests.daemon_process import Daemon


def heard(*messages: tuple[str, Any]) -> Inventory:
    known = Inventory("edge")
    for topic, payload in messages:
        known.receive(f"edge/{topic}", payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    return known


def test_a_running_device_is_in_the_inventory_with_its_machine_and_models(mosquitto: Mosquitto, tmp_path: Path) -> None:
    update = {"url": "http://127.0.0.1:9", "root": "root.json", "models": {"digits": "digits"}, "labels": ["site-a"]}
    (tmp_path / "root.json").write_text("{}")
    with Daemon(tmp_path, scenarios.lab(mosquitto, "porch") | {"update": update}):
        done = edge_agent("fleet", "--url", mosquitto.url, "--json", cwd=tmp_path)
        table = edge_agent("fleet", "--url", mosquitto.url, "--csv", cwd=tmp_path)
        shown = edge_agent("fleet", "--url", mosquitto.url, cwd=tmp_path)
    (found,) = json.loads(done.stdout)["devices"]
    assert (found["device_id"], found["status"], found["labels"]) == ("porch", "online", ["site-a"])
    assert (len(found["configuration"]), found["memory_mb"] > 0, found["disk_free_mb"] > 0) == (12, True, True)
    (model,) = found["models"]
    assert (model["name"], len(model["sha256"]), model["accelerator"]) == ("digits", 64, "cpu")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:2]] == [["porch", "online"]]
    (row,) = csv.DictReader(io.StringIO(table.stdout))
    assert (row["device_id"], row["machine"], row["labels"]) == ("porch", found["machine"], "site-a")


def test_an_update_that_failed_is_there_with_its_reason_and_a_device_that_is_away_with_its_last_sign() -> None:
    model = {"channel": "birds", "step": "refused", "version": "birds/4", "reason": "golden"}
    models = {"photos": model | {"active": {"version": "3"}}}
    known = heard(
        ("pi/status", b"offline"),
        ("pi/info", {"at": "2026-11-01T00:00:00.000Z"}),
        ("pi/update", {"at": "2026-11-02T00:00:00.000Z", "error": "expired", "models": models}),
        ("gone/status", b"online"),
        ("gone/status", b""),
    )
    (found,) = known.devices()
    assert (found["last_heard"], found["update_error"]) == ("2026-11-02T00:00:00.000Z", "expired")
    assert found["updates"] == [{"model": "photos"} | model | {"active": "3", "pinned": False}]
    assert "photos: refused birds/4: golden" in cells(found)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("pi/status", b"perhaps"),
        ("pi/info", b"{"),
        ("pi/stats", b"{}"),
        ("p\x1b/status", b"online"),
        ("pi/info", b"[1]"),
    ],
)
def test_what_makes_no_sense_is_left_out_and_counted(topic: str, payload: bytes) -> None:
    known = heard((topic, payload))
    assert (known.devices(), known.left_out) == ([], 1)


def test_documents_of_another_shape_are_no_reason_to_fail_and_no_cell_is_a_formula() -> None:
    odd: list[Any] = [
        {},
        {"models": [1], "labels": 3, "machine": "x"},
        {"disk": {"free_mb": 1e400}, "models": {"m": 1}},
    ]
    for document in odd:
        assert len(heard(("pi/info", document), ("pi/update", document)).devices()) == 1
    (found,) = heard(("pi/info", {"version": "=1+1", "labels": ["@a"]})).devices()
    assert {"'=1+1", "'@a"} <= set(cells(found))


def test_there_is_room_for_a_bounded_number_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_inventory, "MAX_DEVICES", 3)
    known = heard(*((f"pi-{number}/status", b"online") for number in range(5)))
    assert (len(known.devices()), known.left_out) == (3, 2)


def test_a_broker_that_is_not_there_is_an_error_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fleet", "--url", "mqtt://127.0.0.1:9", "--json"]) == 1
    assert "127.0.0.1:9" in capsys.readouterr().err.splitlines()[-1]


def test_devices_with_the_same_settings_have_the_same_hash_and_no_secret_is_in_it() -> None:
    def of(url: str, device_id: str = "a", interval: float = 10) -> str:
        source = {"type": "video", "url": url}
        pipelines = {"yard": {"source": source, "model": "digits"}}
        stated = {"device_id": device_id, "stats_interval": interval, "pipelines": pipelines}
        return configuration_hash(settings.Settings.model_validate(stated | {"models": {"digits": {"path": "digits"}}}))

    assert of("rtsp://user:one@cam.lan/1") == of("rtsp://user:two@cam.lan/1", "b")
    assert len({of("rtsp://cam.lan/1"), of("rtsp://cam.lan/2"), of("rtsp://cam.lan/1", interval=20)}) == 3
