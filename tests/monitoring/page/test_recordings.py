"""The recording of a moment on the page."""

import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.keeping.payload import Encoder, encode
from edge_agent.keeping.recording_export import write_wav
from edge_agent.monitoring.page import recorded
from edge_agent.publish.drawing import encode_jpeg
from edge_agent.sample_store.segment import Appender, Entry
from edge_agent.samples import Series
from edge_agent.settings.series import Window
from tests.images import decode_image
from tests.monitoring.page.kit import Client, StillAgent, write_config

GREY = np.full((300, 400, 3), 90, np.uint8)
PICTURE = encode_jpeg(GREY, 10_000)
AT = 1_796_000_000.0  # 2026-11-30T00:53:20Z
NAME = "00000001-20261130T005320Z-event.recording"
PERSON = {"label": "person", "confidence": 0.9, "box": [100, 50, 200, 250]}


def an_input(data: Any, at: float, *predictions: dict[str, Any]) -> Entry:
    """An input as the recorder writes it."""
    encoded, facts = encode(data, Encoder("jpeg", 95))
    times: dict[str, Any] = {"captured": at - AT + 1, "captured_at": at, "played": None, "origin": {}}
    return Entry({**times, "input": facts, "result": {"predictions": list(predictions)}}, encoded)


def recorded_client(folder: Path, entries: Sequence[Entry], **head: Any) -> Client:
    """A page of a pipeline that has one recording, and of one that does not record."""
    path = folder / "recordings" / "yard"
    path.mkdir(parents=True)
    first = Entry({"recording": {"pipeline": "yard", "reason": "event", **head}}, b"")
    Appender(path / NAME).append(entry.encoded() for entry in (first, *entries, Entry({"end": {}}, b"")))
    return Client(StillAgent(write_config(folder, yard={"record": {"when": ["event"]}}, lab={})))


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return recorded_client(tmp_path, [an_input(PICTURE, AT - 5 + number, PERSON) for number in range(10)])


def test_a_moment_leads_to_its_recording_and_each_of_its_pictures_with_what_was_found(client: Client) -> None:
    found = client.get(f"/recordings/yard?at={AT}").json
    assert (found["name"], found["reason"], len(found["frames"])) == (NAME, "event", 10)
    assert (found["sound"], found["curve"], found["results"][0]) == (False, None, [AT - 5, "person", 0.9])
    offset, moment = found["frames"][3]
    assert moment == AT - 2
    picture = decode_image(client.get(f"/recordings/frame/{NAME}?pipeline=yard&at={offset}").body)
    assert picture.shape == GREY.shape
    left, inside = picture[150, 97:104].astype(int), picture[150, 140:160].astype(int)
    assert np.abs(left - 90).max() > 40  # the edge of the box
    assert np.abs(inside - 90).max() < 20


def test_packets_of_a_stream_do_not_count_as_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MOST_INPUTS", 3)
    entries = [entry for number in range(5) for entry in (Entry({"packet": {}}, b"x"), an_input(PICTURE, AT + number))]
    client = recorded_client(tmp_path, entries)
    assert len(client.get(f"/recordings/yard?at={AT}").json["frames"]) == 3


def heard(client: Client) -> "np.ndarray[Any, Any]":
    reply = client.get(f"/recordings/sound/{NAME}?pipeline=yard")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "audio/wav")
    with wave.open(io.BytesIO(reply.body)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767


def ramp(begin: int, count: int) -> "np.ndarray[Any, Any]":
    """Samples that say which they are."""
    return (np.arange(begin, begin + count, dtype=np.float32) / 100_000).reshape(-1, 1)


def test_sound_is_heard_with_silence_where_some_is_missing_and_drawn_as_a_curve(tmp_path: Path) -> None:
    parts = [(8000 * number, AT + number + 1) for number in (0, 1, 4)]
    client = recorded_client(tmp_path, [an_input(Series(ramp(first, 8000), (), 8000.0), at) for first, at in parts])
    samples = heard(client)
    expected = ramp(0, 40_000)[:, 0] * np.repeat([1, 1, 0, 0, 1], 8000)
    assert np.abs(samples - expected).max() < 1e-4
    found = client.get(f"/recordings/yard?at={AT + 2}").json
    assert (found["sound"], found["begins"], found["ends"]) == (True, AT, AT + 5)
    [low], [high] = found["curve"]["low"], found["curve"]["high"]
    assert low[0] == 0
    assert high[-1] == pytest.approx(0.4, abs=0.001)
    assert low[300] is None


def test_windows_that_overlap_are_heard_once(tmp_path: Path) -> None:
    windows = [Series(ramp(4000 * number, 8000), (), 8000.0) for number in range(5)]
    entries = [an_input(one, AT + 1 + number / 2) for number, one in enumerate(windows)]
    options = {"window": Window(hop="500ms").model_dump(mode="json")}
    samples = heard(recorded_client(tmp_path, entries, options=options))
    assert np.abs(samples - ramp(0, 24_000)[:, 0]).max() < 1e-4


def test_messages_of_sound_and_of_numbers_are_shown_too(tmp_path: Path) -> None:
    message = io.BytesIO()
    write_wav(message, 8000, [ramp(0, 8000)])
    sound = recorded_client(tmp_path / "sound", [an_input(message.getvalue(), AT)])
    assert len(heard(sound)) == 8000
    rows = b'{"values": [[1, 10], [2, 20], [3, 30]]}'
    numbers = recorded_client(tmp_path / "numbers", [an_input(rows, AT + number) for number in range(3)])
    curve = numbers.get(f"/recordings/yard?at={AT}").json["curve"]
    assert len(curve["channels"]) == 2
    assert (curve["low"][1][0], curve["high"][1][0]) == (10, 30)
    assert numbers.get(f"/recordings/sound/{NAME}?pipeline=yard").status == 404


def test_readings_that_come_one_by_one_make_a_curve_without_holes(tmp_path: Path) -> None:
    client = recorded_client(tmp_path, [an_input(str(number).encode(), AT + number) for number in range(60)])
    [low] = client.get(f"/recordings/yard?at={AT}").json["curve"]["low"]
    assert len(low) == 30
    assert None not in low
    assert low == sorted(low)


def test_the_sound_of_a_long_recording_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MOST_SAMPLES", 16_000)
    monkeypatch.setattr(recorded, "MOST_INPUTS", 100)
    parts = [an_input(Series(ramp(0, 8000), (), 8000.0), AT + 3600 * number) for number in range(200)]
    client = recorded_client(tmp_path, parts)
    assert len(heard(client)) <= 3 * 16_000
    assert len(client.get(f"/recordings/yard?at={AT}").json["results"]) <= 100


@pytest.mark.parametrize(
    "address",
    [
        f"/recordings/yard?at={AT + 60}",
        "/recordings/yard?at=nan",
        f"/recordings/lab?at={AT}",
        f"/recordings/nobody?at={AT}",
        f"/recordings/frame/{NAME}?pipeline=yard&at=17",
        f"/recordings/frame/{NAME}?pipeline=yard&at=-1",
        f"/recordings/frame/{NAME}?pipeline=lab&at=16",
        "/recordings/frame/..%2f..%2fagent.yaml?pipeline=yard&at=16",
        "/recordings/frame/agent.yaml?pipeline=yard&at=16",
        f"/recordings/sound/{NAME}?pipeline=yard",
        f"/recordings/sound/{NAME}?pipeline=lab",
        "/recordings/sound/..%2f..%2fagent.yaml?pipeline=yard",
    ],
)
def test_nothing_else_is_found(address: str, client: Client) -> None:
    assert client.get(address).status == 404
