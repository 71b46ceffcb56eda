"""Speech to text with the public model of the registry, on people and on synthetic voices."""

import os
from pathlib import Path

import pytest

from edge_agent.decoders import Limits
from edge_agent.models import registry
from edge_agent.models.transcription import TranscriptionModel
from edge_agent.samples import Sample, Series
from edge_agent.timeseries import wav
from edge_agent.timeseries.utterances import UtteranceCutter, as_pcm, whole

pytestmark = pytest.mark.speech
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TranscriptionModel:
    """As `models pull` brings it, from the files of the publisher's package in place of his server."""
    mirror = Path(os.environ.get("EDGE_AGENT_SPEECH", ROOT / "build" / "speech"))
    return TranscriptionModel(registry.pull("moonshine-tiny-en", tmp_path_factory.mktemp("models"), str(mirror)))


def text(model: TranscriptionModel, sound: bytes) -> str:
    [outputs] = model.infer_each([whole(sound)])
    return " ".join(str(one.label) for one in model.predictions(outputs, [None], Limits(1, model.min_confidence)))


def test_a_person_who_reads_aloud_is_written_down(model: TranscriptionModel, data_dir: Path) -> None:
    said = text(model, (data_dir / "wav" / "speech.wav").read_bytes())
    assert said == "Send a text to Mike, I'll be home late tomorrow."


def test_a_synthetic_voice_is_written_down(model: TranscriptionModel) -> None:
    assert text(model, (ROOT / "tests" / "clips" / "weather_in_paris.wav").read_bytes()) == (
        "What is the weather like in Paris?"
    )


def test_a_recorded_lecture_is_written_down_piece_by_piece(model: TranscriptionModel, data_dir: Path) -> None:
    sound, heard = wav.decode((data_dir / "wav" / "silero_test.wav").read_bytes()), list[str]()
    for cut in UtteranceCutter()(Sample(sound, 0.0, 0.0, {})):
        assert isinstance(cut.data, Series)
        [outputs] = model.infer_each([as_pcm(cut.data.values)])
        heard += [str(one.label) for one in model.predictions(outputs, [None], Limits(1, model.min_confidence))]
        cut.settlement.done()
    assert "how do i get to dublin" in heard[0].lower()
    assert any("political philosophy" in one for one in heard)  # in one of the twelve seconds that a piece has at most


def test_silence_says_nothing(model: TranscriptionModel, data_dir: Path) -> None:
    assert text(model, (data_dir / "wav" / "tflm_silence_1000ms.wav").read_bytes()) == ""
