"""Writes recordings as other programs open them: MP4 with predictions drawn in, WAV, CSV, or a file for each input."""

import csv
import json
import statistics
import wave
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edge_agent.errors import ConfigError, InputError
from edge_agent.keeping.chosen import ENDINGS
from edge_agent.keeping.payload import SERIES
from edge_agent.keeping.recording import Recording, sample_of
from edge_agent.preprocess.decoding import decode_picture
from edge_agent.preprocess.opencv import cv2
from edge_agent.publish.drawing import annotate
from edge_agent.sample_store.segment import Entry, StoreError
from edge_agent.samples import Prediction, Series, timestamp

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Frames a second of a video, and seconds for which a picture stands at most, where inputs are missing.
MIN_RATE, MAX_RATE, MAX_STILL = 1.0, 30.0, 60.0
MAX_SIDE = 1920
FULL_SCALE = 32767


def export(recording: Recording, out: Path) -> int:
    """Writes a recording; the ending of the file states the kind, and without one it is a folder.

    Args:
        recording: what to write.
        out: a new file `.mp4`, `.wav` or `.csv`, or a new or empty folder.

    Returns:
        How many inputs were written.

    Raises:
        ConfigError: the kind does not fit what was recorded, or there is something in the place of `out`.
        StoreError: the recording can't be used, or nothing here writes such a file.
        OSError: a file can't be read or written.
    """
    kinds = {".mp4": _video, ".wav": _sound, ".csv": _table, "": _files}
    write = kinds.get(out.suffix.lower())
    if write is None:
        raise ConfigError([f"{out}: expected .mp4, .wav, .csv, or a folder"])
    if out.exists() and not (write is _files and out.is_dir() and not any(out.iterdir())):
        raise ConfigError([f"{out}: is there already"])
    return write(recording, out)


def _files(recording: Recording, out: Path) -> int:
    """Each input as it came, and `results.jsonl` with what is recorded of it."""
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    with (out / "results.jsonl").open("w", encoding="utf-8") as results:
        for count, entry in enumerate(recording.entries(), 1):
            media = _facts(entry).get("media")
            name = f"{count:06}{'.f32' if media == SERIES else ENDINGS.get(str(media), '.bin')}"
            (out / name).write_bytes(entry.data)
            results.write(json.dumps({"file": name, **entry.document}) + "\n")
    return count


def _facts(entry: Entry) -> Mapping[str, Any]:
    facts = entry.document.get("input")
    return facts if isinstance(facts, dict) else {}


def _video(recording: Recording, out: Path) -> int:
    """Pictures with their predictions drawn in. Each stands until the next one; sizes that change are fitted."""
    times = [float(entry.document["captured"]) for entry in recording.entries()]
    steps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    rate = min(max(1 / statistics.median(steps), MIN_RATE), MAX_RATE) if steps else MIN_RATE
    writer: Any = None
    count = written = 0
    before: NDArray[np.uint8] | None = None
    try:
        for captured, picture in _pictures(recording):
            if writer is None:
                size = picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2
                writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
                if not writer.isOpened():
                    raise StoreError(f"{out}: this OpenCV writes no MP4: export to a folder")
                begin = captured
            until = min(round((captured - begin) * rate), written + round(MAX_STILL * rate))
            while before is not None and written < until:
                writer.write(before)
                written += 1
            before = _fitted(picture, size)
            count += 1
        if before is None:
            raise ConfigError([f"{recording.path}: there is no picture in it: export it as .csv or to a folder"])
        writer.write(before)
    finally:
        if writer is not None:
            writer.release()
    return count


def _pictures(recording: Recording) -> "Iterator[tuple[float, NDArray[np.uint8]]]":
    for entry in recording.entries():
        sample = sample_of(entry)
        try:
            pixels = decode_picture(sample.data).pixels if isinstance(sample.data, bytes) else sample.data
        except InputError:
            continue
        if isinstance(pixels, np.ndarray):
            yield sample.captured, annotate(pixels, predictions_of(entry), max_side=MAX_SIDE)


