"""Writes the video of a recording as the camera sent it, without encoding it again, with the results as subtitles."""

import base64
import binascii
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from edge_agent.errors import ConfigError, MissingExtraError
from edge_agent.keeping.recording import Recording
from edge_agent.keeping.recording_export import predictions_of
from edge_agent.sample_store.segment import Entry, StoreError
from edge_agent.system import atomic_file

# Codecs whose packets a network stream delimits by start codes, and MP4 by lengths.
_WITH_START_CODES = ("h264", "hevc")
_START = b"\0\0\1"
# Seconds that a subtitle stands, at most.
MAX_STILL = 5.0


def export_packets(recording: Recording, out: Path) -> int:
    """Writes the packets as MP4, and beside it `.srt` with what was found.

    A stream that was opened again, or has changed, begins a further file: `NAME-2.mp4`.

    Args:
        recording: what to write.
        out: a new file `.mp4`.

    Returns:
        How many packets were written.

    Raises:
        MissingExtraError: PyAV is not installed.
        ConfigError: there are no packets in it, or something is in the place of `out`.
        StoreError: the recording can't be used.
        OSError: a file can't be read or written.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("exporting the video of a stream", "video", error) from None
    count = 0
    try:
        for number, (header, packets) in enumerate(_streams(recording), 1):
            path = out if number == 1 else out.with_stem(f"{out.stem}-{number}")
            if path.exists():
                raise ConfigError([f"{path}: is there already"])
            count += _write(header, packets, path)
            _subtitles(recording, packets, path.with_suffix(".srt"))
    except av.error.FFmpegError as error:
        raise StoreError(f"{out}: the packets can't be written: {error.strerror}") from None
    if not count:
        raise ConfigError([f"{recording.path}: has no packets of a stream: export it without --as-sent"])
    return count


def _streams(recording: Recording) -> Iterator[tuple[bytes, list[Entry]]]:
    """The header and the packets of each stream; packets before a keyframe are of no use.

    Raises:
        StoreError: what is stated of a packet is not as expected.
    """
    packets: list[Entry] = []
    number, header = None, b""
    for entry in recording.packets():
        facts = _facts(entry)
        if facts["stream"] != number:
            if packets:
                yield header, packets
            packets, number, header = [], facts["stream"], b""
        if not header:
            try:
                header = base64.b64decode(facts.get("header", ""), validate=True)
            except (binascii.Error, TypeError, ValueError):
                raise StoreError(f"{recording.path}: the header of its stream is damaged") from None
        if header:
            packets.append(entry)
    if packets:
        yield header, packets


def _facts(entry: Entry) -> dict[str, Any]:
    facts = entry.document["packet"]
    wanted = {"at": (int, float), "pts": (int,), "dts": (int,), "time_base": (list,), "stream": (int,)}
    if not isinstance(facts, dict) or not all(isinstance(facts.get(key), kinds) for key, kinds in wanted.items()):
        raise StoreError("an entry of the recording is no packet: its times or its stream are missing")
    base = facts["time_base"]
    if len(base) != 2 or not all(isinstance(one, int) and 0 < one < 2**31 for one in base):  # noqa: PLR2004 - a fraction
        raise StoreError("a packet of the recording has no time base")
    return facts


def _write(header: bytes, packets: list[Entry], path: Path) -> int:
    import av

    with av.open(io.BytesIO(header)) as template, av.open(str(path), "w") as file:
        source = template.streams.video[0]
        stream = file.add_stream_from_template(source)
        codec = source.codec_context.name
        begin = _facts(packets[0])["dts"]
        for entry in packets:
            facts = _facts(entry)
            packet = av.Packet(_with_lengths(entry.data) if codec in _WITH_START_CODES else entry.data)
            packet.stream, packet.time_base = stream, Fraction(*facts["time_base"])
            packet.pts, packet.dts = facts["pts"] - begin, facts["dts"] - begin
            packet.is_keyframe = facts.get("keyframe") is True
            file.mux(packet)
    return len(packets)


def _with_lengths(data: bytes) -> bytes:
    """The units of a packet, each after its length in four bytes; as it is, if it has no start codes."""
    if not data.startswith((_START, b"\0" + _START)):
        return data
    # What follows a start code, but for the zero that the next, longer one begins with.
    units = [unit.rstrip(b"\0") for unit in data.split(_START)[1:]]
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units if unit)


def _subtitles(recording: Recording, packets: list[Entry], path: Path) -> None:
    """Labels and confidences, from the moment of each input until the next one: SubRip, which players find by name."""
    first, last = _facts(packets[0])["at"], _facts(packets[-1])["at"]
    inputs = [(entry.document["captured"] - first, entry) for entry in recording.entries()]
    shown = [(at, entry) for at, entry in inputs if 0 <= at <= last - first]
    lines = list[str]()
    for number, (at, entry) in enumerate(shown):
        until = min(shown[number + 1][0] if number + 1 < len(shown) else last - first, at + MAX_STILL)
        words = [
            " ".join(filter(None, (one.label, "" if one.confidence is None else f"{one.confidence:.0%}")))
            for one in predictions_of(entry)
        ]
        if words and until > at:
            lines += [str(len(lines) // 4 + 1), f"{_clock(at)} --> {_clock(until)}", ", ".join(words), ""]
    if lines:
        atomic_file.write(path, "\n".join(lines).encode())


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02},{whole % 1000:03}"
