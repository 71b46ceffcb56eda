"""`predict` on what is no single picture: sound of any length, videos, folders, readings, standard input."""

import io
import json
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import cli
from edge_agent.commands import predict_inputs
from edge_agent.models.shipped import shipped
from edge_agent.models.summary import Summary
from edge_agent.samples import Prediction

GOLDEN = shipped("digits") / "golden"
SEVEN = GOLDEN / "7_printed.png"


def predict(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["predict", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def documents(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> list[dict[str, Any]]:
    found, out, _ = predict(capsys, *arguments, "--json")
    assert found == code
    read: list[dict[str, Any]] = json.loads(out)
    return read


class Stdin(io.TextIOWrapper):
    """Standard input that holds a file."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))


@pytest.fixture
def yamnet(data_dir: Path) -> Path:
    return data_dir / "audio/yamnet_audio_classifier_with_metadata.tflite"


def write_wav(path: Path, sound: np.ndarray[Any, Any], rate: int) -> Path:
    """Writes sound of shape (samples, channels), int16."""
    with wave.open(str(path), "wb") as file:
        file.setparams((sound.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(sound.astype("<i2").tobytes())
    return path


def read_wav(path: Path) -> np.ndarray[Any, Any]:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())


def test_sound_longer_than_a_window_is_summed_up(
    yamnet: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (document,) = documents(capsys, yamnet, data_dir / "wav/speech.wav", "--top-k", "3")
    top, windows = document["predictions"][0], document["windows"]
    assert [window["position_s"] for window in windows] == pytest.approx([0, 0.975, 1.95, 2.925], abs=0.002)
    speech = [window["predictions"][0] for window in windows]
    assert {one["label"] for one in speech} == {top["label"]} == {"Speech"}
    scores = [one["confidence"] for one in speech]
    assert top["confidence"] == pytest.approx(sum(scores) / len(scores), abs=0.0002)
    assert (top["most"], top["most_at_s"]) == (max(scores), windows[scores.index(max(scores))]["position_s"])
    assert len(document["predictions"]) == 3
    assert set(document["input"]) == {"path"}


def test_what_is_confident_in_one_window_only_is_kept_and_found_again(
    yamnet: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room = "Inside, small room"
    (document,) = documents(capsys, yamnet, data_dir / "wav/speech.wav", "--min-confidence", "0.05")
    (found,) = [one for one in document["predictions"] if one["label"] == room]
    assert found["confidence"] < 0.05 <= found["most"]
    holding = [w["position_s"] for w in document["windows"] if any(one["label"] == room for one in w["predictions"])]
    assert found["most_at_s"] in holding


def test_stereo_sound_of_another_rate_means_the_same(
    yamnet: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mono = read_wav(data_dir / "wav/speech.wav")
    wide = write_wav(tmp_path / "wide.wav", mono.repeat(3, axis=0).repeat(2, axis=1), 48000)
    (document,) = documents(capsys, yamnet, wide)
    assert document["predictions"][0]["label"] == "Speech"
    assert document["predictions"][0]["confidence"] > 0.8
    assert len(document["windows"]) == 4


@pytest.mark.parametrize(("seconds", "windows"), [(0.3, 1), (0.975, 1), (1.1, 1), (1.9, 2)])
def test_the_end_is_filled_up_with_silence_if_it_is_worth_it(
    seconds: float,
    windows: int,
    yamnet: Path,
    data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sound = read_wav(data_dir / "wav/speech.wav")[: int(seconds * 16000)]
    (document,) = documents(capsys, yamnet, write_wav(tmp_path / "short.wav", sound, 16000))
    assert document["predictions"][0]["label"] == "Speech"
    assert len(document.get("windows", [document])) == windows


def test_windows_overlap_where_that_is_stated(yamnet: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (document,) = documents(capsys, yamnet, data_dir / "wav/speech.wav", "--every", "500ms")
    begins = [window["position_s"] for window in document["windows"]]
    assert np.diff(begins) == pytest.approx(0.5, abs=0.002)
    assert len(begins) > 4


def test_sound_that_is_no_wav_is_named(yamnet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "song.mp3").write_bytes(b"ID3\x04\0\0\0\0\0\0" + bytes(100))
    code, _, err = predict(capsys, yamnet, tmp_path / "song.mp3")
    assert code == 1
    assert "MP3" in err
    assert "ffmpeg" in err


@pytest.mark.parametrize("through", ["file", "standard input"])
def test_of_a_video_a_frame_is_taken_at_each_interval(
    through: str, data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, video = data_dir / "detect_onnx/yolox_nano.onnx", data_dir / "video/bottle-detection.mp4"
    labels = ("--labels", data_dir / "labels/coco80_names.txt", "--every", "10s", "--min-confidence", "0.4")
    monkeypatch.setattr("sys.stdin", Stdin(video.read_bytes()))
    read = documents(capsys, model, video if through == "file" else "-", *labels)
    assert [document["input"]["position_s"] for document in read] == pytest.approx([0, 10, 20, 30], abs=0.05)
    assert {document["input"]["path"] for document in read} == {str(video) if through == "file" else "-"}
    assert all("bottle" in {one["label"] for one in document["predictions"]} for document in read[:1])
    assert [document["seq"] for document in read] == [1, 2, 3, 4]


def test_a_video_is_bounded_and_that_is_said(
    data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_inputs, "MAX_PARTS", 2)
    code, out, err = predict(capsys, "digits", data_dir / "video/bottle-detection.mp4", "--every", "1s", "--json")
    assert (code, len(json.loads(out))) == (0, 2)
    assert "only its first 2 frames" in err


def test_frames_with_their_predictions_are_written_one_by_one(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video, out = data_dir / "video/bottle-detection.mp4", tmp_path / "frames"
    read = documents(capsys, "digits", video, "--every", "15s", "--annotate", out)
    names = [f"bottle-detection_{document['input']['frame']:06}.jpg" for document in read]
    assert sorted(path.name for path in out.iterdir()) == names
    assert len(names) > 1


def test_a_video_that_can_not_be_read_is_an_error_in_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(200))
    bad, good = documents(capsys, "digits", tmp_path / "cut.mp4", SEVEN, code=1)
    assert "can't be opened as a video" in bad["error"]
    assert good["predictions"][0]["label"] == "7"


def test_a_folder_stands_for_the_files_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("b.PNG", "a.png", "more/c.png", ".hidden.png"):
        shutil.copy(SEVEN, folder / name)
    (folder / "notes.txt").write_text("no picture")
    read = documents(capsys, "digits", folder, SEVEN)
    assert [document["input"]["path"] for document in read] == [
        *(str(folder / name) for name in ("a.png", "b.PNG", "more/c.png")),
        str(SEVEN),
    ]


def test_a_folder_is_bounded_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_inputs, "MAX_FILES", 1)
    for name in ("a.png", "b.png"):
        shutil.copy(SEVEN, tmp_path / name)
    code, out, err = predict(capsys, "digits", tmp_path, "--json")
    assert (code, len(json.loads(out))) == (0, 1)
    assert "only its first 1 files" in err


def test_a_folder_without_anything_for_the_model_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sound.wav").touch()
    (document,) = documents(capsys, "digits", tmp_path, code=1)
    assert "no image and no video" in document["error"]
    assert document["input"] == {"path": str(tmp_path)}


def readings(name: str) -> list[Any]:
    values: list[Any] = json.loads((shipped(name)).read_text())["values"]
    return values


def test_readings_as_csv_are_as_many_inputs_as_they_make(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resting, running = readings("activity/golden/stationary_0.json"), readings("activity/golden/running_0.json")
    for name, rows in (("one", resting), ("three", [*resting, *running, *running]), ("short", resting[:20])):
        (tmp_path / f"{name}.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    paths = [tmp_path / f"{name}.csv" for name in ("one", "three", "short")]
    one, three, short = documents(capsys, "activity", *paths, code=1)
    assert "windows" not in one
    assert [window["predictions"][0]["label"] for window in three["windows"]] == ["stationary", "running", "running"]
    assert [window["position_s"] for window in three["windows"]] == [0, 2, 4]
    assert three["predictions"][0]["label"] == "running"
    assert three["predictions"][0]["confidence"] == pytest.approx(2 / 3, abs=0.1)
    assert "expected" in short["error"]
    _, out, _ = predict(capsys, "activity", tmp_path / "three.csv")
    assert [line.strip() for line in out.splitlines()[-2:]] == ["from 0.0 s: stationary", "from 2.0 s: running"]


def test_anomaly_scores_are_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    normal, broken = readings("vibration/golden/normal_0.json"), readings("vibration/golden/anomaly_0.json")
    (tmp_path / "both.json").write_text(json.dumps({"values": [*normal, *broken]}))
    (document,) = documents(capsys, "vibration", tmp_path / "both.json")
    values = [window["predictions"][0]["value"] for window in document["windows"]]
    (score,) = document["predictions"]
    assert (score["label"], score["most"]) == ("anomaly", pytest.approx(max(values)))
    assert score["value"] == pytest.approx(sum(values) / 2, rel=1e-5)


def test_a_picture_comes_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Stdin(SEVEN.read_bytes()))
    (document,) = documents(capsys, "digits", "-")
    assert (document["predictions"][0]["label"], document["input"]["path"]) == ("7", "-")


def test_standard_input_is_read_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = predict(capsys, "digits", "-", "-")
    assert (code, len(err.splitlines())) == (2, 1)


def test_sound_comes_from_standard_input(
    yamnet: Path, data_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data_dir / "wav/speech.wav"
    monkeypatch.setattr("sys.stdin", Stdin(path.read_bytes()))
    (piped,) = documents(capsys, yamnet, "-")
    (named,) = documents(capsys, yamnet, path)
    assert piped["windows"] == named["windows"]


def test_what_would_be_no_percent_is_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = predict(capsys, "digits", SEVEN, "--top-k", "11")
    (document,) = documents(capsys, "digits", SEVEN, "--top-k", "11")
    assert len(document["predictions"]) == 11
    above = [one for one in document["predictions"] if one["confidence"] > 0]
    assert len(out.splitlines()) == 1 + len(above) < 12
    assert "  0.00%" not in out


def test_the_time_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    (document,) = documents(capsys, "digits", SEVEN, "--time")
    assert list(document["time_ms"]) == ["read", "decode", "prepare", "infer", "decode_outputs"]
    assert all(value >= 0 for value in document["time_ms"].values())
    times = document["timing_ms"]
    assert document["time_ms"]["infer"] == times["inference"]
    assert document["time_ms"]["decode"] + document["time_ms"]["prepare"] == pytest.approx(
        times["preprocess"], abs=0.02
    )
    (plain,) = documents(capsys, "digits", SEVEN)
    assert "time_ms" not in plain
    _, out, _ = predict(capsys, "digits", SEVEN, SEVEN, "--time")
    assert [line for line in out.splitlines() if line.startswith(("median of 2", "model:"))]


@pytest.mark.parametrize(
    ("head", "video"),
    [
        (b"\0\0\0\x18ftypisom", True),
        (b"\0\0\0\x18ftypheic", False),
        (b"\0\0\0\x18ftypavif", False),
        (b"RIFF\0\0\0\0AVI LIST", True),
        (b"RIFF\0\0\0\0WEBPVP8 ", False),
        (b"RIFF\0\0\0\0WAVEfmt ", False),
        (b"\x1aE\xdf\xa3", True),
        (b"\x47" + bytes(187) + b"\x47", True),
        (b"\xff\xd8\xff\xe0", False),
        (b"", False),
    ],
)
def test_videos_are_known_by_their_first_bytes(head: bytes, video: bool) -> None:
    assert predict_inputs.is_video(head) is video


def test_a_value_is_summed_up_with_the_label_of_its_highest_window() -> None:
    summary = Summary()
    for value, label, begins in ((1.0, "normal", 0.0), (9.0, "anomaly", 2.0), (2.0, "normal", 4.0)):
        summary.add([Prediction(label, None, None, value=value)], begins)
    assert summary.predictions(5, 0.0) == [{"label": "anomaly", "value": 4.0, "most": 9.0, "most_at_s": 2.0}]
