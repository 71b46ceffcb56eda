"""Public models of sound and of machines' noise, through the daemon and MQTT."""

import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.engines import load_engine
from edge_agent.modelfile import inspect
from tests.broker import Mosquitto, Subscriber
from tests.daemon_process import Daemon, configuration

KEYWORDS = ("Down", "Go", "Left", "No", "Off", "On", "Right", "Stop", "Up", "Yes", "Silence", "Unknown")
RATE = 16_000
YAMNET = "audio/yamnet_audio_classifier_with_metadata.tflite"


def sound(path: Path) -> NDArray[np.float32]:
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return (np.frombuffer(file.readframes(file.getnframes()), "<i2") / 2**15).astype(np.float32)


@pytest.fixture(scope="module")
def device(
    broker: Mosquitto, data_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Daemon, Subscriber]]:
    folder = tmp_path_factory.mktemp("series")
    bundle = folder / "vad"
    bundle.mkdir()
    (bundle / "vad.onnx").write_bytes((data_dir / "audio/silero_vad.onnx").read_bytes())
    (bundle / "labels.txt").write_text("speech\n")
    (bundle / "model.yaml").write_text(
        "{name: vad, version: '5', task: classification, files: {onnx: vad.onnx}, labels: labels.txt, "
        "decoder: classification, output: sigmoid, input: {kind: audio, rate: 16000, length: 576, context: 64, "
        "state: {state: stateN}, constants: {sr: 16000}}}"
    )
    (folder / "keywords.txt").write_text("\n".join(KEYWORDS))
    models = {
        "keywords": {
            "path": str(data_dir / "tinymlperf/kws_ref_model.tflite"),
            "labels": "keywords.txt",
            "input": {"kind": "audio", "rate": RATE, "features": {"kind": "mfcc", "peak": True}},
        },
        "sounds": {
            "path": str(data_dir / YAMNET),
            "input": {"kind": "audio", "rate": RATE},
        },
        "vad": {"path": "vad"},
        "machine": {"path": str(data_dir / "tinymlperf/ad01_int8.tflite")},
    }
    pipelines: dict[str, Any] = {
        "keywords": {"source": {"type": "mqtt", "topic": "say/keyword"}, "model": "keywords"},
        "sounds": {"source": {"type": "mqtt", "topic": "say/sound"}, "model": "sounds", "window": {"hop": "480ms"}},
        "vad": {"source": {"type": "mqtt", "topic": "say/speech"}, "model": "vad", "window": {}},
        "talk": {
            "source": {"type": "mqtt", "topic": "say/speech"},
            "model": "vad",
            "window": {},
            "publish": {"on_change": True},
            "smoothing": {"over": 10, "on": 0.6, "off": 0.4, "min_duration": "200ms"},
        },
        "machine": {"source": {"type": "mqtt", "topic": "say/machine"}, "model": "machine"},
    }
    config = configuration(broker, "ears", models=models, pipelines=pipelines)
    with Subscriber(broker.port, "edge/ears/#") as subscriber, Daemon(folder, config) as daemon:
        yield daemon, subscriber


def last_stats(subscriber: Subscriber) -> bytes:
    return [message.payload for message in list(subscriber.messages) if message.topic == "edge/ears/stats"][-1]


def results(subscriber: Subscriber, pipeline: str, count: int, timeout: float = 30.0) -> list[dict[str, Any]]:
    topic = f"edge/ears/{pipeline}/result"
    messages = subscriber.wait_for(lambda message: message.topic == topic, count, timeout)
    return [json.loads(message.payload) for message in messages]


def test_a_keyword_and_silence_are_told_apart_by_their_mfcc(device: tuple[Daemon, Subscriber], data_dir: Path) -> None:
    _, subscriber = device
    for name in ("tflm_yes_1000ms", "tflm_silence_1000ms"):
        subscriber.publish("say/keyword", sound(data_dir / f"wav/{name}.wav").tobytes())
    subscriber.publish("say/keyword", (data_dir / "wav/tflm_yes_1000ms.wav").read_bytes())
    subscriber.publish("say/keyword", (data_dir / "wav/speech.wav").read_bytes())
    yes, silence, again = (one["predictions"][0] for one in results(subscriber, "keywords", 3))
    assert again == yes
    [error] = subscriber.wait_for(lambda message: message.topic == "edge/ears/keywords/error")
    assert "expected sound for one input of the model, found 68360 samples" in json.loads(error.payload)["error"]
    assert (yes["label"], yes["confidence"] >= 0.95) == ("Yes", True)
    assert (silence["label"], silence["confidence"] >= 0.8) == ("Silence", True)


