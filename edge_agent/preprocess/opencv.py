"""OpenCV, configured by environment variables, which it reads only while it is imported.

All other modules import `cv2` from here.
"""

import os

from edge_agent.errors import EdgeAgentError, install_opencv

# OpenCV checks the limit as well: a hostile header may state one size to our parser and another to the decoder.
MAX_PIXELS = 50_000_000
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
# Its messages are part of our errors.
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# Else OpenCV opens streams one at a time, and an address that does not answer blocks the others. FFmpeg is thread-safe.
os.environ.setdefault("OPENCV_FFMPEG_IS_THREAD_SAFE", "1")

try:
    import cv2  # reads the variables above when it is loaded
except ImportError as error:
    raise EdgeAgentError(f"OpenCV can't be loaded ({error}): {install_opencv()}") from None

# The pipelines' workers already use all cores. Splitting one frame among threads costs more than it saves: the threads
# of OpenCV's pool spin while they wait for the next frame.
cv2.setNumThreads(1)

__all__ = ["MAX_PIXELS", "cv2"]
