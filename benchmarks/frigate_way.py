"""A camera the way Frigate reads it: a process of FFmpeg decodes, and its raw frames come through a pipe.

Written from Frigate's documentation (https://docs.frigate.video: configuration reference, motion detection, camera
setup), with the defaults that it states; no code of its own is used. FFmpeg makes 5 frames a second of 1280 x 720 in
planes of YUV. The brightness, 100 pixels high, is stretched in contrast, blurred, and compared with a running average
(threshold 30, contours of at least 10 pixels, weight 0.01). A square region of at least 320 pixels around what moves
is converted to colours, resized to the model's input, and runs through the model.

    python benchmarks/frigate_way.py MODEL URL
"""

import shutil
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

WIDTH, HEIGHT, FPS = 1280, 720, 5
SMALL_HEIGHT, THRESHOLD, CONTOUR, ALPHA = 100, 30, 10, 0.01
LEAST_REGION = 320


class Motion:
    """Boxes of what moves."""

    def __init__(self) -> None:
        self._average: Any = None

    def boxes(self, grey: Any) -> list[tuple[int, int, int, int]]:
        """Left, top, right, bottom, in pixels of the frame.

        Args:
            grey: the brightness, (HEIGHT, WIDTH), uint8.
        """
        small: Any = cv2.resize(grey, (WIDTH * SMALL_HEIGHT // HEIGHT, SMALL_HEIGHT), interpolation=cv2.INTER_LINEAR)
        low, high = np.percentile(small, (4, 96))
        small = np.clip((small.astype(np.float32) - low) * (255 / max(1.0, high - low)), 0, 255).astype(np.uint8)
        small = cv2.GaussianBlur(small, (3, 3), 0)
        if self._average is None:
            self._average = small.astype(np.float32)
        delta = cv2.absdiff(small, cv2.convertScaleAbs(self._average))
        _, moving = cv2.threshold(delta, THRESHOLD, 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(cv2.dilate(moving, None), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)  # type: ignore[call-overload] # None is the usual kernel
        cv2.accumulateWeighted(small, self._average, ALPHA)
        scale = HEIGHT / SMALL_HEIGHT
        found = [cv2.boundingRect(contour) for contour in contours if cv2.contourArea(contour) >= CONTOUR]
        return [(int(x * scale), int(y * scale), int((x + w) * scale), int((y + h) * scale)) for x, y, w, h in found]


def main() -> None:
    """Runs until it is ended."""
    model, url = sys.argv[1:]
    interpreter = Interpreter(model, num_threads=1)
    interpreter.allocate_tensors()
    taken = interpreter.get_input_details()[0]
    height, width, channels = taken["shape"][1:]
    options = ["-hide_banner", "-loglevel", "warning", "-nostdin", "-threads", "2", "-rtsp_transport", "tcp", "-i", url]
    output = [
        "-an",
        "-r",
        str(FPS),
        "-s",
        f"{WIDTH}x{HEIGHT}",
        "-threads",
        "2",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "yuv420p",
    ]
    ffmpeg = subprocess.Popen([shutil.which("ffmpeg") or "ffmpeg", *options, *output, "pipe:"], stdout=subprocess.PIPE)
    assert ffmpeg.stdout is not None, "a pipe was asked for"  # noqa: S101 - see the line before
    motion, size = Motion(), WIDTH * HEIGHT * 3 // 2
    while len(data := ffmpeg.stdout.read(size)) == size:
        frame = np.frombuffer(data, np.uint8).reshape(HEIGHT * 3 // 2, WIDTH)
        boxes = motion.boxes(frame[:HEIGHT])
        colours = cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_I420) if boxes else None
        for left, top, right, bottom in boxes:
            side = min(HEIGHT, max(LEAST_REGION, right - left, bottom - top))
            x = max(0, min(WIDTH - side, (left + right - side) // 2))
            y = max(0, min(HEIGHT - side, (top + bottom - side) // 2))
            part: Any = cv2.resize(colours[y : y + side, x : x + side], (int(width), int(height)))  # type: ignore[index] # there are boxes
            tensor = part if channels == part.shape[2] else cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)[..., np.newaxis]
            interpreter.set_tensor(taken["index"], tensor[np.newaxis].astype(taken["dtype"]))
            interpreter.invoke()


if __name__ == "__main__":
    main()
