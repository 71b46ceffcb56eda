import random

import cv2
import numpy as np
import pytest

from edge_agent.errors import InputError
from edge_agent.sources import mjpeg
from edge_agent.sources.mjpeg import Mjpeg
from tests.images import decode_image


def picture(number: int = 0, *options: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
    encoded, jpeg = cv2.imencode(".jpg", pixels, options)
    assert encoded
    return jpeg.tobytes()


def with_segment(jpeg: bytes, content: bytes) -> bytes:
    """With an application segment after the start, such as one that holds a thumbnail."""
    return jpeg[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + jpeg[2:]


def with_fill(jpeg: bytes) -> bytes:
    """With the fill bytes that may stand before any marker."""
    return jpeg[:2] + b"\xff\xff" + jpeg[2:-2] + b"\xff\xff\xff" + jpeg[-2:]


PICTURES = {
    "baseline": picture(1),
    "progressive": picture(2, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": picture(3, cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    "thumbnail": with_segment(picture(4), b"Exif\0\0" + picture(5)),
    "fill": with_fill(picture(6)),
}


def split(*parts: bytes) -> list[bytes | str]:
    stream = Mjpeg()
    found = [item for part in parts for item in stream.feed(part)]
    return [str(item) if isinstance(item, InputError) else item for item in [*found, *stream.end()]]


def test_the_pictures_are_what_they_are_named() -> None:
    for jpeg in PICTURES.values():
        assert decode_image(jpeg).shape == (48, 64, 3)
    assert b"\xff\xc2" in PICTURES["progressive"]
    assert b"\xff\xd0" in PICTURES["restarts"]


@pytest.mark.parametrize("size", [1, 2, 3, 100, 100_000])
def test_pictures_of_all_kinds_come_whole_however_the_stream_is_cut(size: int) -> None:
    stream = b"".join(PICTURES.values())
    assert split(*(stream[at : at + size] for at in range(0, len(stream), size))) == list(PICTURES.values())


def test_headers_of_a_multipart_stream_are_left_out() -> None:
    head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 1234\r\n\r\n"
    assert split(*(head + jpeg + b"\r\n" for jpeg in PICTURES.values())) == list(PICTURES.values())


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.999])
def test_half_a_picture_is_told_and_costs_at_most_the_next_one(kind: str, share: float) -> None:
    whole = PICTURES[kind]
    found = split(whole[: round(len(whole) * share)], *[picture(number) for number in range(4)])
    pictures = [item for item in found if isinstance(item, bytes)]
    assert pictures[-3:] == [picture(number) for number in (1, 2, 3)]
    assert all(len(item) < 100 for item in found if isinstance(item, str))


def test_a_stream_that_ends_within_a_picture_says_so() -> None:
    assert split(picture(), picture()[:100]) == [
        picture(),
        "the stream ended within a JPEG picture, after 100 bytes of it",
    ]


def test_garbage_is_told_once_until_a_picture_has_come() -> None:
    garbage = b"no picture " * 1000
    found = split(*[garbage] * 20, picture(), *[garbage] * 20)
    assert found == [told := found[0], picture(), told]
    assert told == "10998 bytes without a JPEG picture in them"


def test_a_picture_without_an_end_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjpeg, "MAX_FRAME", 100_000)
    endless = b"\xff\xd8\xff\xda\x00\x02" + b"x" * 200_000
    stream = Mjpeg()
    found = [item for at in range(0, len(endless), 5000) for item in stream.feed(endless[at : at + 5000])]
    assert str(found[0]) == "a JPEG picture of more than 100000 bytes"
    assert len(stream._buffer) < 100_000
    assert list(stream.feed(picture()))[-1] == picture()


def test_random_bytes_between_pictures_are_never_fatal() -> None:
    random.seed(1)
    stream = Mjpeg()
    for _ in range(300):
        for item in stream.feed(b"\xff\xd8\xff" + random.randbytes(random.randrange(300))):
            assert isinstance(item, InputError | bytes)
    # What looked like the length of a segment may have been up to 64 kB.
    assert [*stream.feed(picture(8) * 20)][-1] == picture(8)
