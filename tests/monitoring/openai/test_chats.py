"""Language models over HTTP, asked by the official client of the interface; the model is a random one."""

import contextlib
import http.client
import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from edge_agent.counters import imbalance
from tests.broker import Mosquitto, Subscriber, free_port, wait_until
from tests.daemon_process import Daemon, configuration
from tests.language.model_files import Shape, write_model

pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
TOKEN = "correct horse battery"
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
ENDLESS = {"model": "talk", "messages": HELLO, "max_tokens": 16_000}


class Lamp(BaseModel):
    on: bool


class Served:
    """A daemon whose language models are served, and a client of them."""

    def __init__(self, port: int, daemon: Daemon) -> None:
        self.port, self.daemon = port, daemon
        self.client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=TOKEN, max_retries=0, timeout=30)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Status and body of a response."""
        stated = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}", **headers}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, {key.replace("_", "-"): value for key, value in stated.items()})
            response = connection.getresponse()
            return response.status, response.read()

    def refusal(self, body: bytes, **headers: str) -> tuple[int, str]:
        status, answer = self.ask("POST", "/v1/chat/completions", body, **headers)
        error = json.loads(answer)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return status, error["message"]

    def counters(self, pipeline: str) -> dict[str, Any]:
        counts: dict[str, Any] = json.loads(self.ask("GET", "/status.json")[1])["counters"][pipeline]
        assert imbalance(counts) == ""
        return counts


@pytest.fixture(scope="module")
def served(broker: Mosquitto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, port = tmp_path_factory.mktemp("daemon"), free_port()
    write_model(folder / "short", Shape(context=384))
    write_model(folder / "long", Shape(context=16_384))
    (folder / "token").write_text(TOKEN)

    def pipeline(model: str, **text: Any) -> dict[str, Any]:
        return {"source": {"type": "mqtt", "topic": f"served/{model}"}, "model": model, "text": text}

    config = configuration(
        broker,
        "served",
        models={
            "short": {"path": "short", "language": {"context": 384}},
            "long": {"path": "long", "language": {"context": 16_384, "parallel": 1}},
        },
        pipelines={
            "chat": pipeline("short", openai=True, options={"max_tokens": 8}),
            "talk": pipeline("long", openai=True, queue=1),
            "private": pipeline("short"),
        },
        http={"listen": f"127.0.0.1:{port}", "token_file": "token"},
    )
    with Daemon(folder, config) as daemon, (served := Served(port, daemon)).client:
        yield served


def test_the_models_are_the_pipelines_that_are_served(served: Served) -> None:
    assert [model.id for model in served.client.models.list()] == ["chat", "talk"]
    assert served.client.models.retrieve("chat").id == "chat"
    with pytest.raises(openai.NotFoundError, match="there is no model 'private'; there are: chat, talk"):
        served.client.models.retrieve("private")


def test_a_question_is_answered_and_counted_and_not_published(served: Served, broker: Mosquitto) -> None:
    before = served.counters("chat")
    with Subscriber(broker.port, "edge/served/#") as subscriber:
        answer = served.client.chat.completions.create(model="chat", messages=HELLO)
        subscriber.publish("served/short", "hello")  # a later one, whose result is
        [result] = subscriber.wait_for(lambda message: message.topic == "edge/served/chat/result")
        document = json.loads(result.payload)
    assert answer.choices[0].message.content == document["text"]
    assert document["seq"] == before["produced"] + 1
    assert (answer.choices[0].finish_reason, answer.model) == ("length", "chat")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    after = served.counters("chat")
    assert (after["inferred"], after["withheld"]) == (before["inferred"] + 2, before["withheld"] + 1)


def test_the_pieces_of_a_stream_are_the_answer_and_end_with_the_numbers_of_tokens(served: Served) -> None:
    options: Any = {"model": "chat", "messages": HELLO, "max_tokens": 30}
    whole = served.client.chat.completions.create(**options)
    *chunks, last = served.client.chat.completions.create(
        **options, stream=True, stream_options={"include_usage": True}
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "length"
    assert (last.choices, last.usage and last.usage.completion_tokens) == ([], 30)
    assert len({chunk.id for chunk in chunks}) == 1


def test_an_answer_follows_a_schema(served: Served) -> None:
    answer = served.client.chat.completions.parse(model="chat", messages=HELLO, max_tokens=40, response_format=Lamp)
    assert isinstance(answer.choices[0].message.parsed, Lamp)


def test_options_of_the_interface_are_those_of_requests(served: Served) -> None:
    parts: list[Any] = [
        {"role": "developer", "content": "You are a lamp."},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
    ]
    options: Any = {
        "model": "chat",
        "messages": parts,
        "temperature": 1.5,
        "top_p": 0.9,
        "seed": 7,
        "user": "me",
        "max_completion_tokens": 12,
    }
    answers = [served.client.chat.completions.create(**options, n=1).choices[0] for _ in range(2)]
    assert answers[0].message.content == answers[1].message.content
    stop = (answers[0].message.content or "")[3:6]
    cut = served.client.chat.completions.create(**options, stop=stop).choices[0]
    assert cut.finish_reason == "stop"
    assert stop not in (cut.message.content or "")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"messages": []}, "messages: must have at least 1"),
        (
            {"messages": [{"role": "lamp", "content": "x"}]},
            "messages.0.role: must be system, developer, user, assistant or tool",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content: must be text, or parts of the type text",
        ),
        ({"n": 2}, "n: only 1 is supported"),
        ({"logprobs": True}, "logprobs: only False is supported"),
        ({"max_token": 3}, "max_token: unknown key; did you mean 'max_tokens'?"),
        ({"temperature": 9}, "temperature: must be <= 2 (got 9"),
        ({"messages": [{"role": "user", "content": "hello " * 400}]}, "the context holds 384 with the answer"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"items": {"not": {}}}},
                }
            },
            "json_schema: at /items: `not` is not supported",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_with_its_key(
    served: Served, changes: dict[str, Any], sentence: str
) -> None:
    status, message = served.refusal(json.dumps({"model": "chat", "messages": HELLO} | changes).encode())
    assert status == 400
    assert sentence in message


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"\xff", {}, 400),
        (b'{"model": "none", "messages": [{"role": "user", "content": "x"}]}', {}, 404),
        (b"{}", {"Authorization": ""}, 401),
        (b"{}", {"Authorization": "Bearer wrong"}, 401),
        (b"{}", {"Content_Type": "text/plain"}, 415),
        (b"{}", {"Host": "evil.example"}, 403),
        (b"{}", {"Sec_Fetch_Site": "cross-site"}, 403),
    ],
)
def test_what_is_no_request_is_refused_in_the_form_of_the_interface(
    served: Served, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert served.refusal(body, **headers)[0] == status


def test_other_paths_and_methods_are_refused(served: Served) -> None:
    assert served.ask("POST", "/v1/embeddings", b"{}")[0] == 404
    assert served.ask("POST", "/v1/models", b"{}")[0] == 405
    assert served.ask("POST", "/", b"{}")[0] == 405


def test_a_body_that_is_too_large_is_refused_unread(served: Served) -> None:
    connection = socket.create_connection(("127.0.0.1", served.port), 10)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
    connection.sendall(head.encode() + bytes(1000))
    assert connection.recv(100).split()[1] == b"413"
    connection.close()


def in_progress(served: Served) -> int:
    return int(served.counters("talk")["in_progress"])


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_cancels_its_request_and_one_too_many_is_refused(served: Served, stream: bool) -> None:
    body = json.dumps(ENDLESS | {"stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    clients: list[socket.socket] = []

    def ask() -> None:
        clients.append(socket.create_connection(("127.0.0.1", served.port), 10))
        clients[-1].sendall(head.encode() + body)

    def is_waiting() -> bool:
        if in_progress(served) < 2 and select.select(clients[-1:], [], [], 0)[0]:
            assert clients[-1].recv(100).split()[1] == b"429"  # the first has not left the queue of one yet
            clients.pop().close()
            ask()
        return in_progress(served) == 2

    ask()
    wait_until(lambda: in_progress(served) == 1, 20, "the first request is in progress")
    ask()
    wait_until(is_waiting, 20, "the second request waits")
    with pytest.raises(openai.RateLimitError, match="1 requests are waiting already"):
        served.client.chat.completions.create(model="talk", messages=HELLO)
    if stream:
        assert clients[0].recv(100).startswith(b"HTTP/1.1 200 OK")
    for client in clients:
        client.close()
    wait_until(lambda: in_progress(served) == 0, 20, "both requests are given up")
    answer = served.client.chat.completions.create(model="talk", messages=HELLO, max_tokens=2)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_the_page_answers_while_requests_to_models_are_waiting(served: Served) -> None:
    with served.client.chat.completions.create(**ENDLESS, stream=True) as stream:  # type: ignore[call-overload]  # options in a dictionary
        next(iter(stream))
        assert served.counters("talk")["in_progress"] == 1
    wait_until(lambda: in_progress(served) == 0, 20, "the request is given up")


def test_a_pipeline_that_is_no_longer_served_after_a_reload_is_refused(broker: Mosquitto, tmp_path: Path) -> None:
    port = free_port()
    write_model(tmp_path / "model")
    pipeline: dict[str, Any] = {"source": {"type": "mqtt", "topic": "reloaded"}, "model": "words"}
    sections: dict[str, Any] = {
        "models": {"words": {"path": "model", "language": {"context": 256}}},
        "http": {"listen": f"127.0.0.1:{port}"},
    }

    def config(*, served: bool) -> dict[str, Any]:
        pipelines = {"chat": pipeline | {"text": {"openai": served, "options": {"max_tokens": 2}}}}
        return configuration(broker, "reloaded", pipelines=pipelines, **sections)

    with contextlib.ExitStack() as stack, Daemon(tmp_path, config(served=False)) as daemon:
        stack.enter_context((other := Served(port, daemon)).client)
        assert other.ask("POST", "/v1/chat/completions", b"{}")[0] == 405  # the page's
        daemon.configure(config(served=True))
        daemon.reload()
        assert other.client.chat.completions.create(model="chat", messages=HELLO).choices


SWITCH: dict[str, Any] = {
    "type": "function",
    "name": "switch",
    "description": "Switches the lamp.",
    "parameters": {
        "type": "object",
        "additionalProperties": False,
        "required": ["on"],
        "properties": {"on": {"type": "boolean"}},
    },
    "strict": False,
}


def responses_of(served: Served) -> Any:
    """The client's side of `/v1/responses`; its overloads are not for options in a dictionary."""
    return served.client.responses


