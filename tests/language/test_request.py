import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import InputError
from edge_agent.language.request import MAX_SIZE, Request, read_request
from edge_agent.settings.text import Generation

KEYS = st.sampled_from([*Request.model_fields, "max_token", "role", "content"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def read(fields: dict[str, Any], **defaults: Any) -> Request:
    return read_request(json.dumps(fields).encode(), Generation.model_validate(defaults))


def test_plain_text_is_a_prompt_with_the_pipelines_options() -> None:
    request = read_request("grüß Gott\n".encode(), Generation(max_tokens=7, temperature=0.5))
    assert (request.prompt, request.max_tokens, request.temperature) == ("grüß Gott\n", 7, 0.5)


@pytest.mark.parametrize("before", ["\ufeff", "\ufeff \n", " "])
def test_a_byte_order_mark_before_a_request_is_none_of_its_text(before: str) -> None:
    data = (before + '{"prompt": "x", "max_tokens": 3}').encode()
    assert read_request(data, Generation()).max_tokens == 3


def test_a_request_states_what_differs() -> None:
    request = read({"prompt": "x", "max_tokens": 9, "deadline": "2s"}, max_tokens=7, seed=3)
    assert (request.max_tokens, request.seed, request.deadline) == (9, 3, 2.0)


def test_a_constraint_of_the_request_takes_the_place_of_the_pipelines() -> None:
    request = read({"prompt": "x", "json_schema": {"type": "integer"}}, choices=["on", "off"])
    assert (request.json_schema, request.choices) == ({"type": "integer"}, ())


def test_the_system_prompt_stands_before_a_conversation_that_has_none() -> None:
    turns = [{"role": "user", "content": "hello"}]
    own = [{"role": "system", "content": "mine"}, *turns]
    assert read({"messages": turns}).conversation("yours") == [{"role": "system", "content": "yours"}, *turns]
    assert read({"messages": own}).conversation("yours") == own
    assert read({"prompt": "hello"}).conversation("") == turns


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "needs either prompt or messages"),
        ({"prompt": "x", "messages": [{"role": "user", "content": "y"}]}, "needs either prompt or messages"),
        ({"prompt": "x", "stop": "a", "choices": ["b"]}, "choices and stop can't be combined"),
        ({"prompt": "x", "seed": -1}, "seed: must be >= 0 (got -1)"),
        ({"prompt": "x", "seed": 2**63}, "seed: must be"),
        ({"prompt": "x", "stop": [""]}, "stop.0: must not be empty"),
        ({"prompt": "x", "stop": ["a"] * 17}, "stop: must have at most 16 entries"),
        ({"prompt": "a\0b"}, "prompt: must not hold the character U+0000"),
        ({"prompt": "\ud800"}, "half of a surrogate pair"),
        ({"prompt": "x", "id": "a\nb"}, "id: must hold no control characters"),
        ({"prompt": "x", "deadline": "soon"}, "deadline: must be a duration"),
        ({"prompt": "x", "json_schema": {"enum": ["a" * 60_000]}}, "json_schema: must have at most 50000 bytes"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        read(fields)
    assert sentence in str(error.value)


def test_a_request_that_is_too_large_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(InputError, match=r"1\.0 MB: a request has at most 1\.0 MB"):
        read_request(b"x" * (MAX_SIZE + 1), Generation())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=200) | st.dictionaries(KEYS, VALUES, max_size=5).map(lambda fields: json.dumps(fields).encode())
)
def test_whatever_comes_is_a_request_or_refused_in_one_short_line(data: bytes) -> None:
    try:
        said = read_request(data, Generation()).conversation("")[0]["role"]
    except InputError as error:
        said = str(error)
    assert 0 < len(said) < 2000
    assert "\n" not in said
