"""Spoken phrases: what was said, or that it was something else."""

import wave
from pathlib import Path

import numpy as np
import pytest

from edge_agent.decoders import Limits
from edge_agent.errors import InputError, ModelError
from edge_agent.models.speech import SpeechModel
from edge_agent.samples import Prediction, Sample, Series
from edge_agent.settings.speech import Speech
from edge_agent.timeseries import wav
from edge_agent.timeseries.utterances import MAX_UTTERANCE, UtteranceCutter, as_pcm, whole

CLIPS = Path(__file__).parents[1] / "clips"
ON, OFF = "turn the porch light on", "turn the porch light off"


def clip(name: str) -> bytes:
    return (CLIPS / f"{name}.wav").read_bytes()


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return SpeechModel(Speech(type="speech", phrases=(ON, OFF, "open the gate")))


def said(model: SpeechModel, pcm: "np.ndarray[tuple[int], np.dtype[np.int16]]") -> list[Prediction]:
    [outputs] = model.infer_each([pcm])
    return model.predictions(outputs, [None], Limits(1, 0))


@pytest.mark.parametrize(("name", "phrase"), [("turn_the_porch_light_on", ON), ("turn_the_porch_light_off", OFF)])
def test_a_phrase_is_heard(name: str, phrase: str, model: SpeechModel) -> None:
    [prediction] = said(model, whole(clip(name)))
    assert (prediction.label, prediction.class_id) == (phrase, model.labels.index(phrase))
    assert prediction.certainty > 0.8


def test_another_sentence_is_none_of_the_phrases(model: SpeechModel) -> None:
    assert said(model, whole(clip("weather_in_paris"))) == []


def test_people_who_read_aloud_say_none_of_the_phrases(data_dir: Path, model: SpeechModel) -> None:
    assert said(model, whole((data_dir / "wav" / "speech.wav").read_bytes())) == []


def test_somebody_s_own_word_is_heard(data_dir: Path) -> None:
    model = SpeechModel(Speech(type="speech", phrases=("yes", "no")))
    [prediction] = said(model, whole((data_dir / "wav" / "tflm_yes_1000ms.wav").read_bytes()))
    assert prediction.label == "yes"


@pytest.mark.parametrize("samples", [0, 1, 100, 16000])
def test_noise_and_nothing_say_none_of_the_phrases(samples: int, model: SpeechModel) -> None:
    noise = np.random.default_rng(0).integers(-3000, 3000, samples, np.int16)
    assert said(model, noise) == []


def test_a_word_that_the_dictionary_lacks_needs_its_pronunciation() -> None:
    with pytest.raises(ModelError, match="zigbee"):
        SpeechModel(Speech(type="speech", phrases=("start the zigbee",)))
    SpeechModel(Speech(type="speech", phrases=("start the zigbee",), pronunciations={"zigbee": "Z IH G B IY"}))


@pytest.mark.parametrize(
    "stated",
    [
        {"phrases": []},
        {"phrases": [""]},
        {"phrases": ["light 2"]},
        {"phrases": ["a; public <x> = b"]},
        {"phrases": ["on", "On"]},
        {"phrases": ["a " * 20]},
        {"phrases": ["on"], "pronunciations": {"on": "X Y"}},
        {"phrases": ["on"], "pronunciations": {"o n": "AA N"}},
    ],
)
def test_phrases_that_can_not_be_heard_are_refused(stated: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Speech.model_validate({"type": "speech"} | stated)


def silence(seconds: float) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    return np.zeros((int(16000 * seconds), 1), np.float32)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_stream_is_cut_where_nobody_speaks(rate: int, model: SpeechModel) -> None:
    parts = [silence(1)]
    for name in ("turn_the_porch_light_on", "weather_in_paris", "turn_the_porch_light_off"):
        parts += [wav.decode(clip(name)).values, silence(1)]
    sound = np.concatenate(parts)
    if rate != 16000:
        places = np.arange(0, len(sound) - 1, 16000 / rate)
        sound = np.interp(places, np.arange(len(sound)), sound[:, 0]).astype(np.float32).reshape(-1, 1)
    cutter, heard = UtteranceCutter(), list[str | None]()
    for begin in range(0, len(sound), 4000):
        stereo = np.repeat(sound[begin : begin + 4000], 2, axis=1)
        for cut in cutter(Sample(Series(stereo, rate=rate), 100.0, 100.0, {})):
            assert isinstance(cut.data, Series)
            found = said(model, as_pcm(cut.data.values))
            heard.append(found[0].label if found else None)
            assert 99 < cut.captured <= 100
            cut.settlement.done()
    assert heard == [ON, None, OFF]


def test_somebody_who_never_stops_is_cut_off() -> None:
    voice = wav.decode(clip("weather_in_paris")).values[8000:20000]
    sound, cutter = np.tile(voice, (30, 1)), UtteranceCutter()
    cut = cutter(Sample(Series(sound, rate=16000), 0.0, 0.0, {}))
    lengths = [len(one.data.values) / 16000 for one in cut if isinstance(one.data, Series)]
    assert lengths
    assert max(lengths) <= MAX_UTTERANCE + 0.1


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="WAV"):
        whole(b"hello")
    path = tmp_path / "long.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(bytes(2 * 16000 * 20))
    with pytest.raises(InputError, match="at most"):
        whole(path.read_bytes())
    [refused] = UtteranceCutter()(Sample(Series(silence(1)), 0.0, 0.0, {}))
    assert isinstance(refused.data, InputError)
    refused.settlement.done()
