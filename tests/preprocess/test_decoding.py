import base64
import io
import json
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.errors import InputError
from edge_agent.preprocess.decoding import Picture, decode_picture, image_format, reduce_pixels
from edge_agent.preprocess.opencv import MAX_PIXELS
from tests.images import decode_image

FORMATS = {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WebP"}


def photograph() -> NDArray[np.uint8]:
    """60 x 40 pixels, no two rows or columns alike."""
    rng = np.random.default_rng(7)
    small = rng.integers(0, 256, (10, 15, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (60, 40), interpolation=cv2.INTER_CUBIC), np.uint8)


def encoded(ending: str, pixels: NDArray[np.integer[Any]] | None = None) -> bytes:
    done, data = cv2.imencode(f".{ending}", photograph() if pixels is None else pixels)
    assert done
    return bytes(data.tobytes())


def png(width: int, height: int, compressed: bytes = b"") -> bytes:
    """A PNG whose header says what it likes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF block that says how the camera was held."""
    tiff = b"MM\x00\x2a\x00\x00\x00\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_becomes_blue_green_red(ending: str) -> None:
    image = decode_image(encoded(ending))
    assert image.shape == (40, 60, 3)
    assert image.dtype == np.uint8
    tolerance = 0 if ending in ("png", "bmp") else 12
    assert np.abs(image.astype(int) - photograph()).mean() <= tolerance


@pytest.mark.parametrize("ending", FORMATS)
def test_formats_are_told_by_their_first_bytes(ending: str) -> None:
    assert image_format(encoded(ending)) == FORMATS[ending]


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((5, 6), 90, np.uint8),
        np.full((5, 6), 90 * 257, np.uint16),
        np.full((5, 6, 3), 90 * 257, np.uint16),
        np.full((5, 6, 4), 90, np.uint8),
    ],
    ids=["grey", "grey 16 bit", "colour 16 bit", "transparent"],
)
def test_whatever_is_in_a_png_becomes_three_channels_of_8_bits(pixels: NDArray[np.integer[Any]]) -> None:
    image = decode_image(encoded("png", pixels))
    assert image.shape == (5, 6, 3)
    assert (image == 90).all()


@pytest.mark.parametrize("upside_down", [False, True])
def test_a_bitmap_may_begin_at_either_end(upside_down: bool) -> None:
    data = bytearray(encoded("bmp"))
    pixels = photograph()
    if upside_down:
        height = struct.unpack_from("<i", data, 22)[0]
        struct.pack_into("<i", data, 22, -height)
        pixels = pixels[::-1]
    assert (decode_image(bytes(data)) == pixels).all()


def test_a_picture_is_turned_upright_as_its_camera_says() -> None:
    upright = decode_image(encoded("jpg"))
    turned = decode_image(with_orientation(encoded("jpg"), 6))
    assert turned.shape == (60, 40, 3)
    assert np.abs(turned.astype(int) - np.rot90(upright, -1)).max() <= 2


