"""The inputs of `predict`: images, videos, sound, readings, folders of them, and standard input, as samples."""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edge_agent.errors import ConfigError, EdgeAgentError, InputError
from edge_agent.preprocess.image import Preprocess
from edge_agent.samples import Sample
from edge_agent.sources import audio, images
from edge_agent.sources.recordings import HEAD, STANDARD_INPUT, Given, head_of, of_numbers, read_whole, sample_of
from edge_agent.sources.video import Video
from edge_agent.timeseries.numbers import SeriesPreprocess

# Most files of a folder, and most frames of one file.
MAX_FILES = 10_000
MAX_PARTS = 10_000
# Seconds from one frame of a video to the next.
FRAME_EVERY = 1.0

_VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mjpeg", ".mjpg", ".ts", ".h264")
_NUMBER_ENDINGS = (*audio.ENDINGS, ".csv", ".json")
# How videos begin: Matroska and WebM, FLV, Ogg, MPEG, ASF, YUV4MPEG2, H.264 as cameras write it.
_VIDEO_MAGICS = (
    *(b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"0&\xb2u", b"YUV4MPEG2"),
    *(b"\0\0\0\x01\x67", b"\0\0\0\x01\x27", b"\0\0\0\x01\x09"),
)
# MP4 and QuickTime have the kind of their first part at byte 4; still images use the same container.
_MP4_PARTS, _STILL_BRANDS = (b"ftyp", b"moov", b"mdat", b"wide"), (b"hei", b"hev", b"mif1", b"msf1", b"avi")


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
            endings = (*images.ENDINGS, *_VIDEO_ENDINGS) if takes_pictures else _NUMBER_ENDINGS
            found = _files(path, endings, note)
            if not found:
                kinds = "image and no video" if takes_pictures else ".wav, .csv or .json file"
                error = InputError(f"{path}: there is no {kinds} in this folder")
                yield Given(path, iter([sample_of(error, path)]))
        else:
            found = [path]
        for file in found:
            if isinstance(preprocess, SeriesPreprocess):
                yield of_numbers(file, preprocess, every, note)
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
    if is_video(head_of(path)):
        return Given(path, _frames(path, path, every, note))
    sample = read_whole(path)
    if isinstance(sample.data, bytes) and is_video(sample.data[:HEAD]):
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
        yield sample_of(InputError(str(error)), path)


def timed(samples: Iterator[Sample]) -> Iterator[tuple[Sample, float]]:
    """Samples, each with the milliseconds that reading it took."""
    while True:
        started = time.monotonic()
        sample = next(samples, None)
        if sample is None:
            return
        yield sample, (time.monotonic() - started) * 1000
