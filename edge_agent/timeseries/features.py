"""Features of sound: log-mel energies and mel-frequency cepstral coefficients (MFCC).

They are computed as TensorFlow's signal functions do, with which most small models of sound were trained:
https://www.tensorflow.org/api_docs/python/tf/signal/linear_to_mel_weight_matrix and
https://www.tensorflow.org/api_docs/python/tf/signal/mfccs_from_log_mel_spectrograms.
"""

from typing import TYPE_CHECKING

import numpy as np

from edge_agent.settings.series import Features as Options

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Features:
    """Computes rows of features from a stream of samples.

    Args:
        options: of the model.
        rate: samples per second.

    Attributes:
        columns: features in a row, after `finish`.
        per_second: rows per second.
    """

    def __init__(self, options: Options, rate: float) -> None:
        self._options = options
        self._frame, self._step = round(options.frame * rate), max(1, round(options.step * rate))
        self._size = 1 << (self._frame - 1).bit_length()
        # A periodic Hann window, as TensorFlow's.
        self._taper = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self._frame) / self._frame)).astype(np.float32)
        self._bands = mel_weights(options.bands, self._size // 2 + 1, rate, options.low, options.high)
        self._cosines = _cosines(options.bands, options.coefficients)
        self._waiting = np.zeros(0, np.float32)
        self.columns = options.coefficients if options.kind == "mfcc" else options.bands
        self.per_second = rate / self._step

    def feed(self, samples: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """The rows that these samples complete: energies of the bands, and the frame's largest sample.

        Args:
            samples: (samples, 1), float32, -1 to 1.

        Returns:
            (rows, bands + 1), float32.
        """
        waiting = np.concatenate([self._waiting, samples[:, 0]])
        count = max(0, (len(waiting) - self._frame) // self._step + 1)
        if not count:
            self._waiting = waiting
            return np.zeros((0, self._options.bands + 1), np.float32)
        pieces = np.lib.stride_tricks.sliding_window_view(waiting, self._frame)[:: self._step][:count]
        energies = np.abs(np.fft.rfft(pieces * self._taper, self._size)).astype(np.float32)
        if self._options.power == 2:  # noqa: PLR2004 - squares
            energies = np.square(energies)
        self._waiting = waiting[count * self._step :]
        return np.concatenate([energies @ self._bands, pieces.max(axis=1, keepdims=True)], axis=1, dtype=np.float32)

    def finish(self, rows: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """The features of a window.

        Args:
            rows: (rows, bands + 1), as returned by `feed`.

        Returns:
            (rows, columns), float32.
        """
        energies, loudest = rows[:, :-1], float(rows[:, -1].max())
        if self._options.peak and loudest > 0:
            energies = energies / np.float32(loudest**self._options.power)
        logarithms = np.log(energies + np.float32(self._options.floor))
        return np.asarray(logarithms @ self._cosines if self._options.kind == "mfcc" else logarithms, np.float32)


def mel_weights(bands: int, bins: int, rate: float, low: float, high: float) -> "NDArray[np.float32]":
    """The mel filter bank: the weight of each frequency bin in each triangular band.

    Args:
        bands: number of mel bands.
        bins: number of bins of the spectrum, from 0 Hz to half of the rate.
        rate: samples per second.
        low: lower edge of the lowest band, in Hz.
        high: upper edge of the highest band, in Hz.

    Returns:
        (bins, bands), float32.
    """
    frequencies = _mel(np.linspace(0, rate / 2, bins))[:, None]
    edges = np.linspace(_mel(np.float64(low)), _mel(np.float64(high)), bands + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies - lower) / (centre - lower), (upper - frequencies) / (upper - centre)
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0  # the constant component
    return np.asarray(weights, np.float32)


def _mel(hertz: "NDArray[np.float64] | np.float64") -> "NDArray[np.float64]":
    return np.asarray(1127 * np.log1p(hertz / 700))


def _cosines(bands: int, coefficients: int) -> "NDArray[np.float32]":
    """The discrete cosine transform (DCT-II) as a matrix (bands, coefficients), float32."""
    angles = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(coefficients)
    return np.asarray(np.cos(angles) * np.sqrt(2 / bands), np.float32)
