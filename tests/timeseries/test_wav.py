import struct

import numpy as np
import pytest

from edge_agent.errors import InputError
from edge_agent.samples import Series
from edge_agent.timeseries.wav import SAMPLE_BYTES, Pcm, pcm

# Three samples: the least, none, and half of full scale.
WRITTEN = {
    "u8": bytes([0, 128, 192]),
    "s16le": np.array([-(2**15), 0, 2**14], "<i2").tobytes(),
    "s24le": b"\x00\x00\x80" + b"\x00\x00\x00" + b"\x00\x00\x40",
    "s24_32le": b"\x00\x00\x80\xff" + b"\x00\x00\x00\x00" + b"\x01\x00\x40\x00",
    "s32le": np.array([-(2**31), 0, 2**30], "<i4").tobytes(),
    "f32le": np.array([-1, 0, 0.5], "<f4").tobytes(),
    "f64le": np.array([-1, 0, 0.5], "<f8").tobytes(),
}


@pytest.mark.parametrize("sample_format", SAMPLE_BYTES)
def test_samples_of_every_format_are_numbers_up_to_one(sample_format: str) -> None:
    assert pcm(WRITTEN[sample_format], sample_format, 1).ravel().tolist() == pytest.approx([-1, 0, 0.5], abs=1e-6)


def test_channels_are_told_apart() -> None:
    assert pcm(WRITTEN["u8"] * 2, "u8", 2).tolist() == [[-1, 0], [0.5, -1], [0, 0.5]]


@pytest.mark.parametrize("size", [1, 3, 5, 1000])
def test_a_stream_may_be_cut_anywhere(size: int) -> None:
    samples = np.arange(-1000, 1000, dtype="<i2")
    stream, found = Pcm("s16le", 16000, 2), []
    for at in range(0, 4000, size):
        found += [item.values for item in stream.feed(samples.tobytes()[at : at + size]) if isinstance(item, Series)]
    assert np.array_equal(np.concatenate(found) * 2**15, samples.reshape(-1, 2))
    assert list(stream.end()) == []


def test_a_stream_that_ends_within_a_sample_says_what_may_be_wrong() -> None:
    stream = Pcm("s16le", 16000, 2)
    assert list(stream.feed(b"123")) == []
    assert [str(error) for error in stream.end()] == [
        "the stream ended within a sample, after 3 of 4 bytes: are sample_format and channels what the program writes?"
    ]


def test_samples_that_are_no_numbers_are_refused() -> None:
    stream = Pcm("f32le", 16000, 1)
    [error] = stream.feed(np.array([0, np.nan], "<f4").tobytes())
    assert isinstance(error, InputError)
    [series] = stream.feed(np.array([0, 0.5], "<f4").tobytes())
    assert isinstance(series, Series)
    assert series.rate == 16000


def header(bits: int, channels: int, rate: int) -> bytes:
    """The header of a WAV file that is written to a pipe."""
    block = channels * bits // 8
    facts = struct.pack("<HHIIHH", 1, channels, rate, rate * block, block, bits)
    return b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + facts + b"data\xff\xff\xff\xff"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_header_of_a_wav_file_before_the_samples_is_left_out(size: int) -> None:
    written = header(16, 2, 16000) + WRITTEN["s16le"] * 200
    stream = Pcm("s16le", 16000, 2)
    found = [item for at in range(0, len(written), size) for item in stream.feed(written[at : at + size])]
    values = np.concatenate([item.values for item in found if isinstance(item, Series)])
    assert values.ravel().tolist() == [-1, 0, 0.5] * 200
    assert list(stream.end()) == []


def test_a_header_that_says_otherwise_is_said_once() -> None:
    stream = Pcm("s16le", 16000, 1)
    found = [str(item) for item in stream.feed(header(24, 2, 48000) + bytes(100)) if isinstance(item, InputError)]
    assert found == [
        "the program writes WAV of s24le, 2 channels, 48000 Hz: state these as sample_format, channels and rate"
    ]
    assert not any(isinstance(item, InputError) for item in stream.feed(bytes(100)))


@pytest.mark.parametrize("start", [b"RIFF", b"RIFFabcdWAVX", b"RIFFabcd"])
def test_samples_that_only_begin_like_a_header_are_samples(start: bytes) -> None:
    stream = Pcm("u8", 16000, 1)
    written = start + bytes(70_000)
    assert sum(len(item.values) for item in stream.feed(written) if isinstance(item, Series)) == len(written)


def test_24_bits_in_four_bytes_are_the_upper_or_the_lower_three() -> None:
    assert pcm(b"\x00\x01\x00\x40", "s24_32le", 1)[0, 0] == pytest.approx(0.5, abs=1e-4)
    assert pcm(b"\x01\x00\x40\x00", "s24_32le", 1)[0, 0] == pytest.approx(0.5, abs=1e-4)
    assert pcm(b"\x01\x00\xc0\xff", "s24_32le", 1)[0, 0] == pytest.approx(-0.5, abs=1e-4)
