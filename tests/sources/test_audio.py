import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.errors import InputError
from edge_agent.samples import Series
from edge_agent.sources.audio import read
from edge_agent.timeseries.wav import decode
from tests.sources.contract import Readings, ReadingsContract
from tests.sources.listener import Listener

RATE = 8000


def tone(seconds: float = 0.5) -> Any:
    """Two channels, 1 kHz and silence, full scale 1."""
    time = np.arange(round(RATE * seconds)) / RATE
    return np.stack([np.sin(2 * np.pi * 1000 * time) * 0.9, np.zeros_like(time)], axis=1)


def riff(
    code: int, bits: int, data: bytes, *, channels: int = 2, extended: bool = False, size: int = -1, block: int = 0
) -> bytes:
    """A WAV file."""
    block = block or channels * bits // 8
    head = struct.pack("<HHIIHH", 0xFFFE if extended else code, channels, RATE, RATE * block, block, bits)
    if extended:
        head += struct.pack("<HHIH", 22, bits, 3, code) + b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    chunks = b"fmt " + struct.pack("<I", len(head)) + head
    chunks += b"LIST" + struct.pack("<I", 3) + b"abc\0"  # of odd length, and so padded
    chunks += b"data" + struct.pack("<I", len(data) if size < 0 else size) + data
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


def bytes_of_24(values: Any) -> bytes:
    return bytes(np.round(values * 2**23).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes())


WRITTEN: dict[str, tuple[int, int, Callable[[Any], bytes], float]] = {
    "8 bit": (1, 8, lambda values: np.round(values * 128 + 128).astype(np.uint8).tobytes(), 0.01),
    "16 bit": (1, 16, lambda values: np.round(values * 2**15).astype("<i2").tobytes(), 1e-4),
    "24 bit": (1, 24, bytes_of_24, 1e-6),
    "32 bit": (1, 32, lambda values: np.round(values * 2**31).astype("<i4").tobytes(), 1e-6),
    "float": (3, 32, lambda values: values.astype("<f4").tobytes(), 1e-6),
    "double": (3, 64, lambda values: values.astype("<f8").tobytes(), 1e-6),
}


def left(bits: int, width: int) -> Callable[[Any], bytes]:
    """Samples of so many bits in the upper part of more bytes, as the format's definition says."""
    return lambda values: b"".join(
        (round(value * (1 << bits - 1)) << 8 * width - bits).to_bytes(width, "little", signed=True)
        for value in np.clip(values, -1, 1 - 2.0**-15).ravel()
    )


def right(values: Any) -> bytes:
    """24 bits in the lower part of four bytes, as ALSA writes them (S24_LE)."""
    return bytes(np.round(values * 2**23).astype("<i4").tobytes())


# Bits, bytes of a sample, how samples are written.
WIDER: dict[str, tuple[int, int, Callable[[Any], bytes]]] = {
    "24 bits in four bytes, left": (24, 4, left(24, 4)),
    "24 bits in four bytes, right": (24, 4, right),
    "20 bits in three bytes": (20, 3, left(20, 3)),
    "20 bits in four bytes": (20, 4, left(20, 4)),
    "16 bits in four bytes": (16, 4, left(16, 4)),
    "12 bits in two bytes": (12, 2, left(12, 2)),
}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", WIDER)
def test_how_many_bytes_a_sample_takes_is_for_the_block_to_say(kind: str, channels: int, tmp_path: Path) -> None:
    bits, width, written = WIDER[kind]
    values = tone()[:, :channels]
    file = riff(1, bits, written(values), channels=channels, block=channels * width)
    (tmp_path / "tone.wav").write_bytes(file)
    assert np.allclose(sound(tmp_path / "tone.wav"), values, atol=2.0 ** (2 - bits))
    assert np.allclose(decode(file).values, values, atol=2.0 ** (2 - bits))


@pytest.mark.parametrize("block", [0, 1, 3, 7])
def test_a_block_that_can_not_be_is_left_out_where_the_other_facts_agree(block: int) -> None:
    file = bytearray(riff(1, 16, WRITTEN["16 bit"][2](tone())))
    file[32:34] = block.to_bytes(2, "little")
    assert len(decode(bytes(file)).values) == len(tone())
    file[28:32] = bytes(4)
    if block:
        with pytest.raises(InputError, match=f"16 bits in {block} bytes for 2 channel"):
            decode(bytes(file))


# What programs that write to a pipe state as the length: FFmpeg, sox, arecord, GStreamer, and others.
PLACEHOLDERS = (0, 0xFFFFFFFF, 0xFFFFFFDB, 0x7FFFF000, 0x7FFFFFFF, 0x7FFFFF00, 0x80000000)


@pytest.mark.parametrize("magic", [b"RIFF", b"RF64", b"BW64"])
@pytest.mark.parametrize("size", PLACEHOLDERS)
def test_a_length_that_the_writer_could_not_know_is_that_of_the_file(size: int, magic: bytes, tmp_path: Path) -> None:
    file = magic + riff(1, 16, WRITTEN["16 bit"][2](tone()), size=size)[4:]
    assert np.allclose(decode(file).values, tone(), atol=1e-4)
    assert len(decode(file[:-1]).values) == len(tone()) - 1  # cut within a sample
    (tmp_path / "tone.wav").write_bytes(file)
    assert len(sound(tmp_path / "tone.wav")) == len(tone())


def test_a_file_that_is_cut_off_is_still_refused() -> None:
    with pytest.raises(InputError, match="is cut off: 15998 of 16000 bytes of sound"):
        decode(riff(1, 16, WRITTEN["16 bit"][2](tone()))[:-2])


