"""Several requests at once, on the engines themselves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import InputError, ModelError
from edge_agent.language import CHUNK, load_engine
from edge_agent.language.batching import Batcher
from edge_agent.language.generation import Answer, Generation, Job, Part
from edge_agent.language.prefixes import PrefixCache
from edge_agent.language.request import ask
from edge_agent.settings import text
from tests.language.gguf_files import write_gguf
from tests.language.model_files import write_model

pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
AT_ONCE = 4


class Recorded(Generation):
    """Notes what is read in each batch."""

    batches: list[list[Part]]

    def read(self, parts: Sequence[Part]) -> None:
        self.batches.append(list(parts))
        super().read(parts)


@pytest.fixture(scope="module", params=["genai", "gguf"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("model")
    path: Path = write_model(folder) if request.param == "genai" else write_gguf(folder / "model.gguf")
    engine = load_engine(path, request.param, threads=1, context=512)
    return Recorded(engine, PrefixCache(engine, AT_ONCE * engine.session_size))


@pytest.fixture
def model(loaded: Recorded) -> Recorded:
    loaded.reset()
    loaded.batches = []
    return loaded


def job(prompt: str, **options: Any) -> Job:
    return ask(prompt, text.Generation(**{"max_tokens": 12, "temperature": 0.0} | options)).job("", age=0)


class Asked:
    """Answers of a batcher, in the order of the requests; `ended` has their numbers in the order of their ends."""

    def __init__(self, model: Generation) -> None:
        self.batcher = Batcher(model)
        self.model = model
        self.outcomes: list[Answer | Exception | None] = []
        self.ended: list[int] = []
        self.cancelled: set[int] = set()

    def ask(self, one: Job) -> None:
        number = len(self.outcomes)
        self.outcomes.append(None)

        def end(outcome: Answer | Exception) -> None:
            assert self.outcomes[number] is None, "a second end"
            self.outcomes[number] = outcome
            self.ended.append(number)

        self.batcher.add(self.model.steps(one, lambda _: None, lambda: number in self.cancelled), end)

    def run(self) -> list[Answer | Exception | None]:
        while not self.batcher.is_idle:
            self.batcher.step()
        return self.outcomes

    def texts(self) -> list[str]:
        return [outcome.text for outcome in self.run() if isinstance(outcome, Answer)]


def test_requests_share_batches_and_each_gets_the_answer_that_it_gets_alone(model: Recorded) -> None:
    jobs = [job(f"{word} is on", max_tokens=tokens) for word, tokens in zip("abcd", (12, 3, 9, 6), strict=True)]
    alone = [model.answer(one, lambda _: None, lambda: False).text for one in jobs]
    model.reset()
    model.batches = []
    asked = Asked(model)
    for one in jobs:
        asked.ask(one)
    assert asked.texts() == alone
    assert asked.ended == [1, 3, 2, 0]
    assert max(map(len, model.batches)) == AT_ONCE
    assert len(model.batches) < sum(len(answer) for answer in alone)


def test_each_request_has_its_own_constraint_and_limits(model: Recorded) -> None:
    asked = Asked(model)
    asked.ask(job("one", choices=["yes", "no"]))
    asked.ask(job("two", json_schema={"const": {"a": 1}}, max_tokens=40))
    asked.ask(job("three", max_tokens=2))
    asked.ask(replace(job("four", max_tokens=400), deadline=0.0))
    one, two, three, four = asked.run()
    assert isinstance(one, Answer)
    assert one.text in {"yes", "no"}
    assert isinstance(two, Answer)
    assert two.is_json
    assert isinstance(three, Answer)
    assert (three.output_tokens, three.finish_reason) == (2, "length")
    assert isinstance(four, Answer)
    assert four.finish_reason == "deadline"


def test_an_answer_goes_on_while_long_prompts_are_read(model: Recorded) -> None:
    asked = Asked(model)
    asked.ask(job("short", max_tokens=8))
    asked.batcher.step()
    asked.ask(job("long " * CHUNK))
    asked.ask(job("longer " * CHUNK))
    asked.run()
    mixed = [batch for batch in model.batches if {part.of_prompt for part in batch} == {True, False}]
    assert len(mixed) >= 3
    assert all(sum(len(part.tokens) for part in batch if part.of_prompt) <= CHUNK for batch in model.batches)
    assert asked.ended[0] == 0


def test_a_request_is_cancelled_without_the_others_even_while_it_waits_for_its_turn(model: Recorded) -> None:
    asked = Asked(model)
    asked.ask(job("long " * CHUNK))
    asked.ask(job("wait " * CHUNK))
    asked.cancelled.add(1)
    asked.batcher.step()
    assert asked.ended == [1]
    first, second = asked.run()
    assert isinstance(second, Answer)
    assert (second.finish_reason, second.output_tokens) == ("cancelled", 0)
    assert isinstance(first, Answer)
    assert first.output_tokens == 12


def test_a_seeded_request_is_answered_the_same_to_the_last_bit_in_any_company(model: Recorded) -> None:
    seeded = job("a story", seed=7, temperature=2.0, max_tokens=20)
    alone = model.answer(seeded, lambda _: None, lambda: False)
    asked = Asked(model)
    asked.ask(job("beside " * 40))
    asked.ask(seeded)
    asked.ask(job("hello"))
    _, found, _ = asked.run()
    assert isinstance(found, Answer)
    assert (found.text, found.mean_probability) == (alone.text, alone.mean_probability)
    assert all(len(batch) == 1 for batch in model.batches if any(part.alone for part in batch))


def test_a_request_that_can_not_be_met_ends_alone(model: Recorded) -> None:
    asked = Asked(model)
    asked.ask(job("one"))
    asked.ask(job("two", json_schema={"type": "string", "minLength": 200}, max_tokens=3))
    asked.ask(job("three " * 600))
    one, two, three = asked.run()
    assert isinstance(one, Answer)
    assert isinstance(two, InputError)
    assert isinstance(three, InputError)


def test_a_failure_of_the_runtime_ends_all_that_are_in_progress_and_the_next_is_answered(
    model: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(model)
    asked.ask(job("one"))
    asked.ask(job("two"))
    asked.batcher.step()

    def broken(_: Sequence[Part]) -> None:
        raise ModelError("inference failed")

    with monkeypatch.context() as patch:
        patch.setattr(model, "read", broken)
        asked.batcher.step()
    assert all(isinstance(outcome, ModelError) for outcome in asked.outcomes)
    asked.ask(job("three"))
    assert isinstance(asked.run()[2], Answer)
