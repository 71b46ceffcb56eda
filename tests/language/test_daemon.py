"""Requests to a language model over a real broker; the models are random ones, made by the test."""

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.counters import imbalance
from edge_agent.models.shipped import shipped
from tests.broker import PATIENCE, Message, Mosquitto, Subscriber, free_port, wait_until
from tests.daemon_process import Daemon, configuration
from tests.language.model_files import Shape, write_model
from tests.processes import alive

DEVICE = "desk"
PAGE = f"127.0.0.1:{free_port()}"
DIGITS = shipped("digits")
IMAGE = (DIGITS / "golden" / "5_printed.png").read_bytes()
SYSTEM = "You are a lamp. " * 30
# The time for N tokens grows with N squared: this takes half a minute, and no test waits for its end.
ENDLESS = {"prompt": "say something", "max_tokens": 16_000, "stream": True}


def on(topic: str) -> str:
    return f"edge/{DEVICE}/{topic}"


def config_of(broker: Mosquitto, folder: Path) -> dict[str, Any]:
    write_model(folder / "short", Shape(context=384))
    write_model(folder / "long", Shape(context=16_384))
    return configuration(
        broker,
        DEVICE,
        models={
            "digits": {"path": str(DIGITS)},
            "short": {"path": "short", "language": {"context": 384}},
            "long": {"path": "long", "language": {"context": 16_384, "parallel": 2}},
        },
        pipelines={
            "chat": {
                "source": {"type": "mqtt", "topic": "chat/+"},
                "model": "short",
                "text": {"system": SYSTEM, "options": {"max_tokens": 8}},
            },
            "lab": {"source": {"type": "mqtt", "topic": "lab"}, "model": "digits"},
            "say": {
                "source": {"type": "pipeline", "name": "lab"},
                "model": "short",
                "text": {"prompt": "Say that you see {predictions}.", "options": {"max_tokens": 4}},
            },
            "talk": {"source": {"type": "mqtt", "topic": "talk"}, "model": "long", "text": {"queue": 2}},
        },
        http={"listen": PAGE},
    )


@pytest.fixture(scope="module")
def listener(broker: Mosquitto) -> Iterator[Subscriber]:
    """Hears everything that the daemon says; in the end, all counters that it published have balanced."""
    with Subscriber(broker.port, on("#"), "answers/#") as client:
        yield client
        documents = [json.loads(message.payload) for message in client.messages if message.topic == on("stats")]
    assert documents
    assert {imbalance(counts) for stats in documents for counts in stats["pipelines"].values()} == {""}


