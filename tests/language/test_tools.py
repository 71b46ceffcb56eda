"""Functions that a language model may call: of the configuration, which become messages, and of requests."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from pydantic import ValidationError

from edge_agent.language.request import read_request
from edge_agent.publish.tool_calls import ToolCalls
from edge_agent.settings.text import Generation
from edge_agent.settings.tools import Tool
from tests.broker import Mosquitto, Subscriber, free_port
from tests.daemon_process import PROJECT, Daemon, configuration
from tests.language.model_files import Shape, write_model

pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
SCHEMA = (PROJECT / "models/intents/schema.json").read_text()
LIGHT: dict[str, Any] = {
    "description": "Switches a light.",
    "parameters": {"device": ["light"], "place": ["porch", "hall"]},
    "mqtt": {"topic": "home/{place}/{device}/set", "payload": "off", "confirm": "home/{place}/{device}"},
}
HEATER: dict[str, Any] = {
    "parameters": {"room": ["living room"], "to": {"minimum": 15, "maximum": 15}},
    "mqtt": {"topic": "heating/{room}", "payload": '{"set": {to}}'},
}


class TestCalls:
    @pytest.fixture
    def sent(self) -> list[tuple[str, str]]:
        return []

    @pytest.fixture
    def calls(self, sent: list[tuple[str, str]]) -> ToolCalls:
        tools = {"turn_off": Tool.model_validate(LIGHT), "heat": Tool.model_validate(HEATER)}

        def send(topic: str, payload: str, retain: bool) -> None:
            assert not retain
            sent.append((topic, payload))
            if topic == "home/porch/light/set":
                calls.hear("home/porch/light", payload.encode())

        calls = ToolCalls("home", tools, send)
        return calls

    def test_a_call_becomes_a_message_and_is_confirmed_by_the_device(
        self, calls: ToolCalls, sent: list[tuple[str, str]]
    ) -> None:
        said = calls.call({"name": "turn_off", "arguments": {"device": "light", "place": "porch"}})
        assert said is not None
        assert said["outcome"] == "confirmed"
        assert sent == [("home/porch/light/set", "off")]
        assert calls.topics == {"home/porch/light", "home/hall/light"}

    def test_of_a_list_each_intent_is_a_call(self, calls: ToolCalls, sent: list[tuple[str, str]]) -> None:
        off = {"intent": "turn_off", "device": "light", "place": "porch"}
        said = calls.carry_out([off, {"intent": "none", "reason": "negation"}, {"intent": "fly"}])
        assert [(call["name"], call["outcome"]) for call in said["calls"]] == [
            ("turn_off", "confirmed"),
            ("fly", "not listed"),
        ]
        assert len(sent) == 1

    def test_of_a_long_list_no_more_than_eight_calls_are_made(
        self, calls: ToolCalls, sent: list[tuple[str, str]]
    ) -> None:
        said = calls.carry_out([{"intent": "heat", "room": "living room", "to": 15}] * 10)
        assert [call["outcome"] for call in said["calls"]] == ["sent"] * 8 + ["not listed"] * 2
        assert len(sent) == 8

    def test_what_is_no_call_says_nothing(self, calls: ToolCalls) -> None:
        assert calls.carry_out({"text": "hello"}) == {}
        assert calls.carry_out([]) == {"calls": []}

    def test_a_call_without_a_confirmation_is_sent(self, calls: ToolCalls, sent: list[tuple[str, str]]) -> None:
        said = calls.call({"intent": "heat", "room": "living room", "to": 15})
        assert said is not None
        assert said["outcome"] == "sent"
        assert sent == [("heating/living_room", '{"set": 15}')]

    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            ({"name": "unlock", "arguments": {}}, "there is no tool 'unlock'"),
            ({"intent": "turn_off", "device": "light"}, "place: missing"),
            ({"intent": "turn_off", "device": "light", "place": "porch", "time": "22:00"}, "time: not a parameter"),
            ({"intent": "turn_off", "device": "light", "place": "#"}, "place: not one of the values"),
            ({"intent": "heat", "room": "living room", "to": 150}, "to: not one of the values"),
            ({"intent": "heat", "room": "living room", "to": True}, "to: not one of the values"),
            ({"intent": "heat", "room": ["living room"], "to": 15}, "room: not one of the values"),
        ],
    )
    def test_what_is_not_listed_is_not_done(
        self, calls: ToolCalls, sent: list[tuple[str, str]], document: dict[str, Any], reason: str
    ) -> None:
        said = calls.call(document)
        assert said is not None
        assert said["outcome"] == "not listed"
        assert reason in said["reason"]
        assert sent == []

    @pytest.mark.parametrize("document", ["off", [1], {}, {"name": "turn_off"}, {"intent": 3}])
    def test_what_is_no_call_leads_to_nothing(
        self, calls: ToolCalls, sent: list[tuple[str, str]], document: object
    ) -> None:
        assert calls.call(document) is None
        assert sent == []


@pytest.mark.parametrize(
    ("mqtt", "sentence"),
    [
        ({"topic": "heating/{to}"}, "{to} in a topic must be a parameter with a list of values"),
        ({"topic": "heating/{other}"}, "{other} in a topic must be"),
        ({"topic": "heating/#"}, "wildcards"),
        ({"topic": "heating", "payload": "{other}"}, "there is no parameter 'other'"),
        ({"topic": "heating", "confirm": "{to}"}, "{to} in a topic must be"),
    ],
)
def test_topics_that_are_not_stated_are_refused(mqtt: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as error:
        Tool.model_validate(HEATER | {"mqtt": mqtt})
    assert sentence in str(error.value)


def test_functions_are_described_once_where_the_model_takes_them() -> None:
    request = read_request(b'{"prompt": "hello", "tools": [{"name": "lamp"}]}', Generation())
    system, user = request.job("Be kind.", 0.0).messages
    assert (system["role"], user["content"]) == ("system", "hello")
    assert system["content"].startswith("Be kind.\n\nYou can call these functions")
    assert '"name": "lamp"' in system["content"]
    [only] = request.job("", 0.0, takes_system=False).messages
    assert only["role"] == "user"
    assert only["content"].endswith("\n\nhello")


class Talk:
    def __init__(self, subscriber: Subscriber, client: OpenAI) -> None:
        self.client = client
        self.subscriber = subscriber

    def ask(self, request: str | dict[str, Any], pipeline: str) -> dict[str, Any]:
        before = len(self.subscriber.messages)
        self.subscriber.publish(f"ask/{pipeline}", request if isinstance(request, str) else json.dumps(request))
        topics = [f"edge/tools/{pipeline}/{kind}" for kind in ("result", "error")]
        self.subscriber.wait_for(
            lambda message: message in self.subscriber.messages[before:] and message.topic in topics, timeout=30
        )
        [message] = [one for one in self.subscriber.messages[before:] if one.topic in topics]
        document: dict[str, Any] = json.loads(message.payload)
        return document


class Relay(Subscriber):
    """A stand-in for a relay: does what it is sent, and says its state."""

    def _received(self, *arguments: Any) -> None:
        super()._received(*arguments)
        message = arguments[-1]
        self.client.publish(message.topic.removesuffix("/set"), message.payload)


@pytest.fixture(scope="module")
def talk(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    folder, port = tmp_path_factory.mktemp("daemon"), free_port()
    write_model(folder / "words", Shape(context=512))
    config = configuration(
        broker,
        "tools",
        models={
            "intents": {"path": "intents", "language": {"context": 256}},
            "words": {"path": "words", "language": {"context": 512}},
        },
        pipelines={
            "home": {
                "source": {"type": "mqtt", "topic": "ask/home"},
                "model": "intents",
                "text": {"openai": True, "tools": {"turn_off": LIGHT}, "options": {"json_schema": SCHEMA}},
            },
            "heat": {
                "source": {"type": "mqtt", "topic": "ask/heat"},
                "model": "words",
                "text": {"openai": True, "tools": {"heat": HEATER}, "options": {"max_tokens": 60}},
            },
        },
        http={"listen": f"127.0.0.1:{port}"},
    )
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=30)
    with Daemon(folder, config), Subscriber(broker.port, "edge/tools/#", "heating/#") as subscriber, client:
        yield Talk(subscriber, client)


def test_turn_the_porch_light_off_ends_at_the_relay_and_is_confirmed(talk: Talk, broker: Mosquitto) -> None:
    with Relay(broker.port, "home/+/light/set") as relay:
        result = talk.ask("turn the porch light off", "home")
        assert [(one.topic, one.payload) for one in relay.messages] == [("home/porch/light/set", b"off")]
    assert result["json"] == {"intent": "turn_off", "device": "light", "place": "porch"}
    assert (result["call"]["topic"], result["call"]["outcome"]) == ("home/porch/light/set", "confirmed")


def test_a_command_that_is_not_listed_reaches_nobody(talk: Talk, broker: Mosquitto) -> None:
    with Subscriber(broker.port, "home/#") as listener:
        result = talk.ask("turn the kitchen light off", "home")
        listener.publish("home/end", "")
        listener.wait_for(lambda message: message.topic == "home/end")
        assert [message.topic for message in listener.messages] == ["home/end"]
    assert (result["call"]["outcome"], result["call"]["reason"]) == (
        "not listed",
        "place: not one of the values that it may have",
    )


def test_a_call_by_constraint_is_valid_and_becomes_a_message(talk: Talk) -> None:
    result = talk.ask({"prompt": "warm, please", "tool_choice": "required"}, "heat")
    call = {"name": "heat", "arguments": {"room": "living room", "to": 15}}
    assert result["tool_calls"] == [call]
    assert result["call"] == call | {"topic": "heating/living_room", "payload": '{"set": 15}', "outcome": "sent"}
    talk.subscriber.wait_for(lambda message: message.topic == "heating/living_room")


def test_without_functions_or_with_others_nothing_of_the_configuration_is_called(talk: Talk) -> None:
    assert "call" not in talk.ask({"prompt": "hello", "tool_choice": "none", "max_tokens": 4}, "heat")
    own = {"prompt": "hello", "tools": [{"name": "heat", "parameters": {"const": {}}}], "tool_choice": "required"}
    result = talk.ask(own, "heat")
    assert result["tool_calls"] == [{"name": "heat", "arguments": {}}]
    assert "call" not in result


FUNCTION: Any = {
    "type": "function",
    "function": {"name": "light", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
}


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_over_http_gets_the_call_and_sends_back_its_result(talk: Talk, stream: bool) -> None:
    hello: list[Any] = [{"role": "user", "content": "light, please"}]
    options: Any = {"model": "heat", "tools": [FUNCTION], "tool_choice": "required", "stream": stream}
    answer = talk.client.chat.completions.create(messages=hello, **options)
    if stream:
        chunks = list(answer)
        assert not any(chunk.choices[0].delta.content for chunk in chunks)
        [call] = [one for chunk in chunks for one in chunk.choices[0].delta.tool_calls or ()]
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
    else:
        [call] = answer.choices[0].message.tool_calls
        assert answer.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, call.function.arguments) == ("light", "{}")
    turns = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": call.function}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "on"},
    ]
    after: Any = talk.client.chat.completions.create(
        model="heat", messages=hello + turns, tools=[FUNCTION], tool_choice="none", max_tokens=3
    )
    assert after.choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_without_functions_is_answered_with_what_has_been_done(talk: Talk, stream: bool) -> None:
    answer: Any = talk.client.chat.completions.create(
        model="heat",
        messages=[{"role": "user", "content": "warm, please"}],
        tool_choice="required",
        stream=stream,
    )
    text = (
        "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        if stream
        else answer.choices[0].message.content
    )
    assert text == 'heat {"room": "living room", "to": 15}: sent'
