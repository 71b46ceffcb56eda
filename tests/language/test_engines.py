"""One contract, held by every engine of language models."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.language import LanguageEngine, load_engine
from tests.language.model_files import Shape, write_model

FORMATS = ["genai", "gguf"]


@pytest.fixture(params=FORMATS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A model and its format."""
    if request.param == "genai":
        return write_model(tmp_path / "model"), "genai"
    from tests.language.gguf_files import write_gguf

    return write_gguf(tmp_path / "model.gguf"), "gguf"


@pytest.fixture
def engine(file: tuple[Path, str]) -> LanguageEngine:
    return load_engine(*file, threads=1, context=256)


def test_text_survives_being_made_into_tokens(engine: LanguageEngine) -> None:
    text = "turn the light on: €5, 😀"
    tokens = engine.encode(text)
    decode = engine.decoder()
    assert "".join(decode(token) for token in tokens) == text
    assert max(tokens) < engine.vocabulary.size == Shape.vocabulary


def test_characters_are_told_when_they_are_complete(engine: LanguageEngine) -> None:
    decode = engine.decoder()
    assert [decode(token) for token in engine.encode("é")] == ["", "é"]


def test_a_conversation_is_written_as_the_template_wants(engine: LanguageEngine) -> None:
    assert engine.has_template()
    said = engine.chat([{"role": "user", "content": "hello"}])
    assert said == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert engine.encode(said)[0] == 1  # as one token
    assert 2 in engine.vocabulary.ends


def test_after_going_back_the_same_follows(engine: LanguageEngine) -> None:
    tokens = engine.encode("the light in the hall is on")
    engine.reserve(1)
    session = engine.session(0)
    engine.extend([(session, tokens)])
    first = session.logits()
    assert first.shape == (Shape.vocabulary,)
    engine.extend([(session, [20, 30])])
    assert not np.allclose(session.logits(), first, atol=1e-3)
    assert session.rewind(len(tokens) - 1)
    engine.extend([(session, tokens[-1:])])
    assert np.allclose(session.logits(), first, atol=1e-3)


def test_sessions_know_nothing_of_each_other(engine: LanguageEngine) -> None:
    engine.reserve(2)
    one, other = engine.session(0), engine.session(1)
    engine.extend([(one, [10, 20, 30])])
    before = one.logits()
    engine.extend([(other, [40, 50])])
    assert np.array_equal(one.logits(), before)


def test_sessions_that_are_read_together_say_what_each_says_alone(engine: LanguageEngine) -> None:
    texts = [[10, 20, 30], [40], [50, 60, 70, 80, 90]]
    engine.reserve(len(texts))
    alone = []
    for text in texts:
        session = engine.session(0)
        engine.extend([(session, text)])
        engine.extend([(session, [7])])
        alone.append(session.logits())
    together = [engine.session(number) for number in range(len(texts))]
    engine.extend([*zip(together, texts, strict=True)][::-1])
    engine.extend([(together[2], [7]), (together[0], [7])])
    engine.extend([(together[1], [7])])
    for session, expected in zip(together, alone, strict=True):
        assert np.allclose(session.logits(), expected, atol=1e-3)


def test_constraints_know_the_tokens(engine: LanguageEngine) -> None:
    assert engine.constraint_tokenizer().vocab_size == Shape.vocabulary


def test_what_is_no_model_is_refused_in_one_line(file: tuple[Path, str]) -> None:
    path, file_format = file
    broken = path / "model.onnx" if file_format == "genai" else path
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(ModelError) as error:
        load_engine(path, file_format, 1, 256)
    assert "refuses the model" in str(error.value)
    assert "\n" not in str(error.value)
