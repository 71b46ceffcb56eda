"""Decoders in hardware. There is none here: software of the same kind stands in for one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from edge_agent.counters import VideoCounts
from edge_agent.sources import hardware_decoder
from edge_agent.sources.hardware_decoder import HardwareDecoder
from edge_agent.sources.packets import PausableDecoder
from tests.sources.clips import GOP, Opened, make_clip

PACKETS = 100


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.ts", seconds=PACKETS / 25)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that is right, and cheap enough."""
    monkeypatch.setattr(hardware_decoder, "candidates", lambda codec: [codec])
    monkeypatch.setattr(hardware_decoder, "WORTH", 1000.0)


def decoded(clip: Path, counts: VideoCounts) -> Iterator[Any]:
    """The numbers of the frames of a clip."""
    stream = Opened(clip)
    decoder = PausableDecoder(stream, counts, all_threads=False, deblocking=True, hardware=True)
    for number, packet in enumerate(stream.packets(), start=1):
        decoder.put(packet)
        yield from (frame.opaque.number for frame in decoder.frames())
        if number == PACKETS:
            return


def serving(counts: VideoCounts) -> str:
    return str(counts.as_dict()["decoder"])


def test_where_there_is_no_decoder_in_hardware_the_software_decodes_and_says_why(
    clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = VideoCounts()
    assert list(decoded(clip, counts)) == list(range(1, PACKETS + 1))
    assert serving(counts).startswith("software: ")
    assert [record.levelname for record in caplog.records if "decoder: software" in record.message] == ["WARNING"]


@pytest.mark.usefixtures("stand_in")
def test_one_that_proves_itself_takes_over_at_a_keyframe_without_losing_a_frame(clip: Path) -> None:
    counts = VideoCounts()
    frames = decoded(clip, counts)
    seen = [next(frames) for _ in range(GOP - 1)]
    assert serving(counts) == "h264"
    assert seen + list(frames) == list(range(1, PACKETS + 1))
    assert counts.as_dict()["damaged"] == 0


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("limit", "value", "why"), [("TOLERANCE", -1.0, "other pictures"), ("WORTH", 0.0, "CPU time")])
def test_one_that_is_wrong_or_no_cheaper_is_not_used(
    clip: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float, why: str
) -> None:
    monkeypatch.setattr(hardware_decoder, limit, value)
    counts = VideoCounts()
    assert list(decoded(clip, counts)) == list(range(1, PACKETS + 1))
    assert serving(counts).startswith("software: ")
    assert why in serving(counts)


@pytest.mark.usefixtures("stand_in")
def test_when_it_fails_the_software_goes_on_from_the_next_keyframe(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = HardwareDecoder.decode

    def decode(self: HardwareDecoder, packet: Any) -> list[Any]:
        if packet is not None and packet.opaque.number >= 2 * GOP:
            raise av.error.ExternalError(-1, "the chip has gone")
        return right(self, packet)

    monkeypatch.setattr(HardwareDecoder, "decode", decode)
    counts = VideoCounts()
    seen = list(decoded(clip, counts))
    assert serving(counts).startswith("software: h264 fails")
    assert seen[: 2 * GOP - 1] == list(range(1, 2 * GOP))
    assert seen[-GOP:] == list(range(PACKETS - GOP + 1, PACKETS + 1))