def large(width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(photograph(), (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def reduced(data: bytes, most: int) -> Picture:
    return decode_picture(data, lambda _width, _height: (most, most))


@pytest.mark.parametrize(("most", "by"), [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8), (50, 8)])
def test_a_jpeg_is_reduced_to_averages_of_its_pixels(most: int, by: int) -> None:
    data = encoded("jpg", large(480, 320))
    picture = reduced(data, most)
    assert (picture.size, picture.reduced, picture.pixels.shape) == ((480, 320), (by, by), (320 // by, 480 // by, 3))
    means = decode_image(data).reshape(320 // by, by, 480 // by, by, 3).mean(axis=(1, 3))
    assert np.abs(picture.pixels - means).mean() < 1


@pytest.mark.parametrize(
    ("size", "most", "by"),
    [
        ((480, 320), (1, 1), (1, 1)),
        ((480, 320), (3, 3), (2, 2)),
        ((480, 320), (50, 50), (32, 32)),
        ((480, 320), (4, 1), (4, 1)),
        ((480, 320), (3, 9), (2, 8)),
        ((484, 322), (9, 8), (4, 2)),
        ((484, 322), (8, 8), (2, 2)),
        ((481, 320), (9, 8), (1, 8)),
        ((481, 320), (8, 8), (1, 1)),
    ],
)
def test_pixels_are_halved_as_often_as_may_be_and_comes_out_even(
    size: tuple[int, int], most: tuple[int, int], by: tuple[int, int]
) -> None:
    (width, height), (across, down) = size, by
    pixels = large(width, height)
    picture = reduce_pixels(pixels, lambda _width, _height: most)
    assert (picture.size, picture.reduced, picture.pixels.shape) == (size, by, (height // down, width // across, 3))
    means = pixels.reshape(height // down, down, width // across, across, 3).mean(axis=(1, 3))
    assert np.abs(picture.pixels - means).max() <= 2  # each halving rounds


@pytest.mark.parametrize("by", [2, 4, 8])
@pytest.mark.parametrize("size", [(481, 321), (487, 327), (484, 326)])
def test_a_size_that_does_not_divide_evenly_stays_the_size_of_the_picture(size: tuple[int, int], by: int) -> None:
    picture = reduced(encoded("jpg", large(*size)), by)
    assert picture.size == size
    assert picture.pixels.shape == (-(-size[1] // by), -(-size[0] // by), 3)


def test_a_reduced_picture_is_turned_upright_too() -> None:
    data = with_orientation(encoded("jpg", large(480, 320)), 6)
    picture = reduced(data, 8)
    assert (picture.size, picture.reduced, picture.pixels.shape) == ((320, 480), (8, 8), (60, 40, 3))
    means = decode_image(data).reshape(60, 8, 40, 8, 3).mean(axis=(1, 3))
    assert np.abs(picture.pixels - means).mean() < 1


@pytest.mark.parametrize(("size", "by"), [((481, 320), 1), ((482, 320), 2), ((484, 324), 4), ((480, 320), 8)])
def test_what_is_turned_is_reduced_only_if_that_leaves_no_remainder_to_come_first(
    size: tuple[int, int], by: int
) -> None:
    picture = reduced(with_orientation(encoded("jpg", large(*size)), 3), 8)
    assert (picture.size, picture.reduced) == (size, (by, by))


def test_an_orientation_behind_another_program_s_thumbnail_is_seen() -> None:
    thumbnail = b"Photoshop 3.0\0" + encoded("jpg", photograph()[::8, ::8])
    turned = with_orientation(encoded("jpg", large(481, 321)), 6)
    data = turned[:2] + b"\xff\xed" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + turned[2:]
    picture = reduced(data, 8)
    assert (picture.size, picture.reduced) == ((321, 481), (1, 1))


@pytest.mark.parametrize("ending", sorted(FORMATS.keys() - {"jpg"}))
def test_only_a_jpeg_is_reduced(ending: str) -> None:
    assert reduced(encoded(ending, large(480, 320)), 8).reduced == (1, 1)


def test_a_truncated_jpeg_is_refused_also_where_it_is_reduced() -> None:
    with pytest.raises(InputError, match=r"480 x 320 pixels, .* is cut off or damaged"):
        reduced(encoded("jpg", large(480, 320))[:-300], 8)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_image_is_refused_with_one_sentence(ending: str, share: float) -> None:
    data = encoded(ending)
    cut = data[: max(3, int(len(data) * share))]
    with pytest.raises(InputError) as caught:
        decode_image(cut)
    assert "\n" not in str(caught.value)


def test_the_sentence_says_what_and_how_large_it_was() -> None:
    data = encoded("jpg")[:-300]
    with pytest.raises(InputError) as caught:
        decode_image(data)
    assert str(caught.value) == f"the JPEG image (60 x 40 pixels, {len(data)} bytes) is cut off or damaged"


def test_a_truncated_photograph_with_a_whole_thumbnail_is_refused() -> None:
    thumbnail = b"Exif\x00\x00" + encoded("jpg", photograph()[::8, ::8])
    whole = encoded("jpg")
    data = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + whole[2:]
    assert decode_image(data).shape == (40, 60, 3)
    for cut in (1, 2, 100, 500):
        with pytest.raises(InputError, match="is cut off or damaged"):
            decode_image(data[:-cut])


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_bytes_that_a_camera_appends_do_no_harm(ending: str) -> None:
    assert decode_image(encoded(ending) + bytes(1000)).shape == (40, 60, 3)


def motion_photo(jpeg: bytes, video: bytes) -> bytes:
    """As phones write them: the picture, and behind it a video; its XMP is left out here."""
    return (
        jpeg + struct.pack(">I", 24) + b"ftypisom\0\0\0\0isommp42" + struct.pack(">I", 8 + len(video)) + b"mdat" + video
    )


# Whatever is in the video: markers of scans and of ends, also in the wrong order, and whole pictures.
VIDEOS = {
    "scan": b"\xff\xda" * 50,
    "end, scan": b"\xff\xd9..\xff\xda..",
    "scan, end": b"\xff\xda..\xff\xd9..",
    "a whole picture": encoded("jpg"),
    "a truncated picture": encoded("jpg")[:-200],
    "noise": np.random.default_rng(3).bytes(300_000),
}


@pytest.mark.parametrize("video", VIDEOS)
def test_a_picture_with_a_video_behind_it_is_the_picture(video: str) -> None:
    whole = encoded("jpg")
    assert np.array_equal(decode_image(motion_photo(whole, VIDEOS[video])), decode_image(whole))


def test_a_progressive_picture_with_a_video_behind_it_is_the_picture() -> None:
    done, jpeg = cv2.imencode(".jpg", photograph(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert done
    whole = jpeg.tobytes()
    assert np.array_equal(decode_image(motion_photo(whole, VIDEOS["noise"])), decode_image(whole))
    with pytest.raises(InputError, match="is cut off or damaged"):
        decode_image(whole[: len(whole) * 2 // 3])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GIF89a" + bytes(100), "a GIF image"),
        (b"II*\0" + bytes(100), "a TIFF image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(80), "a HEIC image"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(80), "a HEIC image"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf" + bytes(80), "an AVIF image"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(80), "a video (MP4 or MOV)"),
        (b"\0\0\0\x0cJXL " + bytes(80), "a JPEG XL image"),
        (base64.b64encode(encoded("jpg")), "a Base64-encoded image"),
        (base64.b64encode(encoded("png")), "a Base64-encoded image"),
    ],
)
def test_a_known_format_that_is_not_accepted_is_named(data: bytes, name: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_image(data)
    assert f"it is {name}" in str(caught.value)


@pytest.mark.parametrize("size", [4, 8, 12, 16])
def test_a_brand_that_is_cut_off_is_survived(size: int) -> None:
    with pytest.raises(InputError, match="not a JPEG"):
        decode_image(b"\xff\xff\xff\xffftypmif1\0\0\0\0"[:size])


def test_colours_under_full_transparency_are_used() -> None:
    pixels = np.zeros((5, 6, 4), np.uint8)
    pixels[..., 2] = 200
    assert (decode_image(encoded("png", pixels)) == [0, 0, 200]).all()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the image is empty: 0 bytes"),
        (b"hello world", "not a JPEG, PNG, BMP or WebP image: starts with 68 65 6c 6c 6f 20 77 6f, 11 bytes"),
        (b'{"values": [1, 2]}', "not a JPEG, PNG, BMP or WebP image: starts with 7b 22 76 61 6c 75 65 73, 18 bytes"),
        (b"\xff\xd8\xff\xe0" * 3, "the JPEG image's header is damaged: it states no size"),
        (b"RIFF\x00\x00\x00\x00WEBP", "the WebP image's header is damaged: it states no size"),
    ],
)
def test_what_is_no_image_is_refused_with_one_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_image(data)
    assert str(caught.value) == sentence


def test_the_size_is_looked_at_before_anything_is_decoded() -> None:
    with pytest.raises(InputError) as caught:
        decode_image(png(50_000, 50_000))
    assert str(caught.value) == "the PNG image is 50000 x 50000 pixels: at most 50 megapixels are decoded"


@pytest.mark.parametrize(("width", "height"), [(MAX_PIXELS, 1), (1, MAX_PIXELS), (2**31 - 1, 1), (7071, 7071)])
def test_a_header_of_any_shape_is_survived(width: int, height: int) -> None:
    with pytest.raises(InputError):
        decode_image(png(width, height))


def test_a_bomb_of_a_few_bytes_costs_no_more_than_the_largest_image() -> None:
    rows = zlib.compress(bytes((7000 * 3 + 1) * 7000), 9)
    assert len(rows) < 200_000
    began = time.monotonic()
    assert decode_image(png(7000, 7000, rows)).shape == (7000, 7000, 3)
    assert time.monotonic() - began < 60


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.data_too_large])
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_damage_of_any_kind_ends_in_an_image_or_in_a_sentence(ending: str, data: st.DataObject) -> None:
    content = bytearray(encoded(ending))
    for _ in range(data.draw(st.integers(1, 20))):
        place = data.draw(st.integers(0, len(content) - 1) | st.integers(0, min(60, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    sentence = image = None
    try:
        image = decode_image(bytes(content[:cut]))
    except InputError as error:
        sentence = str(error)
    if image is not None:
        assert image.ndim == 3
        assert image.shape[0] * image.shape[1] <= MAX_PIXELS
    else:
        assert sentence
        assert "\n" not in sentence


def test_opencv_has_the_same_bound_whatever_is_imported_first(tmp_path: Path) -> None:
    # Should a header say one size to us and another one to the decoder, the decoder must refuse it as well.
    large = tmp_path / "large.bmp"
    large.write_bytes(b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 7100, 7100, 1, 24, 0, 0, 0, 0, 0, 0))
    program = (
        "import json, sys, {module}; from edge_agent.preprocess.opencv import cv2\n"
        "try: cv2.imread(sys.argv[1]); found = 'read'\n"
        "except cv2.error as error: found = error.err\n"
        "print(json.dumps(found))"
    )
    for module in ("edge_agent.daemon.agent", "edge_agent.preprocess.image", "edge_agent.sources.video"):
        done = subprocess.run(
            [sys.executable, "-c", program.replace("{module}", module), str(large)],
            capture_output=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        assert "CV_IO_MAX_IMAGE_PIXELS" in json.load(io.BytesIO(done.stdout))