def predictions_of(entry: Entry) -> list[Prediction]:
    """The recorded predictions, as far as they are drawn."""
    result = entry.document.get("result")
    found = result.get("predictions") if isinstance(result, dict) else None
    return [
        Prediction(
            one.get("label"),
            one.get("class_id"),
            one.get("confidence"),
            box=tuple(box) if isinstance(box := one.get("box"), list) else None,
            keypoints=tuple(map(tuple, points)) if isinstance(points := one.get("keypoints"), list) else None,
            value=one.get("value"),
            track_id=one.get("track_id"),
        )
        for one in (found if isinstance(found, list) else [])
        if isinstance(one, dict)
    ]


def _fitted(picture: "NDArray[np.uint8]", size: tuple[int, int]) -> "NDArray[np.uint8]":
    """A picture in a frame of this width and height, with black around it where its shape is another one."""
    width, height = size
    rows, columns = picture.shape[:2]
    scale = min(width / columns, height / rows)
    across, down = max(1, min(width, round(columns * scale))), max(1, min(height, round(rows * scale)))
    if (columns, rows) == size:
        return picture
    frame = np.zeros((height, width, 3), np.uint8)
    top, left = (height - down) // 2, (width - across) // 2
    frame[top : top + down, left : left + across] = cv2.resize(
        picture, (across, down), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return frame


def _windows(recording: Recording) -> Iterator[tuple[Entry, Series]]:
    """The recorded readings.

    Raises:
        ConfigError: windows overlap.
    """
    options = recording.head.get("options")
    window = options.get("window") if isinstance(options, dict) else None
    if isinstance(window, dict) and window.get("hop") is not None:
        raise ConfigError([f"{recording.path}: its windows may overlap (window.hop): export it to a folder"])
    for entry in recording.entries():
        data = sample_of(entry).data
        if isinstance(data, Series):
            yield entry, data


def _sound(recording: Recording, out: Path) -> int:
    """All windows one after the other, 16 bits."""
    parts = [series for _, series in _windows(recording)]
    rates = {series.rate for series in parts}
    if len(rates) != 1 or None in rates:
        raise ConfigError([f"{recording.path}: expected sound of one known rate; export it as .csv or to a folder"])
    with out.open("wb") as file:
        write_wav(file, rates.pop() or 0, (series.values for series in parts))
    return len(parts)


def write_wav(file: IO[bytes], rate: float, parts: "Iterable[NDArray[np.float32]]") -> None:
    """Writes sound of 16 bits.

    Args:
        file: is written to.
        rate: samples a second.
        parts: (samples, channels), from -1 to 1; at least one.
    """
    with wave.open(file, "wb") as out:
        for number, values in enumerate(parts):
            if not number:
                out.setnchannels(values.shape[1])
                out.setsampwidth(2)
                out.setframerate(round(rate))
            samples = np.rint(np.clip(values, -1, 1) * FULL_SCALE)
            out.writeframes(samples.astype("<i2").tobytes())


def _table(recording: Recording, out: Path) -> int:
    """Readings with their times; where there are none, a row for each prediction."""
    with out.open("w", encoding="utf-8", newline="") as file:
        writer, count = csv.writer(file), 0
        for entry, series in _windows(recording):
            if not count:
                names: Sequence[str] = series.channels or [f"channel_{n}" for n in range(series.values.shape[1])]
                writer.writerow(["captured_at", *names])
            end, step = recording.captured_at(entry.document), 1 / series.rate if series.rate else 0.0
            last = len(series.values) - 1
            for number, row in enumerate(series.values.tolist()):
                writer.writerow([timestamp(end - (last - number) * step), *row])
            count += 1
        return count or _predictions_table(recording, writer)


def _predictions_table(recording: Recording, writer: Any) -> int:
    writer.writerow(
        ["captured_at", "input", "label", "confidence", "value", "track_id", "x1", "y1", "x2", "y2", "error"]
    )
    count = 0
    for count, entry in enumerate(recording.entries(), 1):
        at = timestamp(recording.captured_at(entry.document))
        if "error" in entry.document:
            writer.writerow([at, count, *[""] * 8, entry.document["error"]])
        for one in predictions_of(entry):
            box = one.box or ("", "", "", "")
            writer.writerow([at, count, one.label, one.confidence, one.value, one.track_id, *box, ""])
    return count
