"""A model sent from the browser: what becomes one of the device's models, and everything else that may come."""

import errno
import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.models import registry
from edge_agent.models.shipped import shipped
from edge_agent.monitoring.page import uploading
from tests.broker import wait_until
from tests.monitoring.page.kit import Client, Reply, StillAgent, write_config

MODEL = (shipped("digits") / "digits.tflite").read_bytes()
LABELS = "".join(f"digit {number}\n" for number in range(11))
BYTES = {"CONTENT_TYPE": "application/octet-stream"}
PIECE = 60_000


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the device's models."""
    monkeypatch.setenv("EDGE_AGENT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "models"


@pytest.fixture
def agent(tmp_path: Path) -> StillAgent:
    return StillAgent(write_config(tmp_path))


@pytest.fixture
def client(agent: StillAgent) -> Client:
    return Client(agent)


def begin(client: Client, name: str, size: int, **further: Any) -> str:
    key: str = client.post("/setup/upload", {"name": name, "size": size, **further}).json["key"]
    return key


def piece(client: Client, key: str, at: int, data: bytes, **headers: str) -> Reply:
    return client.post(f"/setup/upload/{key}?at={at}", data, **(BYTES | headers))


def send(client: Client, name: str, data: bytes, **further: Any) -> dict[str, Any]:
    """Sends a file in pieces; returns what has become of it."""
    key = begin(client, name, len(data), **further)
    for at in range(0, len(data), PIECE):
        assert piece(client, key, at, data[at : at + PIECE]).status == 200
    wait_until(lambda: client.get("/setup.json").json["upload"]["state"] != "checking", 60, "the model is checked")
    outcome: dict[str, Any] = client.get("/setup.json").json["upload"]
    return outcome


def zipped(**files: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return made.getvalue()


def test_a_model_is_proven_and_can_be_chosen_then_by_its_name(client: Client, agent: StillAgent, folder: Path) -> None:
    assert send(client, "my-digits", MODEL, labels=LABELS)["state"] == "ready"
    [shown] = [one for one in client.get("/setup.json").json["models"]["pictures"] if one["name"] == "my-digits"]
    assert (shown["task"], shown["here"], shown["size"]) == ("classification", True, len(MODEL))
    assert {file.name for file in (folder / "my-digits").iterdir()} == {"model.tflite", "labels.txt", "model.yaml"}
    choice = {"name": "yard", "model": "my-digits", "input": "pictures", "value": "in"}
    assert client.post("/setup/pipeline", choice).status == 200
    assert yaml.safe_load(agent.path.read_text())["models"]["my-digits"] == {"path": "my-digits"}
    assert not (folder / ".upload").exists()


def test_a_bundle_comes_as_an_archive_with_all_that_it_states(client: Client, folder: Path) -> None:
    files = {str(file.relative_to(shipped("digits"))): file.read_bytes() for file in shipped("digits").rglob("*.*")}
    assert send(client, "bundled", zipped(**files))["state"] == "ready"
    assert (folder / "bundled" / "model.yaml").read_bytes() == (shipped("digits") / "model.yaml").read_bytes()


@pytest.mark.parametrize("name", ["digits", "coco-ssd-mobilenet-v1", "mine"])
def test_a_name_that_a_model_has_is_refused(name: str, client: Client, folder: Path) -> None:
    (folder / "mine").mkdir(parents=True)
    assert client.post("/setup/upload", {"name": name, "size": 10}).status == 400


@pytest.mark.parametrize(
    "name", ["../mine", "/etc/mine", "a/b", "a\\b", "..", ".upload", "", "Mine", "a" * 65, "a\n", "a\0", 7, None, ["a"]]
)
def test_a_name_leads_nowhere_else(name: Any, client: Client, folder: Path) -> None:
    assert client.post("/setup/upload", {"name": name, "size": 10}).status == 400
    assert not folder.exists()


@pytest.mark.parametrize("size", [0, -1, uploading.MOST_BYTES + 1, 1.5, "10", None, True, 10**30])
def test_what_is_too_large_is_refused_before_a_byte_of_it_has_come(size: Any, client: Client, folder: Path) -> None:
    assert client.post("/setup/upload", {"name": "mine", "size": size}).status == 400
    assert not folder.exists()


def test_only_those_who_may_change_something_send_models(agent: StillAgent, client: Client, folder: Path) -> None:
    wanted = {"name": "mine", "size": 10}
    assert Client(agent, edit=False).post("/setup/upload", wanted).status == 403
    assert client.post("/setup/upload", wanted, HTTP_AUTHORIZATION="Bearer wrong").status == 401
    assert client.post("/setup/upload", wanted, HTTP_ORIGIN="http://evil.example").status == 403
    assert client.get("/setup/upload").status == 404
    assert not folder.exists()
    key = begin(client, "mine", 10)
    assert piece(client, key, 0, b"x", HTTP_AUTHORIZATION="").status == 401
    assert piece(client, key, 0, b"x", HTTP_ORIGIN="http://evil.example").status == 403
    assert piece(client, key, 0, b"x", HTTP_SEC_FETCH_SITE="cross-site").status == 403
    for kind in ("text/plain", "multipart/form-data", "application/x-www-form-urlencoded", "application/json", ""):
        assert piece(client, key, 0, b"x", CONTENT_TYPE=kind).status == 403
    assert client.get("/setup.json").json["upload"]["have"] == 0


def test_pieces_come_in_their_order_with_their_key_and_within_the_size(client: Client, folder: Path) -> None:
    key = begin(client, "mine", 10)
    for wrong in ("", "nothing", "../model", key[:-1], f"{key}/"):
        assert piece(client, wrong, 0, b"x").status in (404, 405)
    for at in ("", "-1", "1", "nan", "1e99"):
        assert client.post(f"/setup/upload/{key}?at={at}", b"x", **BYTES).status == 409
    assert piece(client, key, 0, b"").status == 400
    assert piece(client, key, 0, b"x" * 11).status == 400
    assert piece(client, key, 0, b"x" * 65_537).status == 413
    assert piece(client, key, 0, b"x" * 9).json == {"have": 9}
    assert piece(client, key, 0, b"x").status == 409
    assert (folder / ".upload" / "model").stat().st_size == 9


def test_a_model_that_is_cut_short_leaves_its_place_to_the_next(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = begin(client, "mine", 10)
    piece(client, key, 0, b"x")
    assert client.post("/setup/upload", {"name": "other", "size": 10}).status == 409
    monkeypatch.setattr(uploading, "QUIET", 0.0)
    begin(client, "other", 10)
    assert piece(client, key, 1, b"x").status == 404
    assert (folder / ".upload" / "model").stat().st_size == 0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (MODEL[: len(MODEL) // 2], "damaged"),
        (b"\x80\x04\x95" + bytes(100), "pickle"),
        (b"\x7fELF" + bytes(100), "program or library"),
        (b"<html>", "web page"),
        (b"GGUF" + bytes(100), "language model"),
        (zipped(**{"model.yaml": b"name: x", "../../evil.tflite": MODEL}), ""),
        (zipped(**{"a.tflite": MODEL, "b.so": b"\x7fELF" + bytes(100)}), "native code"),
    ],
)
def test_what_is_no_model_is_refused_and_says_why(data: bytes, why: str, client: Client, folder: Path) -> None:
    outcome = send(client, "mine", data)
    assert outcome["state"] == "refused"
    assert why in outcome["problem"]
    assert str(folder) not in outcome["problem"]
    assert list(folder.iterdir()) == []


def test_a_model_that_does_not_run_is_refused_though_it_is_one(client: Client, folder: Path) -> None:
    damaged = bytearray(MODEL)
    damaged[len(damaged) // 3 : len(damaged) // 3 + 4000] = bytes(4000)
    outcome = send(client, "mine", bytes(damaged))
    assert outcome["state"] == "refused" or (folder / "mine" / "model.yaml").exists()


def test_a_full_disk_refuses_a_model_and_keeps_nothing_of_it(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=uploading.SPARE))
    assert client.post("/setup/upload", {"name": "mine", "size": 1000}).status == 507
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**12))
    key = begin(client, "mine", 1000)
    (folder / ".upload" / "model").unlink()
    (folder / ".upload" / "model").symlink_to("/dev/full")
    assert piece(client, key, 0, b"x" * 1000).status == 507
    assert list(folder.iterdir()) == []
    assert piece(client, key, 0, b"x").status == 404


def test_a_folder_that_can_not_be_written_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    reply = client.post("/setup/upload", {"name": "mine", "size": 10})
    assert reply.status == 507
    assert b"Read-only" in reply.body


def test_a_name_that_is_taken_meanwhile_is_refused(client: Client, folder: Path) -> None:
    key = begin(client, "mine", len(MODEL))
    (folder / "mine").mkdir()
    for at in range(0, len(MODEL), PIECE):
        piece(client, key, at, MODEL[at : at + PIECE])
    wait_until(lambda: client.get("/setup.json").json["upload"]["state"] == "refused", 60, "it is refused")
    assert list((folder / "mine").iterdir()) == []
    assert registry.resolve("mine") is None
