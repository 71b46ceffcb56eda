"""OpenCV, with its bounds and its silence set before it is loaded, which is when it reads them.

Everything else imports `cv2` from here.
"""

import os

# A second bound inside OpenCV, should an image's header say one size to us and another one to the decoder.
MAX_PIXELS = 50_000_000
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
# What it would print is in our errors.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2

__all__ = ["MAX_PIXELS", "cv2"]