@pytest.fixture(scope="module")
def daemon(broker: Mosquitto, listener: Subscriber, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("daemon")
    with Daemon(folder, config_of(broker, folder)) as running:
        yield running


class Talk:
    """Asks, and hears what is said from then on."""

    def __init__(self, listener: Subscriber) -> None:
        self._listener = listener
        self._before = len(listener.messages)

    def ask(self, request: dict[str, Any] | str | bytes, topic: str = "chat/1", **options: Any) -> None:
        payload = json.dumps(request) if isinstance(request, dict) else request
        self._listener.publish(topic, payload, **options)

    def answer(self, request: dict[str, Any] | str) -> dict[str, Any]:
        """What the pipeline `chat` answers."""
        before = len(self._results("chat"))
        self.ask(request)
        return self.documents("chat/result", before + 1)[before]

    def messages(self, topic: str, count: int = 1) -> list[Message]:
        self._listener.wait_for(lambda message: message in self._said(topic), count, 30.0)
        return self._said(topic)

    def wait_until(self, topic: str, fits: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Waits until the documents on a topic are as they are to be."""
        wait_until(lambda: fits([json.loads(message.payload) for message in self._said(topic)]), 30, topic)

    def documents(self, topic: str, count: int = 1) -> list[dict[str, Any]]:
        return [json.loads(message.payload) for message in self.messages(on(topic), count)]

    def _results(self, pipeline: str) -> list[Message]:
        return self._said(on(f"{pipeline}/result"))

    def _said(self, topic: str) -> list[Message]:
        return [message for message in self._listener.messages[self._before :] if message.topic == topic]


@pytest.fixture
def talk(listener: Subscriber, daemon: Daemon) -> Talk:
    return Talk(listener)


def test_plain_text_is_answered_with_a_result_document(talk: Talk) -> None:
    talk.ask("turn the light on")
    [result] = talk.documents("chat/result")
    assert (result["task"], result["finish_reason"]) == ("text", "length")
    assert result["text"]
    assert result["tokens"]["output"] == 8
    assert result["model"]["name"] == "short"
    assert result["input"]["topic"] == "chat/1"
    assert "predictions" not in result


def test_pieces_come_in_order_before_the_whole_answer(talk: Talk) -> None:
    talk.ask({"prompt": "hello", "stream": True, "id": "s1"})
    [result] = talk.documents("chat/result")
    pieces = talk.documents("chat/result/stream")
    assert "".join(piece["text"] for piece in pieces) == result["text"]
    assert [piece["index"] for piece in pieces] == list(range(len(pieces)))
    assert {piece["id"] for piece in pieces} == {"s1"} == {result["input"]["id"]}


def test_pieces_results_and_errors_go_to_the_response_topic(talk: Talk) -> None:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one untyped
    properties.ResponseTopic, properties.CorrelationData = "answers/me", b"42"
    talk.ask({"prompt": "hello", "stream": True}, properties=properties)
    talk.documents("chat/result")
    talk.ask({"prompt": "hello", "colour": "red"}, properties=properties)
    [error] = talk.documents("chat/error")
    wait_until(lambda: b"error" in talk.messages("answers/me")[-1].payload, 20, "the error reaches the response topic")
    messages = talk.messages("answers/me")
    *pieces, result, last = [json.loads(message.payload) for message in messages]
    assert last == error
    assert "".join(piece["text"] for piece in pieces) == result["text"]
    assert pieces
    assert {vars(message.properties)["CorrelationData"] for message in messages} == {b"42"}
    assert not talk._said(on("chat/result/stream"))


def test_an_answer_ends_before_a_stop_text(talk: Talk) -> None:
    whole = talk.answer({"prompt": "go on", "max_tokens": 30})
    stop = whole["text"][10:14]
    cut = talk.answer({"prompt": "go on", "max_tokens": 30, "stop": [stop]})
    assert cut["text"] == whole["text"].split(stop)[0]
    assert cut["finish_reason"] == "stop"


def test_the_same_seed_gives_the_same_answer_whatever_was_asked_before(talk: Talk) -> None:
    request = {"prompt": "a story", "temperature": 1.5, "seed": 7}
    first = talk.answer(request)
    talk.answer("something else")
    second = talk.answer(request)
    other = talk.answer(request | {"seed": 8})
    assert second["text"] == first["text"] != other["text"]
    assert second["tokens"]["cached"] > 0


def test_the_system_prompt_is_read_once(talk: Talk) -> None:
    talk.answer("one")
    tokens = talk.answer("another one")["tokens"]
    assert tokens["prompt"] > 64
    assert tokens["cached"] > tokens["prompt"] - 30


def test_a_conversation_goes_on_from_the_cache(talk: Talk) -> None:
    turns = [{"role": "system", "content": "Short."}, {"role": "user", "content": "hello " * 20}]
    first = talk.answer({"messages": turns})
    turns += [{"role": "assistant", "content": first["text"]}, {"role": "user", "content": "and now"}]
    assert talk.answer({"messages": turns})["tokens"]["cached"] >= first["tokens"]["prompt"]


def test_a_constrained_answer_is_what_was_asked_for(talk: Talk) -> None:
    choice = talk.answer({"prompt": "on or off", "choices": ["on", "off"]})
    assert choice["text"] in ("on", "off")
    schema = {
        "type": "object",
        "properties": {"room": {"enum": ["hall", "porch"]}, "level": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["room", "level"],
        "additionalProperties": False,
    }
    for seed in range(5):
        request = {"prompt": "light", "json_schema": schema, "temperature": 2, "seed": seed, "max_tokens": 60}
        answer = talk.answer(request)
        assert answer["finish_reason"] == "stop"
        found = json.loads(answer["text"])
        assert found["room"] in ("hall", "porch")
        assert 0 <= found["level"] <= 9


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (b"\xff\xfe", "not text in UTF-8"),
        (b"", "prompt: must not be empty"),
        (b'{"prompt": ', "not valid JSON"),
        (b'{"prompt": "x", "max_token": 5}', "max_token: unknown key; did you mean 'max_tokens'?"),
        (b'{"prompt": "x", "temperature": 9}', "temperature: must be <= 2 (got 9)"),
        (b'{"messages": [{"role": "lamp", "content": "x"}]}', "messages.0.role: must be system, user or assistant"),
        (b"hello " * 400, "the context holds 384 with the answer"),
        (b'{"prompt": "x", "json_schema": {"type": "integer", "minimum": 3, "maximum": 1}}', "minimum (3) is greater"),
        (b'{"prompt": "x", "json_schema": {"type": "string", "minLength": 50}}', "raise max_tokens"),
        (b'{"prompt": "x", "json_schema": {"$ref": "#"}}', "there is nothing that it allows"),
        (b'{"prompt": "x", "json_schema": ' + b'{"not":' * 200 + b"{}" + b"}" * 200 + b"}", "more than 64 deep"),
    ],
)
def test_what_cannot_be_answered_is_told_in_a_sentence(talk: Talk, request_: bytes, sentence: str) -> None:
    talk.ask(request_)
    [error] = talk.documents("chat/error")
    assert sentence in error["error"]
    assert "\n" not in error["error"]
    assert talk.answer("still there?")["text"]


def test_what_another_pipeline_finds_becomes_a_sentence_now_and_then(talk: Talk) -> None:
    talk.ask(IMAGE, "lab")
    talk.ask(IMAGE, "lab")
    talk.documents("lab/result", 2)
    [result] = talk.documents("say/result")
    assert result["task"] == "text"
    assert result["text"]
    parent = result["input"]["parent"]
    assert (parent["pipeline"], parent["predictions"][0]["label"]) == ("lab", "5")


def test_an_answer_ends_at_its_deadline(talk: Talk) -> None:
    talk.ask(ENDLESS | {"deadline": "1s", "stream": False}, "talk")
    [result] = talk.documents("talk/result")
    assert result["finish_reason"] == "deadline"
    assert 0 < result["tokens"]["output"] < 16_000


def two_at_once(talk: Talk) -> None:
    """Two answers without an end, `a` and `z`, are in progress at the same time."""
    for name in ("a", "z"):
        talk.ask(ENDLESS | {"id": name}, "talk")
    talk.wait_until(on("talk/result/stream"), lambda pieces: {piece["id"] for piece in pieces} == {"a", "z"})


def test_requests_at_hand_and_waiting_can_be_cancelled_and_one_too_many_is_refused(talk: Talk) -> None:
    two_at_once(talk)
    for name in ("b", "c", "d"):
        talk.ask(ENDLESS | {"id": name}, "talk")
    [error] = talk.documents("talk/error")
    assert "2 requests are waiting already" in error["error"]
    for name in ("c", "b", "z", "a"):
        talk.ask(name, on("talk/cancel"))
    results = {result["input"]["id"]: result for result in talk.documents("talk/result", 4)}
    assert {name: result["finish_reason"] for name, result in results.items()} == dict.fromkeys("azbc", "cancelled")
    assert results["a"]["text"]
    assert results["z"]["text"]


def test_a_short_answer_comes_before_a_long_one_that_was_asked_for_earlier(talk: Talk) -> None:
    talk.ask(ENDLESS | {"id": "long"}, "talk")
    talk.messages(on("talk/result/stream"))
    talk.ask({"prompt": "hello", "id": "short", "max_tokens": 3}, "talk")
    [first] = talk.documents("talk/result")
    assert (first["input"]["id"], first["tokens"]["output"]) == ("short", 3)
    talk.ask("long", on("talk/cancel"))
    _, second = talk.documents("talk/result", 2)
    assert (second["input"]["id"], second["seq"]) == ("long", first["seq"] + 1)


def test_who_looks_at_the_page_sees_each_token_though_no_stream_was_requested(talk: Talk) -> None:
    shown: dict[str, Any] = {}

    def look() -> dict[str, Any]:
        address = f"http://{PAGE}/conversation/talk?after={shown.get('version', 0)}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            shown.update(json.load(answer))
        found: list[dict[str, Any]] = [one for one in shown["exchanges"] if one["id"] == "seen"]
        return found[0] if found else {}

    look()
    talk.ask(ENDLESS | {"id": "seen", "stream": False}, "talk")
    first = wait_until(look, 30, "the question is shown")
    assert (first["question"], first["finish_reason"]) == ("say something", "")
    wait_until(lambda: len(look().get("text", "")) > len(first["text"]), 30, "more is shown")
    talk.ask("seen", on("talk/cancel"))
    talk.documents("talk/result")
    assert talk._said(on("talk/result/stream")) == []
    assert wait_until(look, 30, "its end")["finish_reason"] == "cancelled"
    assert look() == {}


def test_a_request_of_qos_0_too_many_is_refused_to_whoever_has_sent_it(talk: Talk) -> None:
    two_at_once(talk)
    for number in range(400):
        talk.ask(ENDLESS | {"id": f"q{number}"}, "talk", qos=0)
    errors = talk.documents("talk/error", 398)
    assert all("2 requests are waiting already" in error["error"] for error in errors)
    for name in ("q1", "q0", "z", "a"):
        talk.ask(name, on("talk/cancel"))
    assert len(talk.documents("talk/result", 4)) == 4


def test_a_request_that_comes_after_a_cancellation_of_its_name_is_answered(talk: Talk) -> None:
    talk.ask("later", on("chat/cancel"))
    assert talk.answer({"prompt": "x", "id": "later"})["finish_reason"] == "length"


def test_when_the_runtime_crashes_the_request_fails_and_the_next_one_is_answered(talk: Talk, daemon: Daemon) -> None:
    talk.ask(ENDLESS, "talk")
    talk.messages(on("talk/result/stream"))
    models = list(map(int, Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()))
    for model in models:
        os.kill(model, signal.SIGSEGV)
    # On a busy machine the other model, which nobody has asked, may live on for a moment and take a request along.
    wait_until(lambda: not any(map(alive, models)), 20, "the models' processes have ended")
    [error] = talk.documents("talk/error")
    assert "the process of the model has ended (SIGSEGV)" in error["error"]
    assert talk.answer("still there?")["text"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_request_that_was_cut_short_is_answered_after_the_restart(
    mosquitto: Mosquitto, tmp_path: Path, number: signal.Signals
) -> None:
    config = config_of(mosquitto, tmp_path)
    config["pipelines"] = {"talk": config["pipelines"]["talk"]}
    del config["http"]
    daemon = Daemon(tmp_path, config)
    with Subscriber(mosquitto.port, on("#")) as client:
        with daemon:
            client.publish("talk", json.dumps(ENDLESS | {"id": "mine", "deadline": "3s"}))
            client.wait_for(lambda message: message.topic == on("talk/result/stream"))
            [worker, *_] = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
            daemon.signal(number)
            assert daemon.wait().seconds < 5 * PATIENCE
        wait_until(lambda: not Path(f"/proc/{worker}").exists(), 10, "the model's process ends with the daemon")
        assert not [message for message in client.messages if message.topic == on("talk/result")]
        with daemon:
            [message] = client.wait_for(lambda message: message.topic == on("talk/result"), timeout=30)
    result = json.loads(message.payload)
    assert result["input"] == {"topic": "talk", "redelivered": True, "id": "mine"}
    assert result["finish_reason"] == "deadline"


def test_a_public_layout_of_a_model_loads_and_generates(mosquitto: Mosquitto, tmp_path: Path, data_dir: Path) -> None:
    config = configuration(
        mosquitto,
        DEVICE,
        models={"gpt2": {"path": str(data_dir / "lm" / "tiny-random-gpt2-fp32")}},
        pipelines={"text": {"source": {"type": "mqtt", "topic": "text"}, "model": "gpt2"}},
    )
    with Daemon(tmp_path, config), Subscriber(mosquitto.port, on("#")) as client:
        client.publish("text", json.dumps({"prompt": "a b c", "max_tokens": 5}))
        [message] = client.wait_for(lambda message: message.topic == on("text/result"))
        assert json.loads(message.payload)["tokens"].items() >= {"prompt": 3, "cached": 0, "output": 5}.items()
        client.publish("text", json.dumps({"messages": [{"role": "user", "content": "a"}]}))
        client.publish("text", "Schadenfreude")
        messages = client.wait_for(lambda message: message.topic == on("text/error"), 2)
    errors = {json.loads(message.payload)["error"] for message in messages}  # answered side by side
    for reason in ("no template for conversations", "a word that the tokenizer knows and the model does not"):
        assert len([error for error in errors if reason in error]) == 1
