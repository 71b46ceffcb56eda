"""`recordings export`: what other programs open."""

import csv
import json
import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent import cli
from edge_agent.keeping.payload import Encoder, encode
from edge_agent.monitoring.page.recorded import show
from edge_agent.sample_store.segment import Appender, Entry
from edge_agent.samples import Series

FOUND = [{"label": "cat", "class_id": 0, "confidence": 0.5, "box": [10, 10, 40, 40]}]


def recording(folder: Path, inputs: list[Any], step: float = 0.5, jump: float = 0.0, **options: Any) -> Path:
    """A recording of encoded pictures or readings, in which the clock jumps after the second input."""
    head = {"pipeline": "porch", "options": options, "started_at": 1001.0, "epoch": 1000.0}
    entries = [Entry({"recording": head}, b"")]
    for number, one in enumerate(inputs):
        data, facts = encode(one, Encoder("png", 95))
        about: dict[str, Any] = {
            "captured": step * number,
            "captured_at": 1000 + step * number + (jump if number > 1 else 0.0),
            "played": None,
            "origin": {},
        }
        result = {"task": "detection", "predictions": FOUND}
        entries.append(Entry({**about, "input": facts, "result": result}, data))
    path = folder / "one.recording"
    Appender(path).append(entry.encoded() for entry in entries)
    return path


def run(*arguments: object) -> int:
    return cli.main(["recordings", "export", *map(str, arguments)])


def picture(width: int, height: int) -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((height, width, 3), 60, np.uint8))[1])


def test_pictures_become_a_video_at_their_pace_though_their_size_changes(tmp_path: Path) -> None:
    inputs = [picture(64, 48), picture(64, 48), picture(30, 90), picture(64, 48), b"no picture"]
    assert run(recording(tmp_path, inputs), tmp_path / "out.mp4") == 0
    video = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == 2
    frames = []
    while (frame := video.read())[0]:
        frames.append(np.asarray(frame[1]))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    assert frames[0].std() > 5  # the box is drawn in
    assert frames[2][:, :10].mean() < 10  # fitted, with black beside it


def test_inputs_become_files_as_they_came(tmp_path: Path) -> None:
    inputs = [picture(64, 48), b"no picture"]
    assert run(recording(tmp_path, inputs), tmp_path / "out") == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [(tmp_path / "out" / row["file"]).read_bytes() for row in rows] == inputs


def test_sound_becomes_a_wav_and_readings_a_table(tmp_path: Path) -> None:
    windows = [Series(np.full((4, 1), value, np.float32), ("x",), 8.0) for value in (0.5, -1.0)]
    path = recording(tmp_path, windows)
    assert run(path, tmp_path / "out.wav") == 0
    with wave.open(str(tmp_path / "out.wav")) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (8, 1)
        assert np.frombuffer(sound.readframes(8), "<i2").tolist() == [16384] * 4 + [-32767] * 4
    assert run(path, tmp_path / "out.csv") == 0
    rows = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    assert rows[0] == ["captured_at", "x"]
    assert [row[1] for row in rows[1:]] == ["0.5"] * 4 + ["-1.0"] * 4
    assert rows[4][0] == "1970-01-01T00:16:40.000Z"


def test_a_table_of_pictures_has_a_row_for_each_prediction(tmp_path: Path) -> None:
    assert run(recording(tmp_path, [picture(64, 48)] * 3), tmp_path / "out.csv") == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [(row["input"], row["label"], row["x2"]) for row in rows] == [(str(n), "cat", "40") for n in (1, 2, 3)]


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
@pytest.mark.parametrize("kind", ["mp4", "wav", "csv"])
def test_a_clock_that_jumps_changes_nothing_that_is_exported(tmp_path: Path, kind: str, jump: float) -> None:
    window = Series(np.full((4, 1), 0.5, np.float32), ("x",), 8.0)
    inputs: list[Any] = [picture(64, 48)] * 5 if kind == "mp4" else [window] * 5
    written = []
    for number, by in enumerate((0.0, jump)):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert run(recording(folder, inputs, jump=by), folder / f"out.{kind}") == 0
        written.append((folder / f"out.{kind}").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_changes_neither_the_list_nor_the_page(
    tmp_path: Path, jump: float, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(tmp_path, [picture(64, 48)] * 5, jump=jump).rename(tmp_path / "00000001-now-event.recording")
    assert cli.main(["recordings", "list", str(tmp_path), "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["recordings"]
    assert (row["inputs"], row["seconds"]) == (5, 2.0)
    shown = show(path)
    assert shown is not None
    assert (shown["begins"], shown["ends"]) == (1000.0, 1002.0)
    assert [moment for _, moment in shown["frames"]] == [1000.0, 1000.5, 1001.0, 1001.5, 1002.0]


@pytest.mark.parametrize(
    ("inputs", "options", "name"),
    [
        ([picture(64, 48)], {}, "out.wav"),
        ([Series(np.zeros((4, 1), np.float32), ("x",), 8.0)], {}, "out.mp4"),
        ([Series(np.zeros((4, 1), np.float32), ("x",), 8.0)], {"window": {"hop": 2}}, "out.wav"),
        ([picture(64, 48)], {}, "out.avi"),
        ([picture(64, 48)], {}, "one.recording"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, inputs: list[Any], options: dict[str, Any], name: str) -> None:
    path = recording(tmp_path, inputs, **options)
    before = path.read_bytes()
    assert run(path, tmp_path / name) == 2
    assert path.read_bytes() == before
