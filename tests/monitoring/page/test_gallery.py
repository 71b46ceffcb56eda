"""Kept samples on the page: what is listed, and what a label from there does to the store."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.keeping.payload import SERIES
from edge_agent.publish.drawing import encode_jpeg
from edge_agent.sample_store.labels import NAME, Label, append_labels, read_labels
from edge_agent.sample_store.segment import Entry
from edge_agent.sample_store.store import Bounds, SampleStore
from tests.images import decode_image
from tests.monitoring.page.kit import Client, StillAgent, write_config

PICTURE = encode_jpeg(np.full((300, 400, 3), 90, np.uint8), 100_000)
BOX = {"label": "person", "class_id": 0, "confidence": 0.55, "box": [10, 20, 110, 220]}


def entry(number: int, reason: str = "random", **result: Any) -> Entry:
    document = {
        "id": f"{number:016x}",
        "captured_at": 1000.0 + number,
        "pipeline": "porch",
        "reasons": [reason],
        "input": {"media": "image/jpeg"},
        "result": {"task": "detection", "predictions": [BOX], "input": {"width": 400, "height": 300}} | result,
    }
    return Entry(document, PICTURE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The store of the pipeline `porch`, with 70 samples: every tenth for its confidence, and of a cat."""
    store = SampleStore(tmp_path / "samples" / "porch", Bounds(20_000_000))
    cat = {"predictions": [BOX | {"label": "cat"}]}
    store.append([entry(n, "confidence", **cat) if n % 10 == 0 else entry(n) for n in range(70)])
    store.close()
    return store.folder


@pytest.fixture
def client(folder: Path, tmp_path: Path) -> Client:
    keep = {"keep": {"when": {"random": 0.1}}}
    return Client(StillAgent(write_config(tmp_path, porch=keep, lab={})))


def listed(client: Client, query: str = "") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.get(f"/samples.json/porch?{query}").json["samples"]
    return rows


def test_samples_come_newest_first_a_part_at_a_time(client: Client) -> None:
    first = client.get("/samples.json").json
    assert (first["pipelines"], first["pipeline"]) == (["porch"], "porch")
    assert [row["at"][14:19] for row in first["samples"][:2]] == ["17:49", "17:48"]
    rest = client.get(f"/samples.json/porch?before={first['more']}").json
    assert len(first["samples"]) + len(rest["samples"]) == 70
    assert rest["more"] == ""
    assert len({row["id"] for row in first["samples"] + rest["samples"]}) == 70


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("reason=confidence", 7),
        ("label=cat", 7),
        ("label=dog", 0),
        ("since=1060", 10),
        ("until=1009", 10),
        ("since=1010&until=1039&reason=confidence", 3),
        ("since=nan&reason=confidence", 7),
        ("state=labelled", 0),
        ("state=no-state&reason=confidence", 7),
        ("before=..%2f..&reason=confidence", 7),
    ],
)
def test_samples_are_found_by_rule_label_and_time(query: str, count: int, client: Client) -> None:
    assert len(listed(client, query)) == count


def test_pictures_are_encoded_again_in_two_sizes(client: Client) -> None:
    key = listed(client)[0]["key"]
    small, large = (client.get(f"/samples/picture/{key}?pipeline=porch{size}") for size in ("&size=small", ""))
    assert decode_image(small.body).shape == (240, 320, 3)
    assert decode_image(large.body).shape == (300, 400, 3)
    assert (large.headers["Content-Type"], large.headers["X-Content-Type-Options"]) == ("image/jpeg", "nosniff")


def test_a_sample_is_shown_with_what_the_model_has_said(client: Client) -> None:
    key = listed(client)[0]["key"]
    shown = client.get(f"/samples/{key}?pipeline=porch").json
    assert shown["size"] == [400, 300]
    assert shown["objects"] == [{"label": "person", "box": [10, 20, 110, 220]}]
    assert (shown["has_objects"], shown["history"], shown["said"]) == (True, [], None)


@pytest.mark.parametrize(
    "address",
    [
        "/samples/99999999-16?pipeline=porch",
        "/samples/00000001-17?pipeline=porch",
        "/samples/00000001-16?pipeline=lab",
        "/samples/00000001-16?pipeline=nobody",
        "/samples/00000001-16?pipeline=..%2fporch",
        "/samples/..%2f..%2fagent.yaml?pipeline=porch",
        "/samples/picture/00000001-999999999999?pipeline=porch",
    ],
)
def test_nothing_but_a_kept_sample_is_found(address: str, client: Client) -> None:
    assert client.get(address).status == 404
    assert client.post(address, {"discard": True}).status in (404, 405)


