"""What a recording shows: where its pictures are, its readings as a curve, its sound, and what the model has said."""

import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from edge_agent.errors import InputError
from edge_agent.keeping.payload import JSON, TEXT, UNKNOWN
from edge_agent.keeping.recording import Recording, open_recording, sample_of
from edge_agent.keeping.recording_export import write_wav
from edge_agent.monitoring.page.curves import MOST_CHANNELS
from edge_agent.sample_store.segment import Entry, StoreError, walk
from edge_agent.samples import Series
from edge_agent.timeseries import wav
from edge_agent.timeseries.numbers import NumberFormat, read_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Inputs of a recording that are shown, points of its curve, and samples of its sound: four minutes at 16 kHz.
MOST_INPUTS, POINTS, MOST_SAMPLES = 3000, 600, 4_000_000
# Readings a second from which on they can be heard.
LEAST_RATE = 4000
# Seconds by which a window may come late, and still follows the one before.
JITTER = 0.25


class Shown(TypedDict):
    """What the page shows of a recording; moments are seconds since the epoch.

    Attributes:
        frames: offset in the file and moment of each picture.
        results: moment, label and score of what came first in each result.
        sound: whether it can be heard.
        curve: channels, and the lowest and highest value of each of up to `POINTS` parts of the time, None where there
            is none; None: there are no readings.
    """

    name: str
    reason: str
    begins: float
    ends: float
    frames: list[tuple[int, float]]
    results: list[tuple[float, str, float | None]]
    sound: bool
    curve: dict[str, Any] | None


def show(path: Path) -> Shown | None:
    """What a recording shows; None if there is nothing in it.

    Raises:
        StoreError: it can't be read, or is none.
        OSError: as above.
    """
    recording = open_recording(path)
    head = recording.head
    frames, results, moments, parts = (
        list[tuple[int, float]](),
        list[Any](),
        list[float](),
        list[tuple[float, Series]](),
    )
    readings = 0
    for at, moment, entry in _inputs(recording):
        moments.append(moment)
        if _media(entry).startswith("image/"):
            frames.append((at, moment))
        elif readings < MOST_SAMPLES and (series := _series(entry, head)) is not None:
            readings += series.values.size
            parts.append((moment, series))
        if (best := _best(entry)) is not None:
            results.append((moment, *best))
    if not moments:
        return None
    begins = min([moments[0], *(moment - _length(series) for moment, series in parts)])
    return {
        "name": path.name,
        "reason": str(head.get("reason")),
        "begins": begins,
        "ends": moments[-1],
        "frames": frames,
        "results": results,
        "sound": _rate(parts) is not None,
        "curve": _curve(parts, begins, moments[-1]) if parts else None,
    }


def sound(path: Path) -> bytes | None:
    """The sound of a recording as WAV; silence where inputs are missing. None if it has none.

    Raises:
        StoreError: it can't be read, or is none.
        OSError: as above.
    """
    recording, parts, samples = open_recording(path), list[tuple[float, Series]](), 0
    head = recording.head
    for _, moment, entry in _inputs(recording):
        if samples < MOST_SAMPLES and (series := _series(entry, head)) is not None:
            samples += series.values.size
            parts.append((moment, series))
    rate = _rate(parts)
    if rate is None:
        return None
    file = io.BytesIO()
    write_wav(file, rate, _following(parts, rate, _hop(head, parts)))
    return file.getvalue()


def _inputs(recording: Recording) -> Iterator[tuple[int, float, Entry]]:
    """Offset, moment and entry of the inputs of a recording."""
    found = ((at, entry) for at, entry in walk(recording.path) if "captured_at" in entry.document)
    for at, entry in islice(found, MOST_INPUTS):
        moment = recording.captured_at(entry.document)
        if math.isfinite(moment):
            yield at, moment, entry


def _media(entry: Entry) -> str:
    facts = entry.document.get("input")
    return str(facts.get("media")) if isinstance(facts, dict) else ""


