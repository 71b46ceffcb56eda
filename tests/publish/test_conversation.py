from dataclasses import replace
from typing import Any

import pytest

from edge_agent.publish import conversation
from edge_agent.publish.conversation import LONGEST_ANSWER, MOST_EXCHANGES, Conversation, question_of
from edge_agent.samples import ReplyTo, Sample
from tests.clock import Clock


def asked(data: bytes) -> Sample:
    return Sample(data, 5.0, 5.0, {})


def whole(text: str) -> dict[str, object]:
    return {"text": text, "finish_reason": "stop", "tokens": {"prompt": 3, "cached": 0, "output": 2}}


def seen(talk: Conversation) -> list[dict[str, Any]]:
    exchanges: list[dict[str, Any]] = talk.look(private=True)["exchanges"]
    return exchanges


def test_an_answer_is_seen_as_it_comes_and_then_as_a_whole() -> None:
    talk, sample = Conversation(), asked(b"How are you?")
    talk.piece(sample, "a", "I am")
    talk.piece(sample, "a", " fi")
    [one] = seen(talk)
    assert (one["question"], one["text"], one["finish_reason"]) == ("How are you?", "I am fi", "")
    talk.answer(sample, "a", whole("I am fine"))
    [one] = seen(talk)
    assert (one["text"], one["finish_reason"], one["tokens"]) == ("I am fine", "stop", 2)


def test_the_same_id_again_is_another_exchange() -> None:
    talk = Conversation()
    talk.answer(asked(b"1"), "a", whole("one"))
    talk.answer(asked(b"2"), "a", whole("two"))
    assert [one["text"] for one in seen(talk)] == ["two"]


def test_what_is_remembered_is_bounded() -> None:
    talk = Conversation()
    for number in range(100):
        talk.piece(asked(b"x" * 100_000), str(number), "y" * 100_000)
        talk.piece(asked(b""), str(number), "y")
    assert len(seen(talk)) == MOST_EXCHANGES
    assert {len(one["text"]) for one in seen(talk)} == {LONGEST_ANSWER}


def test_who_looks_again_gets_only_what_has_changed() -> None:
    talk = Conversation()
    talk.answer(asked(b"1"), "a", whole("one"))
    talk.piece(asked(b"2"), "b", "tw")
    version = talk.look()["version"]
    assert talk.look(version)["exchanges"] == []
    talk.piece(asked(b"2"), "b", "o")
    found = talk.look(version)
    assert found["ids"] == ["a", "b"]
    assert [one["text"] for one in found["exchanges"]] == ["two"]


def test_it_is_watched_while_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(conversation, "time", clock)
    talk = Conversation()
    found = [talk.is_watched]
    talk.look()
    found.append(talk.is_watched)
    clock.now += conversation.PATIENCE
    assert [*found, talk.is_watched] == [False, True, False]


def test_an_answer_to_somebody_alone_is_not_shown_to_everybody() -> None:
    talk = Conversation()
    talk.answer(asked(b"1"), "a", whole("one"))
    talk.answer(replace(asked(b"2"), reply_to=ReplyTo("answers/ann", None)), "b", whole("two"))
    assert talk.look()["ids"] == ["a"]
    assert talk.look(private=True)["ids"] == ["a", "b"]


def test_a_request_that_fails_has_ended() -> None:
    talk, sample = Conversation(), asked(b"1")
    talk.fail(sample, "not begun")
    assert seen(talk) == []
    talk.piece(sample, "a", "")
    talk.fail(sample, "too long")
    assert [(one["text"], one["finish_reason"]) for one in seen(talk)] == [("too long", "error")]


@pytest.mark.parametrize(
    ("data", "question"),
    [
        (b"Hello", "Hello"),
        (b'{"prompt": "Hello", "max_tokens": 5}', "Hello"),
        (b'{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "Hello"}]}', "Hello"),
        (b'{"messages": [1]}', '{"messages": [1]}'),
        (b'{"messages": []}', '{"messages": []}'),
        (b"[1]", "[1]"),
        (b"\xff", "\ufffd"),
    ],
)
def test_the_question_is_what_the_user_has_said(data: bytes, question: str) -> None:
    assert question_of(asked(data)) == question
