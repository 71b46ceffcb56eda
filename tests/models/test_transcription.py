"""Speech to text: what was said, and how sure the model is; the model is a stand-in that says what it is made to."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_agent.decoders import Limits
from edge_agent.errors import ModelError
from edge_agent.models.transcription import TranscriptionModel
from edge_agent.samples import Prediction
from edge_agent.settings.speech import Speech
from edge_agent.timeseries.utterances import RATE
from tests.models.moonshine_model import SURE, VOCABULARY, write

SOUND = np.random.default_rng(0).integers(-3000, 3000, 2 * RATE, np.int16)


def said(model: TranscriptionModel, pcm: "np.ndarray[tuple[int], np.dtype[np.int16]]" = SOUND) -> list[Prediction]:
    [outputs] = model.infer_each([pcm])
    return model.predictions(outputs, [None], Limits(1, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("models") / "heard", [" turn", " on", " the", " light", "."])


@pytest.fixture(scope="module")
def model(folder: Path) -> TranscriptionModel:
    return TranscriptionModel(folder)


def test_what_is_said_becomes_a_text_with_the_mean_probability_of_its_tokens(model: TranscriptionModel) -> None:
    [prediction] = said(model)
    assert (prediction.label, prediction.class_id) == ("turn on the light.", None)
    assert prediction.certainty == pytest.approx(np.exp(SURE) / (np.exp(SURE) + VOCABULARY - 1))


def test_what_is_less_sure_than_the_limit_is_nothing(model: TranscriptionModel) -> None:
    [outputs] = model.infer_each([SOUND])
    assert model.predictions(outputs, [None], Limits(1, 0.9999)) == []


@pytest.mark.parametrize("samples", [0, 1, RATE // 10 - 1])
def test_nothing_is_said_in_a_moment(samples: int, model: TranscriptionModel) -> None:
    assert said(model, SOUND[:samples]) == []


def test_a_model_that_repeats_itself_is_ended(tmp_path: Path) -> None:
    model = TranscriptionModel(write(tmp_path / "endless", [" ha"], endless=True))
    [prediction] = said(model)
    assert prediction.label == " ".join(["ha"] * 14)  # 6.5 a second, and one


def test_tokens_beyond_the_tokenizer_s_and_long_ones_are_texts_too(tmp_path: Path) -> None:
    model = TranscriptionModel(write(tmp_path / "odd", [" so"], following={300: 301, 301: 390, 390: 2}))
    [prediction] = said(model)
    assert prediction.label == "so" + "!" * 200


def test_models_say_what_they_are(folder: Path, model: TranscriptionModel) -> None:
    facts = model.facts()
    assert (facts["name"], facts["task"], facts["accelerator"]["in_use"]) == ("heard", "transcription", "cpu")
    assert facts["version"] == facts["sha256"][:12]
    described = shutil.copytree(folder, folder.parent / "described")
    (described / "model.yaml").write_text("{name: hears, version: '7', task: transcription}")
    assert TranscriptionModel(described).identity == {"name": "hears", "version": "7", "sha256": facts["sha256"]}


@pytest.mark.parametrize("name", ["encoder_model.ort", "decoder_model_merged.ort", "tokenizer.bin"])
@pytest.mark.parametrize("damage", ["missing", "cut short", "another file"])
def test_a_damaged_model_is_refused_and_named(name: str, damage: str, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    whole = (copy / name).read_bytes()
    match damage:
        case "missing":
            (copy / name).unlink()
        case "cut short":
            (copy / name).write_bytes(whole[: len(whole) // 2])
        case _:
            (copy / name).write_bytes(b"\x90" + b"no model, but a text" * 20)
    with pytest.raises(ModelError, match=str(copy)):
        TranscriptionModel(copy)


@pytest.mark.parametrize(
    "stated", [{}, {"phrases": ["a b"], "path": "x"}, {"path": "x", "pronunciations": {"a": "AH"}}]
)
def test_either_phrases_or_a_model_is_stated(stated: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"phrases"):
        Speech.model_validate({"type": "speech"} | stated)
