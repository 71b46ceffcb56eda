"""The inputs of `predict`: images, videos, sound, readings, folders of them, and standard input, as samples."""

import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import ConfigError, EdgeAgentError, InputError
from edge_agent.preprocess.decoding import image_format
from edge_agent.preprocess.files import MAX_FILE_SIZE, read_file
from edge_agent.preprocess.image import Preprocess
from edge_agent.samples import Sample, Series
from edge_agent.settings.series import Window
from edge_agent.sources import audio
from edge_agent.sources.video import Video
from edge_agent.timeseries.cutting import read_series
from edge_agent.timeseries.numbers import SeriesPreprocess, read_numbers
from edge_agent.timeseries.wav import MAGICS
from edge_agent.timeseries.windows import WindowCutter, chosen_channels

if TYPE_CHECKING:
    import numpy as np

# Most files of a folder, and most frames or windows of one file.
MAX_FILES = 10_000
MAX_PARTS = 10_000
STANDARD_INPUT = "-"
# Seconds from one frame of a video to the next.
FRAME_EVERY = 1.0
# What remains behind the last window is filled up with silence if it is at least this part of a window.
MIN_REMAINDER = 0.5

_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mjpeg", ".mjpg", ".ts", ".h264")
_NUMBER_ENDINGS = (".wav", ".wave", ".csv", ".json")
_HEAD = 256
# How videos begin: Matroska and WebM, FLV, Ogg, MPEG, ASF, YUV4MPEG2, H.264 as cameras write it.
_VIDEO_MAGICS = (
    *(b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"0&\xb2u", b"YUV4MPEG2"),
    *(b"\0\0\0\x01\x67", b"\0\0\0\x01\x27", b"\0\0\0\x01\x09"),
)
# MP4 and QuickTime have the kind of their first part at byte 4; still images use the same container.
_MP4_PARTS, _STILL_BRANDS = (b"ftyp", b"moov", b"mdat", b"wide"), (b"hei", b"hev", b"mif1", b"msf1", b"avi")
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


def inputs(
    paths: Sequence[Path],
    preprocess: Preprocess | SeriesPreprocess,
    every: float | None,
    note: Callable[[str], None],
) -> Iterator[Given]:
    """The inputs that arguments name, each read when its turn comes.

    Args:
        paths: files, folders, `-` for standard input.
        preprocess: of the model, for which kind of input it takes.
        every: seconds from one frame of a video, or window of a recording, to the next; None: a second, or the length
            of a window.
        note: gets a sentence where a bound leaves something out.
    """
    takes_pictures = isinstance(preprocess, Preprocess)
    for path in paths:
        if path.is_dir():
            endings = (*_PICTURE_ENDINGS, *_VIDEO_ENDINGS) if takes_pictures else _NUMBER_ENDINGS
            found = _files(path, endings, note)
            if not found:
                kinds = "image and no video" if takes_pictures else ".wav, .csv or .json file"
                error = InputError(f"{path}: there is no {kinds} in this folder")
                yield Given(path, iter([_sample(error, path)]))
        else:
            found = [path]
        for file in found:
            if isinstance(preprocess, SeriesPreprocess):
                yield _of_numbers(file, preprocess, every, note)
            else:
                yield _of_pictures(file, every, note)


def check(paths: Sequence[Path]) -> None:
    """Checks the arguments before a model is loaded.

    Raises:
        ConfigError: standard input is named twice, or is a terminal.
    """
    named = sum(str(path) == STANDARD_INPUT for path in paths)
    if named > 1:
        raise ConfigError(["-: standard input can be read once only"])
    if named and sys.stdin.isatty():
        raise ConfigError(["-: standard input is a terminal: send a file there, as in `edge-agent predict … - < FILE`"])