def test_a_label_is_added_to_the_history_with_who_and_when(client: Client, folder: Path) -> None:
    key = listed(client)[0]["key"]
    wanted = {"objects": [{"label": "dog", "box": [1, 2, 30.5, 40]}]}
    assert client.post(f"/samples/{key}?pipeline=porch", wanted).json["said"] == wanted
    assert client.post(f"/samples/{key}?pipeline=porch", wanted | {"discard": True}).status == 200
    lines = [json.loads(line) for line in (folder / NAME).read_text().splitlines()]
    assert [(line["by"], line.get("discard")) for line in lines] == [("ann", None), ("ann", True)]
    assert read_labels(folder)[lines[0]["id"]] == Label(None, (("dog", (1, 2, 30.5, 40)),), discard=True)
    assert len(client.get(f"/samples/{key}?pipeline=porch").json["history"]) == 2


def test_what_is_discarded_is_listed_only_where_it_is_asked_for(client: Client, folder: Path) -> None:
    first, second = listed(client)[:2]
    append_labels(folder, [(first["id"], Label(discard=True)), (second["id"], Label("cat"))], "ann", "now")
    assert first["id"] not in {row["id"] for row in listed(client)}
    assert [row["id"] for row in listed(client, "state=discarded")] == [first["id"]]
    assert [row["id"] for row in listed(client, "state=labelled")] == [second["id"]]
    assert second["id"] in {row["id"] for row in listed(client, "label=cat")}


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"label": NaN}',
        {"label": 1},
        {"label": " "},
        {"label": "a\nb"},
        {"label": "a" * 201},
        {"objects": [{"label": "a"}]},
        {"objects": [{"label": "a", "box": [1, 2, 3]}]},
        {"objects": [{"label": "a", "box": [5, 2, 3, 9]}]},
        {"objects": [{"label": "a", "box": [-1, 2, 3, 9]}]},
        {"objects": [{"label": "a", "box": [1, 2, 1e9, 9]}]},
        {"objects": [{"label": "a", "box": [1, 2, 3, 9]}] * 501},
    ],
)
def test_what_is_no_label_changes_nothing(document: object, client: Client, folder: Path) -> None:
    key = listed(client)[0]["key"]
    assert client.post(f"/samples/{key}?pipeline=porch", document).status == 400
    assert not (folder / NAME).exists()


def test_without_leave_to_change_a_label_is_refused(client: Client, folder: Path, tmp_path: Path) -> None:
    address = f"/samples/{listed(client)[0]['key']}?pipeline=porch"
    reader = Client(StillAgent(tmp_path / "agent.yaml"), edit=False)
    assert reader.post(address, {"label": "cat"}).status == 403
    for foreign in (
        {"HTTP_ORIGIN": "http://evil.example"},
        {"CONTENT_TYPE": "text/plain"},
        {"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "navigate"},
        {"HTTP_HOST": "evil.example"},
    ):
        assert client.post(address, {"label": "cat"}, **foreign).status == 403
    assert client.post(address, {"label": "cat"}, HTTP_AUTHORIZATION="").status == 401
    assert client.post(address, b" " * 70_000).status == 413
    assert not (folder / NAME).exists()


def test_readings_are_shown_as_a_curve_that_loses_no_peak(tmp_path: Path) -> None:
    values = np.zeros((5000, 2), np.float32)
    values[1234, 1] = 9
    facts = {"media": SERIES, "shape": [5000, 2], "channels": ["x", "y"], "rate": 100.0}
    document = {"id": "0" * 16, "captured_at": 1.0, "pipeline": "pump", "reasons": ["anomaly"], "input": facts}
    store = SampleStore(tmp_path / "samples" / "pump", Bounds(10_000_000))
    store.append([Entry(document, values.tobytes())])
    store.close()
    client = Client(StillAgent(write_config(tmp_path, pump={"keep": {"when": {"random": 0.1}}})))
    [row] = client.get("/samples.json").json["samples"]
    curve = client.get(f"/samples/{row['key']}?pipeline=pump").json["curve"]
    assert curve["channels"] == ["x", "y"]
    assert len(curve["high"][0]) == 300
    assert (max(curve["high"][1]), max(curve["high"][0])) == (9, 0)
    assert client.get(f"/samples/picture/{row['key']}?pipeline=pump").status == 404


def test_a_request_is_shown_with_its_answer(tmp_path: Path) -> None:
    request = b'{"prompt": "' + b"turn it on " * 100 + b'"}'
    about = {"id": f"{1:016x}", "captured_at": 1000.0, "pipeline": "chat", "reasons": ["finish_reason"]}
    result = {"task": "text", "text": "none", "finish_reason": "refused"}
    document = about | {"input": {"media": "application/json"}, "result": result}
    store = SampleStore(tmp_path / "samples" / "chat", Bounds(1_000_000))
    store.append([Entry(document, request)])
    store.close()
    keep = {"prompts": True, "when": {"finish_reason": ["refused"]}}
    client = Client(StillAgent(write_config(tmp_path, chat={"keep": keep})))
    [row] = client.get("/samples.json/chat").json["samples"]
    assert request.decode().startswith(row["text"])
    assert 0 < len(row["text"]) < len(request)
    one = client.get(f"/samples/{row['key']}?pipeline=chat").json
    assert (one["text"], one["answer"], one["predictions"]) == (request.decode(), "none", [])
    assert client.get(f"/samples/picture/{row['key']}?pipeline=chat").status == 404