def test_speech_is_heard_in_windows_that_overlap(device: tuple[Daemon, Subscriber], data_dir: Path) -> None:
    _, subscriber = device
    samples = sound(data_dir / "wav/speech.wav")
    for begin in range(0, len(samples), 4000):
        subscriber.publish("say/sound", samples[begin : begin + 4000].tobytes())
    windows = (len(samples) - 15_600) // 7680 + 1
    found = results(subscriber, "sounds", windows)
    assert [one["input"]["position_s"] for one in found] == [round(0.48 * number, 3) for number in range(windows)]
    first = found[0]["predictions"][0]
    assert (first["label"], first["confidence"] >= 0.9) == ("Speech", True)
    info = json.loads(subscriber.wait_for(lambda message: message.topic == "edge/ears/info")[-1].payload)
    labels = {name: model["multi_label"] for name, model in info["models"].items()}
    assert labels == {"keywords": False, "sounds": True, "vad": True, "machine": False}


def test_a_model_with_a_state_tells_speech_frames_from_others(
    device: tuple[Daemon, Subscriber], data_dir: Path
) -> None:
    _, subscriber = device
    samples = sound(data_dir / "wav/silero_test.wav")
    for begin in range(0, len(samples), RATE):
        subscriber.publish("say/speech", samples[begin : begin + RATE].tobytes())
    found = results(subscriber, "vad", 1874, 60.0)
    share = sum(one["predictions"][0]["confidence"] > 0.5 for one in found) / len(found)
    print(f"{share:.2%} of {len(found)} frames are speech")
    assert 0.76 <= share <= 0.78
    # Steadied, with a beginning and an end each.
    messages = subscriber.wait_for(lambda message: message.topic == "edge/ears/talk/event", 4)
    events = [json.loads(message.payload) for message in messages]
    assert [event["event"] for event in events] == (["start", "end"] * len(events))[: len(events)]
    assert all(event["seconds"] > 0.2 for event in events if event["event"] == "end")


def what_is_normal(data_dir: Path) -> list[float]:
    """What the model gives back of what it gives back of an even spectrum: to it, that is as machines sound."""
    engine = load_engine(inspect.read(data_dir / "tinymlperf/ad01_int8.tflite").identity, "cpu", 1)
    [into], [out] = engine.inputs, engine.outputs
    values = np.full(640, -30.0)
    for _ in range(2):
        stored = np.clip(np.rint(values / into.scale) + into.zero_point, -128, 127).astype(np.int8)
        values = (engine.run([stored[None]])[0][0].astype(float) - out.zero_point) * out.scale
    return [round(value, 3) for value in values.tolist()]


def test_normal_sound_of_a_machine_scores_far_below_noise(device: tuple[Daemon, Subscriber], data_dir: Path) -> None:
    _, subscriber = device
    noise = np.random.default_rng(1).normal(-30, 15, 640).round(2).tolist()
    subscriber.publish("say/machine", json.dumps({"values": what_is_normal(data_dir)}))
    subscriber.publish("say/machine", json.dumps(noise))
    subscriber.publish("say/machine", json.dumps(noise[:-1]))
    subscriber.publish("say/machine", "[1, NaN]")
    quiet, loud = (one["predictions"][0]["value"] for one in results(subscriber, "machine", 2))
    print(f"normal {quiet}, noise {loud}")
    assert quiet < 20
    assert loud > 200
    subscriber.wait_for(lambda message: message.topic == "edge/ears/machine/error", 2)
    errors = [json.loads(one.payload)["error"] for one in subscriber.messages if one.topic.endswith("machine/error")]
    assert "expected 640 numbers, found 639" in errors
    assert any("NaN is no number" in error for error in errors)


def test_wav_files_are_heard_window_by_window_and_what_is_left_of_one_is_counted(
    mosquitto: Mosquitto, data_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "wav"
    folder.mkdir()
    for name in ("speech", "tflm_yes_1000ms"):
        (folder / f"{name}.wav").write_bytes((data_dir / f"wav/{name}.wav").read_bytes())
    model = {"path": str(data_dir / YAMNET), "input": {"kind": "audio", "rate": RATE}}
    pipelines = {"files": {"source": {"type": "audio", "path": "wav"}, "model": "sounds"}}
    config = configuration(mosquitto, "ears", models={"sounds": model}, pipelines=pipelines)
    with Subscriber(mosquitto.port, "edge/ears/#") as subscriber:
        assert Daemon(tmp_path, config, arguments=("--once",)).start().wait(60).code == 0
        windows = len(sound(data_dir / "wav/speech.wav")) // 15_600
        found = results(subscriber, "files", windows + 1)
        assert [(Path(one["input"]["path"]).stem, one["input"]["position_s"]) for one in found] == [
            *(("speech", round(0.975 * number, 3)) for number in range(windows)),
            ("tflm_yes_1000ms", 0),
        ]
        assert found[0]["predictions"][0]["label"] == "Speech"
        counts = json.loads(last_stats(subscriber))["pipelines"]["files"]
        assert (counts["captured"], counts["inferred"], counts["dropped"]["stale"]) == (windows + 2, windows + 1, 1)