def test_a_response_is_the_answer_that_a_chat_gets_whole_and_in_pieces(served: Served) -> None:
    chat = served.client.chat.completions.create(model="chat", messages=HELLO)
    options: Any = {"model": "chat", "input": "hello", "store": False, "reasoning": {"effort": "low"}}
    whole = responses_of(served).create(**options)
    assert whole.output_text == chat.choices[0].message.content
    assert (whole.status, whole.incomplete_details and whole.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert whole.usage is not None
    assert whole.usage.output_tokens == 8
    events = [*responses_of(served).create(**options, stream=True)]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert [event.sequence_number for event in events] == [*range(len(events))]
    kinds = [event.type for event in events if event.type != "response.output_text.delta"]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]


def test_a_response_follows_a_schema(served: Served) -> None:
    answer = responses_of(served).parse(model="chat", input="hello", max_output_tokens=40, text_format=Lamp)
    assert isinstance(answer.output_parsed, Lamp)
    assert answer.status == "completed"


@pytest.mark.parametrize("stream", [True, False])
def test_a_response_calls_a_function_and_goes_on_with_its_result(served: Served, stream: bool) -> None:
    turns: list[Any] = [{"role": "developer", "content": "You are a lamp."}, {"role": "user", "content": "on!"}]
    options: Any = {"model": "chat", "tools": [SWITCH], "max_output_tokens": 60}
    made = responses_of(served).create(
        **options, input=turns, tool_choice={"type": "function", "name": "switch"}, stream=stream
    )
    answer = [*made][-1].response if stream else made
    [call] = answer.output
    assert (call.type, call.name) == ("function_call", "switch")
    assert set(json.loads(call.arguments)) == {"on"}
    turns += [call, {"type": "function_call_output", "call_id": call.call_id, "output": "done"}]
    after = responses_of(served).create(**options, input=turns, tool_choice="none")
    assert after.output_text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id: only None is supported"),
        ({"input": []}, "input: must have at least 1"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content: must be text"),
        ({"input": [{"type": "web_search_call"}]}, "input.0.type: must be message, function_call"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tools": [SWITCH], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice: must name one of tools"),
    ],
)
def test_what_is_no_request_for_a_response_is_refused_with_its_key(
    served: Served, changes: dict[str, Any], sentence: str
) -> None:
    body = json.dumps({"model": "chat", "input": "hello"} | changes).encode()
    status, answer = served.ask("POST", "/v1/responses", body)
    assert status == 400
    assert sentence in json.loads(answer)["error"]["message"]
