from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent.errors import InputError
from edge_agent.sources.raw_video import RawVideo


def scene(number: int) -> Any:
    """A picture of soft colours, of which little is lost in any format."""
    down, right = np.mgrid[0:48, 0:64].astype(np.uint8)
    return np.dstack([down * 3, right * 3, np.full_like(down, number)])


def written(picture: Any, pixel_format: str) -> bytes:
    conversions = {
        "rgb24": cv2.COLOR_BGR2RGB,
        "gray8": cv2.COLOR_BGR2GRAY,
        "yuv420p": cv2.COLOR_BGR2YUV_I420,
    }
    if pixel_format in conversions:
        picture = cv2.cvtColor(picture, conversions[pixel_format])
    return bytes(picture.tobytes())


@pytest.mark.parametrize("size", [1000, 4097, 1_000_000])
@pytest.mark.parametrize("pixel_format", ["bgr24", "rgb24", "yuv420p", "gray8"])
def test_frames_of_every_format_come_in_colour(pixel_format: str, size: int) -> None:
    scenes = [scene(number) for number in (40, 120, 200)]
    stream = b"".join(written(picture, pixel_format) for picture in scenes)
    video, frames = RawVideo(64, 48, pixel_format), []
    for at in range(0, len(stream), size):
        frames += list(video.feed(stream[at : at + size]))
    assert len(frames) == 3
    for frame, picture in zip(frames, scenes, strict=True):
        assert frame.shape == (48, 64, 3)
        assert frame.dtype == np.uint8
        if pixel_format == "gray8":
            assert np.array_equal(frame[:, :, 0], cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
        else:
            assert np.abs(frame.astype(int) - picture).mean() < 3
    assert list(video.end()) == []


def test_a_stream_that_ends_within_a_frame_says_what_may_be_wrong() -> None:
    video = RawVideo(64, 48, "gray8")
    assert list(video.feed(b"x" * 100)) == []
    [error] = video.end()
    assert isinstance(error, InputError)
    assert str(error) == (
        "the stream ended within a frame, after 100 of 3072 bytes: "
        "are width, height and pixel_format what the program writes?"
    )
