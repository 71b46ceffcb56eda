"""OpenCV, with its bounds and habits set before it is loaded, which is when it reads them.

Everything else imports `cv2` from here.
"""

import os

# A second bound inside OpenCV, should an image's header say one size to us and another one to the decoder.
MAX_PIXELS = 50_000_000
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
# What it would print is in our errors.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# One address that does not answer must not hold up the opening of every other one: FFmpeg has long been thread-safe.
os.environ.setdefault("OPENCV_FFMPEG_IS_THREAD_SAFE", "1")

import cv2  # noqa: E402 - reads the variables above when it is loaded

# The workers of the pipelines keep the cores busy by themselves. To split one frame among threads costs them more than
# it saves: the threads of OpenCV's pool spin while they wait for the next one.
cv2.setNumThreads(1)

__all__ = ["MAX_PIXELS", "cv2"]