def _series(entry: Entry, head: Mapping[str, Any]) -> Series | None:
    """The readings that an input holds; None where it holds none, or none that can be drawn."""
    if _media(entry) in (UNKNOWN, TEXT, JSON) and not entry.data.startswith(wav.MAGICS):
        source = head.get("source")
        numbers: NumberFormat = source.get("numbers") if isinstance(source, dict) else None
        try:
            found = read_numbers(entry.data, numbers)
        except InputError:
            return None
        values = found.values.reshape(len(found.values), -1) if found.values.ndim else found.values.reshape(1, 1)
        return Series(values, found.channels, found.rate)
    try:
        data = sample_of(entry).data
        series = wav.decode(data) if isinstance(data, bytes) and data.startswith(wav.MAGICS) else data
    except (StoreError, InputError):
        return None
    return series if isinstance(series, Series) and series.values.size else None


def _length(series: Series) -> float:
    return len(series.values) / series.rate if series.rate else 0.0


def _best(entry: Entry) -> tuple[str, float | None] | None:
    """Label and score of the first prediction that is recorded."""
    result = entry.document.get("result")
    found = result.get("predictions") if isinstance(result, dict) else None
    first = found[0] if isinstance(found, list) and found else None
    if not isinstance(first, dict):
        return None
    score = next((first[key] for key in ("value", "confidence") if isinstance(first.get(key), int | float)), None)
    return str(first.get("label") or first.get("class_id", "")), score


def _rate(parts: list[tuple[float, Series]]) -> float | None:
    """The sampling rate of sound; None if it is none, or has several."""
    rates = {(series.rate, series.values.shape[1]) for _, series in parts}
    rate, _ = rates.pop() if len(rates) == 1 else (None, 0)
    return rate if rate is not None and rate >= LEAST_RATE else None


def _following(parts: list[tuple[float, Series]], rate: float, hop: float | None) -> "Iterator[NDArray[np.float32]]":
    """Windows one after the other: without what was in the one before, and with silence where one is missing.

    Args:
        parts: moment and window.
        rate: samples a second.
        hop: seconds from one window to the next; None: they do not overlap.
    """
    ended, left = None, MOST_SAMPLES
    for moment, series in parts:
        values = series.values
        step = _length(series) if hop is None else hop
        if ended is not None and moment - ended - step > JITTER:
            missing = min(max(0, round((moment - ended) * rate) - len(values)), left // values.shape[1])
            left -= missing * values.shape[1]
            yield np.zeros((missing, values.shape[1]), np.float32)
            step = moment - ended
        yield values if ended is None else values[max(0, len(values) - round(step * rate)) :]
        ended = moment


def _hop(head: Mapping[str, Any], parts: Sequence[tuple[float, Series]]) -> float | None:
    """Seconds from one window to the next, where they overlap; None where they do not."""
    options = head.get("options")
    window = options.get("window") if isinstance(options, dict) else None
    hop = window.get("hop") if isinstance(window, dict) else None
    if isinstance(hop, int):  # a number of readings, or of rows of features: then the windows themselves say it
        return statistics.median(later - earlier for (earlier, _), (later, _) in pairwise(parts)) if parts[1:] else None
    return hop if isinstance(hop, float) else None


def _curve(parts: list[tuple[float, Series]], begins: float, ends: float) -> dict[str, Any]:
    """The lowest and highest values of each part of the time: `POINTS` parts, or fewer where readings are few."""
    first = parts[0][1]
    count = min(first.values.shape[1], MOST_CHANNELS)
    points = max(1, min(POINTS, sum(len(series.values) for _, series in parts) // 2))
    low, high = np.full((points, count), np.inf), np.full((points, count), -np.inf)
    step, before = max(ends - begins, 1e-3) / points, begins
    for moment, series in parts:
        if series.values.shape[1] < count:
            continue
        values = np.nan_to_num(series.values[:, :count])
        # Without a rate they have been taken since the ones before.
        apart = 1 / series.rate if series.rate else max(0.0, moment - before) / len(values)
        before = moment
        times = moment - np.arange(len(values) - 1, -1, -1) * apart
        places = np.clip(((times - begins) / step).astype(np.int64), 0, points - 1)
        np.minimum.at(low, places, values)
        np.maximum.at(high, places, values)
    names = list(first.channels[:count]) or [f"channel {number + 1}" for number in range(count)]
    return {"channels": names, "low": _columns(low), "high": _columns(high)}


def _columns(values: "NDArray[np.float64]") -> list[list[float | None]]:
    return [[float(f"{one:.5g}") if math.isfinite(one) else None for one in column] for column in values.T.tolist()]
