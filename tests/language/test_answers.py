"""What an answer says of itself: the document, how sure the model was, and how fast."""

import json
from typing import Any

import numpy as np
import pytest

from edge_agent.language import load_engine
from edge_agent.language.generation import Answer, Generation
from edge_agent.language.prefixes import PrefixCache
from edge_agent.language.request import ask
from edge_agent.language.sampling import log_sum
from edge_agent.publish.answers import content_of_answer
from edge_agent.settings import text
from tests.language.model_files import write_model

pytest.importorskip("onnxruntime_genai", reason="the extra `language` is not installed")
ON_OR_NONE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["intent", "device"],
    "properties": {"intent": {"enum": ["on", "none"]}, "device": {"enum": ["lamp"]}},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Generation:
    engine = load_engine(write_model(tmp_path_factory.mktemp("model")), "genai", threads=1, context=256)
    return Generation(engine, PrefixCache(engine, 10_000_000))


def answer(model: Generation, **options: Any) -> Answer:
    job = ask("hello", text.Generation(**options)).job("", age=0)
    return model.answer(job, lambda _: None, lambda: False)


def test_an_answer_by_a_schema_is_published_as_a_document_too(model: Generation) -> None:
    content = content_of_answer(answer(model, json_schema=ON_OR_NONE))
    assert content["json"] == json.loads(content["text"])
    assert set(content["json"]) == {"intent", "device"}
    assert "json" not in content_of_answer(answer(model, max_tokens=4))


def test_a_document_that_was_cut_off_is_none(model: Generation) -> None:
    job = ask("hello", text.Generation(json_schema=ON_OR_NONE)).job("", age=0)
    calls = iter(range(100))
    cut = model.answer(job, lambda _: None, lambda: next(calls) > 3)
    assert cut.finish_reason == "cancelled"
    assert "json" not in content_of_answer(cut)


@pytest.mark.parametrize(
    ("constraint", "refusals", "reason"),
    [
        ({"choices": ["none"]}, ["none"], "refused"),
        ({"choices": ["lamp"]}, ["none"], "stop"),
        ({"choices": ["none"]}, [], "stop"),
        ({"json_schema": {"const": {"intent": "none"}}}, ["none"], "refused"),
        ({"json_schema": {"const": {"intent": "on", "of": {"a": "none"}}}}, ["none"], "stop"),
        ({"json_schema": {"const": "none"}}, ["unknown", "none"], "refused"),
    ],
)
def test_an_answer_that_says_that_nothing_fits_is_a_refusal(
    model: Generation, constraint: dict[str, Any], refusals: list[str], reason: str
) -> None:
    assert answer(model, **constraint, refusals=refusals).finish_reason == reason


def test_how_likely_the_tokens_were_is_that_of_the_model_itself(model: Generation) -> None:
    free, forced = answer(model, max_tokens=6), answer(model, choices=["zzz"])
    for one in (free, forced):
        assert 0 < one.least_probability <= one.mean_probability <= 1
    assert forced.mean_probability < free.mean_probability  # of a random model: hardly the text that it is forced to


def test_the_speed_counts_the_tokens_after_the_first(model: Generation) -> None:
    content = content_of_answer(many := answer(model, max_tokens=20))
    assert content["tokens"]["per_second"] == pytest.approx(19 / (many.output_ms / 1000), rel=0.01)
    assert content["first_token_ms"] > 0
    assert "per_second" not in content_of_answer(answer(model, max_tokens=1))["tokens"]


def test_probabilities_are_those_of_a_softmax() -> None:
    logits = np.array([1.0, 2.0, -np.inf, 1000.0, 999.0], np.float32)
    assert np.exp(logits.astype(float) - log_sum(logits)).sum() == pytest.approx(1.0)
    assert not np.isfinite(log_sum(np.array([1.0, np.nan], np.float32)))
