"""A simulated pump: readings of an accelerometer on it, for the demonstration and for training its model."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE = 200.0
"""Readings a second."""
SPEEDS = (24.0, 26.0)
"""Revolutions a second, least and most."""
LOADS = (0.7, 1.3)
# Amplitudes in g of the shaft's revolution and of its harmonics; noise of the sensor.
HARMONICS = (0.5, 0.2, 0.1)
NOISE = 0.02
# Strikes of a defect in a bearing with nine balls, for each revolution; each makes the housing ring.
STRIKES = 3.57
RINGING = 78.0
DECAY = 60.0
_WANDERS_OVER = 5.0


class Machine:
    """A stream of vibration in g.

    Args:
        seed: of all that is left to chance.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._speed, self._load = self._rng.uniform(*SPEEDS), self._rng.uniform(*LOADS)
        self._turned = self._rng.uniform(0, 1)
        self._phases = self._rng.uniform(0, 2 * np.pi, len(HARMONICS))
        self._ringing = 0j

    def run(self, readings: int, damage: float = 0.0) -> "NDArray[np.float32]":
        """The next readings.

        Args:
            readings: how many.
            damage: of a bearing: how hard it strikes, in g.

        Returns:
            (readings,), in g.
        """
        self._speed = self._wandered(self._speed, SPEEDS, readings)
        self._load = self._wandered(self._load, LOADS, readings)
        turns = self._turned + np.arange(1, readings + 1) * self._speed / RATE
        orders = np.arange(1, len(HARMONICS) + 1)[:, None]
        shaft = np.sin(2 * np.pi * orders * turns + self._phases[:, None]).T @ np.array(HARMONICS)
        struck = np.diff(np.floor(np.concatenate([[self._turned], turns]) * STRIKES))
        self._turned = turns[-1]
        noise = self._rng.normal(0, NOISE, readings)
        return np.asarray(self._load * shaft + self._rung(struck * damage) + noise, np.float32)

    def _wandered(self, value: float, bounds: tuple[float, float], readings: int) -> float:
        reach = (bounds[1] - bounds[0]) / 2 * np.sqrt(readings / RATE / _WANDERS_OVER)
        return float(np.clip(value + self._rng.normal(0, reach), *bounds))

    def _rung(self, strikes: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """What a damped oscillation makes of strikes."""
        turn = np.exp((2j * np.pi * RINGING - DECAY) / RATE)
        rung = np.empty(len(strikes))
        for at, strike in enumerate(strikes):
            self._ringing = self._ringing * turn + strike * self._rng.uniform(0.7, 1.3)
            rung[at] = self._ringing.real
        return rung