def _files(folder: Path, endings: Sequence[str], note: Callable[[str], None]) -> list[Path]:
    """The files of a folder and of those in it, in the order of their names; hidden ones are left out."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(tuple(endings)) and not name.startswith("."):
                if len(found) == MAX_FILES:
                    note(f"{folder}: only its first {MAX_FILES} files are looked at")
                    return found
                found.append(Path(parent) / name)
    return found


def _sample(data: "bytes | np.typing.NDArray[np.uint8] | Series | InputError", path: Path, **facts: object) -> Sample:
    return Sample(data, captured_at=time.time(), captured=time.monotonic(), origin={"path": str(path), **facts})


def _content(path: Path) -> Sample:
    """All bytes of a file, of a pipe or of standard input."""
    if str(path) != STANDARD_INPUT:
        return read_file(path)
    content = sys.stdin.buffer.read(MAX_FILE_SIZE + 1)
    if len(content) > MAX_FILE_SIZE:
        return _sample(InputError(f"{path}: larger than {MAX_FILE_SIZE} bytes"), path)
    return _sample(content, path)


def _head(path: Path) -> bytes:
    """How a regular file begins; nothing of others, of which each byte can be read once only."""
    try:
        if str(path) == STANDARD_INPUT or not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""  # reading all of it fails as well, with a message


def is_video(head: bytes) -> bool:
    """Whether a file that begins so is a video.

    Args:
        head: its first 256 bytes.
    """
    if head[4:8] in _MP4_PARTS:
        return not head[8:12].startswith(_STILL_BRANDS)
    transport_stream = head[:1] == b"\x47" == head[188:189]
    return head.startswith(_VIDEO_MAGICS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ") or transport_stream


def _of_pictures(path: Path, every: float | None, note: Callable[[str], None]) -> Given:
    if is_video(_head(path)):
        return Given(path, _frames(path, path, every, note))
    sample = _content(path)
    if isinstance(sample.data, bytes) and is_video(sample.data[:_HEAD]):
        return Given(path, _frames_of(sample.data, path, every, note))
    return Given(path, iter([sample]))


def _frames_of(content: bytes, path: Path, every: float | None, note: Callable[[str], None]) -> Iterator[Sample]:
    """The frames of a video in memory. OpenCV reads videos from files only."""
    with tempfile.NamedTemporaryFile(prefix="edge-agent-") as file:
        file.write(content)
        file.flush()
        yield from _frames(Path(file.name), path, every, note)


def _frames(file: Path, path: Path, every: float | None, note: Callable[[str], None]) -> Iterator[Sample]:
    """Frames of a video, (height, width, 3), uint8, BGR.

    Args:
        file: where it is.
        path: what it is called.
        every: see `inputs`.
        note: see `inputs`.
    """
    fps = 1 / (every or FRAME_EVERY)
    video = Video(str(file), str(path), fps, 0.0, loop=False, live=False, paced=False)
    try:
        for count, sample in enumerate(video.samples(threading.Event())):
            if count == MAX_PARTS:
                note(f"{path}: only its first {MAX_PARTS} frames are looked at: give --every more seconds")
                return
            if sample is not None:
                facts = {key: value for key, value in sample.origin.items() if key != "url"}
                yield replace(sample, origin={"path": str(path), **facts})
    except EdgeAgentError as error:
        yield _sample(InputError(str(error)), path)


def _of_numbers(path: Path, preprocess: SeriesPreprocess, every: float | None, note: Callable[[str], None]) -> Given:
    head = _head(path)
    if head.startswith(MAGICS):
        return Given(path, _windows(audio.read(path), path, _of_sound(preprocess), every, note), windows=True)
    sample = _content(path)
    data = sample.data if isinstance(sample.data, bytes) else b""
    if data.startswith(MAGICS) and image_format(data) is None:
        pieces = audio.read_open(io.BytesIO(data), len(data), str(path))
        return Given(path, _windows(pieces, path, _of_sound(preprocess), every, note), windows=True)
    windows: list[Sample] = []
    try:
        _check_is_no_other_sound(data)
        if data and (preprocess.input.features is not None or not _is_one_input(data, preprocess)):
            windows = list(_windows([read_series(data, preprocess)], path, preprocess, every, note))
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


def _windows(
    pieces: Iterable[Series | InputError],
    path: Path,
    preprocess: SeriesPreprocess,
    every: float | None,
    note: Callable[[str], None],
) -> Iterator[Sample]:
    """Windows of a recording; what remains of sound is filled up with silence."""
    cutter = WindowCutter(preprocess, Window(hop=every))
    count, last = 0, None
    try:
        for series in pieces:
            if isinstance(series, InputError):
                yield _sample(series, path)
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
        yield _sample(error, path)


def _window(series: Series, path: Path, begins: float | None) -> Sample:
    return _sample(series, path, **({} if begins is None else {"position_s": round(begins, 3)}))


def timed(samples: Iterator[Sample]) -> Iterator[tuple[Sample, float]]:
    """Samples, each with the milliseconds that reading it took."""
    while True:
        started = time.monotonic()
        sample = next(samples, None)
        if sample is None:
            return
        yield sample, (time.monotonic() - started) * 1000