@pytest.mark.parametrize("padding", [b"\0", b""])
def test_chunks_of_odd_length_may_be_padded_or_not(padding: bytes) -> None:
    file = riff(1, 16, WRITTEN["16 bit"][2](tone()))
    more = b"".join(b"LIST\x03\0\0\0abc" + padding + b"JUNK\x02\0\0\0ab" for _ in range(3))
    assert len(decode(file[:36] + more + file[36:] + b"id3 \x01\0\0\0a").values) == len(tone())


def sound(path: Path) -> Any:
    found = list(read(path))
    assert all(isinstance(item, Series) for item in found), found
    return np.concatenate([item.values for item in found if isinstance(item, Series)])


def listen(folder: Path, path: str = "sounds") -> Listener:
    return Listener({"type": "audio", "path": path}, folder)


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """A folder of three files of half a second."""
    (tmp_path / "sounds").mkdir()
    for number in range(3):
        with wave.open(str(tmp_path / "sounds" / f"{number}.wav"), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(np.round(tone() * 2**15).astype("<i2").tobytes())
    return tmp_path / "sounds"


class TestAudio(ReadingsContract):
    @pytest.fixture
    def setup(self, tmp_path: Path) -> Readings:
        (tmp_path / "long.wav").write_bytes(riff(1, 16, bytes(4 * RATE * 60)))
        return Readings(open=lambda: listen(tmp_path, "*.wav"), origin={"path", "position_s"})

    def test_readings_say_when_and_where_they_were_taken(self, setup: Readings) -> None:
        with setup.open() as listener:
            listener.wait_until_ended()
        assert [series.gap for series in listener.series] == [True] + [False] * 599


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("kind", WRITTEN)
def test_files_of_every_kind_say_the_same(kind: str, extended: bool, tmp_path: Path) -> None:
    code, bits, written, tolerance = WRITTEN[kind]
    (tmp_path / "tone.wav").write_bytes(riff(code, bits, written(tone()), extended=extended))
    assert np.allclose(sound(tmp_path / "tone.wav"), tone(), atol=tolerance)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_file_whose_length_was_never_filled_in_is_read_to_its_end(size: int, tmp_path: Path) -> None:
    (tmp_path / "tone.wav").write_bytes(riff(1, 16, WRITTEN["16 bit"][2](tone()), size=size))
    assert len(sound(tmp_path / "tone.wav")) == len(tone())


def test_files_come_in_order_a_tenth_of_a_second_at_a_time_each_after_a_gap(sounds: Path) -> None:
    (sounds / "notes.txt").touch()
    with listen(sounds.parent) as listener:
        listener.wait_until_ended()
    assert [len(series.values) for series in listener.series] == [RATE // 10] * 15
    assert [series.gap for series in listener.series] == [True, False, False, False, False] * 3
    assert {series.rate for series in listener.series} == {RATE}
    names = [Path(sample.origin["path"]).name for sample in listener.samples]
    assert names == ["0.wav"] * 5 + ["1.wav"] * 5 + ["2.wav"] * 5
    assert [sample.origin["position_s"] for sample in listener.samples[:5]] == [0, 0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "not a WAV file: starts with "),
        (b"\xff\xd8\xff\xe0 a picture", "not a WAV file: starts with ff d8 ff e0 20 61 20 70"),
        (riff(1, 16, b"")[:30], "a WAV file whose format is cut off"),
        (riff(1, 16, b"")[:50], "a WAV file without sound"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "a WAV file without a format before its sound"),
        (
            riff(6, 8, b"1234"),
            "a WAV file of format 6 with 8 bits in 2 bytes for 2 channels: up to 32 bits (1) and floats (3) are read",
        ),
        (riff(1, 16, b"1234", channels=100), "a WAV file of 100 channels at 8000 samples a second"),
        (b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 5000, "a WAV file without sound"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_and_the_next_one_is_read(content: bytes, error: str, sounds: Path) -> None:
    (sounds / "1.wav").write_bytes(content)
    with listen(sounds.parent) as listener:
        listener.wait_until_ended()
    assert listener.errors == [f"{sounds}/1.wav: {error}"]
    assert len(listener.readings) == 2 * len(tone())


def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(sounds: Path) -> None:
    whole = (sounds / "1.wav").read_bytes()
    (sounds / "1.wav").write_bytes(whole[:-1001])
    with listen(sounds.parent) as listener:
        listener.wait_until_ended()
    assert listener.errors == [f"{sounds}/1.wav: is cut off: 1001 of 16000 bytes of sound are missing"]
    assert len(listener.readings) == 3 * len(tone()) - 251


def test_where_there_is_no_file_the_source_fails_with_one_sentence(tmp_path: Path) -> None:
    with listen(tmp_path, "*.wav") as listener:
        listener.wait_until_ended()
    assert listener.troubles == [f"audio {tmp_path}/*.wav: there is no WAV file"]


def test_real_recordings_are_read(data_dir: Path) -> None:
    for path in sorted((data_dir / "wav").glob("*.wav")):
        with wave.open(str(path)) as file:
            assert file.getsampwidth() == 2
            expected = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        assert np.array_equal(sound(path) * 2**15, expected), path


def test_random_bytes_are_never_fatal(tmp_path: Path) -> None:
    made = np.random.default_rng(1)
    whole = riff(1, 16, WRITTEN["16 bit"][2](tone(0.1)), extended=True)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in made.integers(0, 80, 4):
            damaged[place] = made.integers(0, 256)
        (tmp_path / "damaged.wav").write_bytes(damaged)
        assert all(isinstance(item, Series | InputError) for item in read(tmp_path / "damaged.wav"))
