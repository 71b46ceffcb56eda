"""Readings and sound, reduced to what can be seen on a screen."""

from typing import TYPE_CHECKING, TypedDict

import numpy as np

from edge_agent.samples import Series

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_CHANNELS, MOST_POINTS = 8, 300


class Curve(TypedDict):
    """What is drawn of readings.

    Attributes:
        channels: a name for each; numbers where they have none.
        low: the lowest value of each part, for each channel.
        high: the highest.
        rate: readings a second; None: not known.
        readings: how many there are.
    """

    channels: list[str]
    low: list[list[float]]
    high: list[list[float]]
    rate: float | None
    readings: int


def curve_of(series: Series, most: int = MOST_POINTS) -> Curve:
    """The lowest and highest values of consecutive parts: no peak is lost.

    Args:
        series: the readings.
        most: points for each channel.
    """
    values = np.atleast_2d(np.nan_to_num(series.values))[:, :MOST_CHANNELS]
    low, high = envelope(values, most)
    names = series.channels or tuple(f"channel {number + 1}" for number in range(values.shape[1]))
    return {
        "channels": list(names[:MOST_CHANNELS]),
        "low": [[float(f"{value:.5g}") for value in channel] for channel in low.T],
        "high": [[float(f"{value:.5g}") for value in channel] for channel in high.T],
        "rate": series.rate,
        "readings": int(values.shape[0]),
    }


def envelope(values: "NDArray[np.float32]", most: int) -> tuple["NDArray[np.float32]", "NDArray[np.float32]"]:
    """The lowest and the highest values of at most `most` parts of readings.

    Args:
        values: (readings, channels).
        most: at least 1.

    Returns:
        Two arrays, (parts, channels).
    """
    count = values.shape[0]
    if count <= most:
        return values, values
    starts = np.linspace(0, count, most, endpoint=False).astype(np.intp)
    return np.minimum.reduceat(values, starts, axis=0), np.maximum.reduceat(values, starts, axis=0)
