"""Files that are whole inputs: recordings of sound and readings, cut into windows as a pipeline cuts its stream."""

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import InputError
from edge_agent.preprocess.decoding import image_format
from edge_agent.preprocess.files import MAX_FILE_SIZE, read_file
from edge_agent.samples import Sample, Series
from edge_agent.settings.series import Window
from edge_agent.sources import audio
from edge_agent.timeseries.cutting import read_series
from edge_agent.timeseries.numbers import SeriesPreprocess, read_numbers
from edge_agent.timeseries.wav import MAGICS
from edge_agent.timeseries.windows import WindowCutter, chosen_channels

if TYPE_CHECKING:
    import numpy as np

# Most windows of one file.
MAX_PARTS = 10_000
STANDARD_INPUT = "-"
# What remains behind the last window is filled up with silence if it is at least this part of a window.
MIN_REMAINDER = 0.5
# As much of a file as shows what it is, in bytes.
HEAD = 256
_SOUNDS = {b"ID3": "MP3", b"\xff\xfb": "MP3", b"\xff\xf3": "MP3", b"fLaC": "FLAC", b"OggS": "Ogg", b"FORM": "AIFF"}


@dataclass(frozen=True, slots=True)
class Given:
    """One input.

    Attributes:
        path: of the file; `-` for standard input.
        samples: what goes into the model, in order. Errors are samples that hold them.
        windows: whether the samples are windows of one recording, and not inputs of their own.
    """

    path: Path
    samples: Iterator[Sample]
    windows: bool = False


def sample_of(data: "bytes | np.typing.NDArray[np.uint8] | Series | InputError", path: Path, **facts: object) -> Sample:
    """A sample from a file, with facts about its place there."""
    return Sample(data, captured_at=time.time(), captured=time.monotonic(), origin={"path": str(path), **facts})


def read_whole(path: Path) -> Sample:
    """All bytes of a file, of a pipe or of standard input."""
    if str(path) != STANDARD_INPUT:
        return read_file(path)
    content = sys.stdin.buffer.read(MAX_FILE_SIZE + 1)
    if len(content) > MAX_FILE_SIZE:
        return sample_of(InputError(f"{path}: larger than {MAX_FILE_SIZE} bytes"), path)
    return sample_of(content, path)


def head_of(path: Path) -> bytes:
    """How a regular file begins; nothing of others, of which each byte can be read once only."""
    try:
        if str(path) == STANDARD_INPUT or not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""  # reading all of it fails as well, with a message


def of_numbers(path: Path, preprocess: SeriesPreprocess, every: float | None, note: Callable[[str], None]) -> Given:
    """The windows of a file of sound or readings, or all of it where it is one input.

    Args:
        path: of the file; `-` for standard input.
        preprocess: of the model.
        every: seconds from one window to the next; None: the length of a window.
        note: gets a sentence where a bound leaves something out.
    """
    head = head_of(path)
    if head.startswith(MAGICS):
        return Given(path, windows_of(audio.read(path), path, _of_sound(preprocess), every, note), windows=True)
    sample = read_whole(path)
    data = sample.data if isinstance(sample.data, bytes) else b""
    if data.startswith(MAGICS) and image_format(data) is None:
        pieces = audio.read_open(io.BytesIO(data), len(data), str(path))
        return Given(path, windows_of(pieces, path, _of_sound(preprocess), every, note), windows=True)
    windows: list[Sample] = []
    try:
        _check_is_no_other_sound(data)
        if data and (preprocess.input.features is not None or not _is_one_input(data, preprocess)):
            windows = list(windows_of([read_series(data, preprocess)], path, preprocess, every, note))
    except InputError as error:
        return Given(path, iter([replace(sample, data=error)]))
    # Too few: what is expected is said where all of it goes in as one.
    return Given(path, iter(windows or [sample]), windows=bool(windows))


def _check_is_no_other_sound(data: bytes) -> None:
    """Checks that a file is not sound of another format than WAV.

    Raises:
        InputError: it is.
    """
    kind = next((kind for magic, kind in _SOUNDS.items() if data.startswith(magic)), "")
    if data[4:11] in (b"ftypM4A", b"ftypM4B"):
        kind = "M4A"
    if kind:
        hint = "convert it, as with `ffmpeg -i FILE sound.wav`"
        raise InputError(f"expected numbers or a WAV file, found sound as {kind}: {hint}")


def _is_one_input(data: bytes, preprocess: SeriesPreprocess) -> bool:
    """Whether a message has exactly the numbers of one input.

    Raises:
        InputError: it has no numbers, or not the channels of the model.
    """
    found = read_numbers(data)
    values = found.values
    if found.channels:
        values = chosen_channels(Series(values, found.channels), preprocess.input)
    size = 1
    for axis in preprocess.shape:
        size *= axis
    return values.size == size


def _of_sound(preprocess: SeriesPreprocess) -> SeriesPreprocess:
    """The same, for sound, where nothing says what the model takes: all channels become one."""
    if preprocess.input.channels:
        return preprocess
    return replace(preprocess, input=preprocess.input.model_copy(update={"kind": "audio"}))


def windows_of(
    pieces: Iterable[Series | InputError],
    path: Path,
    preprocess: SeriesPreprocess,
    every: float | None,
    note: Callable[[str], None],
) -> Iterator[Sample]:
    """Windows of a recording; what remains of sound is filled up with silence.

    Args:
        pieces: of the recording, in order; an error ends it.
        path: where it comes from.
        preprocess: of the model.
        every: see `of_numbers`.
        note: see `of_numbers`.
    """
    cutter = WindowCutter(preprocess, Window(hop=every))
    count, last = 0, None
    try:
        for series in pieces:
            if isinstance(series, InputError):
                yield sample_of(series, path)
                return
            last = series
            for window in cutter.feed(series, 0.0):
                if count == MAX_PARTS:
                    note(f"{path}: only its first {MAX_PARTS} windows are looked at: give --every more seconds")
                    return
                count += 1
                yield _window(window.series, path, window.begins)
        if last is None or preprocess.input.kind != "audio" or (count and cutter.unfinished < MIN_REMAINDER):
            return
        silence = replace(last, values=last.values[:1].repeat(max(1, len(last.values)), axis=0) * 0, gap=False)
        for _ in range(MAX_PARTS):
            for window in cutter.feed(silence, 0.0):
                yield _window(window.series, path, window.begins)
                return
    except InputError as error:
        yield sample_of(error, path)


def _window(series: Series, path: Path, begins: float | None) -> Sample:
    return sample_of(series, path, **({} if begins is None else {"position_s": round(begins, 3)}))
