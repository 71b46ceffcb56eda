"""What is kept of models that take no pictures: readings, sound, and requests where that is allowed."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_agent import cli
from edge_agent.config import loader
from edge_agent.keeping.chosen import Chosen, chosen, request_of
from edge_agent.keeping.payload import JSON, SERIES, SOUND, TEXT, UNKNOWN, decode, media_of
from edge_agent.sample_store.segment import Walk
from edge_agent.samples import Series
from tests.broker import Message, Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration
from tests.language.model_files import Shape, write_model

pytest.importorskip("onnxruntime_genai", reason="needs the extra genai")
pytest.importorskip("pocketsphinx", reason="needs the extra speech")

CLIP = Path(__file__).parents[1] / "clips" / "turn_the_porch_light_on.wav"
USUAL, ODD = (20.0, 20.1, 19.9), 35.0
WRONG = b'{"prompt": "hello", "max_tokens": "many"}'


def mqtt(topic: str, **further: Any) -> dict[str, Any]:
    return {"type": "mqtt", "topic": topic, **further}


def config_of(broker: Mosquitto, folder: Path) -> dict[str, Any]:
    write_model(folder / "words", Shape(context=384))
    return configuration(
        broker,
        "farm",
        models={"words": {"path": "words", "language": {"context": 384}}},
        pipelines={
            "cellar": {
                "source": mqtt("cellar", fields={"temperature": "degC"}),
                "model": {"type": "statistics", "learn": 12},
                "keep": {"when": {"event": ["alarm"], "failed": True}},
            },
            "spoken": {
                "source": mqtt("spoken"),
                "model": {"type": "speech", "phrases": ["turn the porch light on"]},
                "keep": {"when": {"confidence": [0.5, 1]}},
            },
            "chat": {
                "source": mqtt("chat"),
                "model": "words",
                "text": {"options": {"max_tokens": 3}},
                "keep": {"when": {"finish_reason": ["length"], "failed": True}, "prompts": True},
            },
        },
    )


@pytest.fixture(scope="module")
def folder(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a daemon that has met something of each kind."""
    folder = tmp_path_factory.mktemp("farm")
    with Subscriber(broker.port, "edge/farm/#") as heard, Daemon(folder, config_of(broker, folder)):
        for number in range(30):
            heard.publish("cellar", json.dumps({"temperature": USUAL[number % 3]}))
        for _ in range(2):
            heard.publish("cellar", json.dumps({"temperature": ODD}))
        heard.publish("cellar", b"warm")
        heard.publish("spoken", CLIP.read_bytes())
        heard.publish("chat", b"hello")
        heard.publish("chat", WRONG)
        for topic in ("cellar/event", "cellar/error", "spoken/result", "chat/result", "chat/error"):
            heard.wait_for(partial(is_on, f"edge/farm/{topic}"), 1, 30)
    return folder


def is_on(topic: str, message: Message) -> bool:
    return message.topic == topic


def kept(folder: Path, pipeline: str) -> list[Chosen]:
    config = loader.load(folder / "agent.yaml")
    return list(chosen([config.kept_path("samples", pipeline)], Walk()))


def exported(folder: Path, pipeline: str, out: Path) -> list[dict[str, Any]]:
    store = loader.load(folder / "agent.yaml").kept_path("samples", pipeline)
    assert cli.main(["samples", "export", str(store), "-o", str(out), "--format", "jsonl"]) == 0
    return [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


def test_the_reading_that_raised_an_alarm_is_kept_with_what_was_expected(folder: Path, tmp_path: Path) -> None:
    [one] = kept(folder, "cellar")
    entry = one.read()
    series = decode(entry.data, entry.document["input"])
    assert isinstance(series, Series)
    assert (series.values.tolist(), series.channels) == ([[ODD]], ("temperature",))
    [prediction] = one.predictions
    assert prediction["reading"] == ODD
    assert prediction["expected"][0] < USUAL[0] < prediction["expected"][1] < ODD
    assert (one.label, one.stored.reasons) == ("anomaly", ["event"])
    assert one.entry["settings"]["pipeline"]["model"]["learn"] == 12
    [row] = exported(folder, "cellar", tmp_path / "out")
    assert (row["values"], row["channels"], row["label"]) == ([[ODD]], ["temperature"], "anomaly")


def test_sound_is_kept_as_it_came_with_what_was_heard(folder: Path, tmp_path: Path) -> None:
    [one] = kept(folder, "spoken")
    assert one.read().data == CLIP.read_bytes()
    assert (one.label, one.media, one.stored.reasons) == ("turn the porch light on", SOUND, ["confidence"])
    [row] = exported(folder, "spoken", tmp_path / "out")
    assert (tmp_path / "out" / row["file"]).read_bytes() == CLIP.read_bytes()
    assert row["file"].endswith(".wav")


def test_requests_are_kept_with_their_answers_or_with_what_was_wrong(folder: Path, tmp_path: Path) -> None:
    failed, answered = sorted(kept(folder, "chat"), key=lambda one: list(one.stored.reasons))
    assert (answered.read().data, answered.stored.reasons) == (b"hello", ["finish_reason"])
    assert answered.result["tokens"]["output"] == 3
    assert len(answered.entry["model"]["sha256"]) == 64
    assert (failed.read().data, failed.stored.reasons) == (WRONG, ["failed"])
    first, second = sorted(exported(folder, "chat", tmp_path / "out"), key=lambda row: "error" in row)
    assert first["request"] == {"prompt": "hello"}
    assert (first["text"], first["finish_reason"]) == (answered.result["text"], "length")
    assert second["request"] == json.loads(WRONG)
    assert "max_tokens" in second["error"]
    assert "text" not in second


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"hello", TEXT),
        ("größer\n".encode(), TEXT),
        (b' {"prompt": 1}', JSON),
        (b"[1, 2]", JSON),
        (b"\0\0\x80?", UNKNOWN),
        (b"\xff\xfe", UNKNOWN),
        (b"", UNKNOWN),
        (CLIP.read_bytes(), SOUND),
    ],
)
def test_bytes_are_known_by_what_they_hold(data: bytes, kind: str) -> None:
    assert media_of(data) == kind
    assert kind != SERIES


@pytest.mark.parametrize("data", [b"turn it on", b"[1]", b'{"prompt": ', b"7"])
def test_a_message_that_is_no_object_is_a_prompt(data: bytes) -> None:
    assert request_of(data) == {"prompt": data.decode()}
