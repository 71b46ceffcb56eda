"""How a cheap camera sees a scene: from aslant, out of focus, in bad light, compressed."""

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .scenes import Picture, Scene

INPUT_HEIGHT, INPUT_WIDTH = 32, 24
MODERATE, HEAVY = 0.5, 1.0
"""Severities. Every distortion below is drawn from a range that grows with the severity."""

_OPTICS_HEIGHT = 96
"""Rows of the picture between lens and sensor."""

Photo = NDArray[Any]
"""Grey pixels: (height, width), uint8."""


def photograph(rng: Generator, scene: Scene, severity: float) -> Photo:
    """The crop of one digit as cut out of a camera's frame, 18 to 80 pixels high."""
    picture = _aim(rng, scene, severity)
    picture = _light(rng, picture, severity)
    picture = _blur(rng, picture, severity)
    low = 40 - 22 * severity
    height = round(np.exp(rng.uniform(np.log(low), np.log(80))))
    width = max(8, round(height * picture.shape[1] / picture.shape[0]))
    return _expose(rng, fit(picture, width, height), severity)


def fit(image: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Stretches an image to a size as the product does: by area when shrinking."""
    shrinking = width <= image.shape[1] and height <= image.shape[0]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def to_input(photo: Photo) -> Photo:
    """The network's input (INPUT_HEIGHT, INPUT_WIDTH)."""
    return fit(photo, INPUT_WIDTH, INPUT_HEIGHT)


def _aim(rng: Generator, scene: Scene, severity: float) -> Picture:
    """Cuts the digit's place out, not quite there, not quite straight."""
    width, height = scene.place
    zoom = 1 + rng.uniform(-0.16, 0.16, 2) * severity * [0.5, 1] + rng.uniform(-0.08, 0.08)
    shift = rng.uniform(-0.1, 0.1, 2) * severity
    angle = np.deg2rad(rng.uniform(-12, 12) * severity)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    corners = corners * zoom + shift + rng.uniform(-0.07, 0.07, (4, 2)) * severity
    corners = corners * [width, height]
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = np.array(scene.picture.shape[::-1]) / 2
    source = (corners @ rotation + centre).astype(np.float32)
    rows, columns = _OPTICS_HEIGHT, round(_OPTICS_HEIGHT * width / height)
    target = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
    matrix = cv2.getPerspectiveTransform(source, target)
    return cv2.warpPerspective(scene.picture, matrix, (columns, rows), borderMode=cv2.BORDER_REPLICATE)


def _light(rng: Generator, picture: Picture, severity: float) -> Picture:
    """Light from one side, a shadow's edge, a reflection on the glass."""
    height, width = picture.shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    slope = rng.uniform(-0.35, 0.35, 2) * severity
    picture = picture * (1 + slope[0] * x + slope[1] * y)
    if rng.random() < 0.2:
        angle = rng.uniform(0, 2 * np.pi)
        edge = (x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-0.8, 0.8)) * 8
        picture = picture * (1 - rng.uniform(0, 0.6) * severity / (1 + np.exp(-edge)))
    if rng.random() < 0.35:
        # Glare near the middle hides the digit; at full severity it may, but seldom does.
        centre = rng.uniform(-1.1, 1.1, 2)
        size = rng.uniform(0.15, 0.7, 2)
        spot = np.exp(-(((x - centre[0]) / size[0]) ** 2) - ((y - centre[1]) / size[1]) ** 2)
        picture = picture + spot * rng.uniform(0, 0.7) * severity
    return picture.astype(np.float32)


def _blur(rng: Generator, picture: Picture, severity: float) -> Picture:
    sigma = rng.uniform(0, 3.2) * severity
    if sigma > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    length = rng.uniform(0, 11) * severity
    if rng.random() < 0.3 and length > 1.5:
        angle = rng.uniform(0, np.pi)
        reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        kernel = np.zeros((13, 13), np.float32)
        ends = np.round((6 + np.outer([-1, 1], reach)) * 16).astype(int).tolist()
        cv2.line(kernel, ends[0], ends[1], (1.0,), 1, cv2.LINE_AA, 4)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    return picture


def _expose(rng: Generator, picture: Picture, severity: float) -> Photo:
    """Brightness, contrast curve, sensor noise and JPEG."""
    gain = 1 - rng.uniform(0, 0.8) * severity * rng.random()
    lift = rng.uniform(0, 0.2) * severity * rng.random()
    curve = np.exp(rng.uniform(-0.5, 0.5) * severity)
    picture = np.clip(picture, 0, None) ** curve * gain * (1 - lift) + lift
    noise = 0.004 + rng.uniform(0, 0.045) * severity * rng.random()
    picture = picture + rng.standard_normal(picture.shape, np.float32) * noise
    photo: Photo = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
    if rng.random() < 0.6:
        quality = int(95 - rng.uniform(0, 65) * severity)
        _, encoded = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])
        photo = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    return photo
