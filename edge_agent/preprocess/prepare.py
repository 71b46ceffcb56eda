"""Turns samples into input tensors: one class for images, one for readings and sound."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent import settings
from edge_agent.counters import Counters
from edge_agent.errors import InputError
from edge_agent.preprocess.decoding import Picture, Reduction, convert_frame, decode_picture, reduce_pixels
from edge_agent.preprocess.image import Preprocess
from edge_agent.preprocess.regions import Regions, View
from edge_agent.preprocess.sensor import OfSensor
from edge_agent.samples import PlanarFrame, Sample, Series
from edge_agent.settings.series import Window
from edge_agent.timeseries.cutting import StreamCutter, read_series
from edge_agent.timeseries.numbers import NumberFormat, RawInput, SeriesPreprocess, check_finite, read_numbers
from edge_agent.timeseries.readings import ReadingCutter
from edge_agent.timeseries.utterances import UtteranceCutter, as_pcm, whole
from edge_agent.timeseries.wav import MAGICS
from edge_agent.timeseries.windows import WindowCutter, chosen_channels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# Sources each of whose samples is one input, unless the pipeline sets a window. The others are streams.
WHOLE_INPUTS = ("mqtt", "images")
_UNITS = {"degC": "°C", "degF": "°F", "ug/m3": "µg/m³", "m3": "m³", "m/s2": "m/s²"}
"""Units as they are typed, and as they are written."""


# Made for every input, and not to be changed: frozen, it takes ten times as long to make.
@dataclass(slots=True)
class Prepared:
    """A sample that is ready for its model.

    Attributes:
        tensor: the input tensor; the first axis is the batch.
        placements: for each item of the batch, what the decoder needs to map its outputs back: a `Placement` or
            `RawInput`.
        facts: published in results as `input`.
        size: width, height of the image in pixels; 0, 0 for readings and sound.
        image: (height, width, 3), uint8, BGR; None for readings and sound, and for a reduced image.
        decoding: how long it took to decode the picture or to parse the readings, in milliseconds.
    """

    tensor: Any
    placements: Sequence[Any]
    facts: Mapping[str, Any]
    size: tuple[int, int] = (0, 0)
    image: "NDArray[np.uint8] | None" = None
    decoding: float = 0.0


class Prepare(Protocol):
    """Turns samples into input tensors."""

    def __call__(self, sample: Sample, *, needs_image: bool) -> Prepared:
        """Prepares a sample; called from several threads.

        Args:
            sample: the input.
            needs_image: whether an observer of the results needs the image, with all its pixels.

        Raises:
            InputError: the sample can't be used.
        """
        ...


class Pictures:
    """Prepares images: decodes them, cuts regions, resizes them to the model's input.

    Args:
        preprocess: of the model.
        options: of the pipeline, for its regions.
    """

    def __init__(self, preprocess: Preprocess, options: settings.Pipeline) -> None:
        is_chosen = bool(options.regions) or options.source.type == "pipeline"
        self._preprocess = preprocess.of_what_is_chosen() if is_chosen else preprocess
        self._regions = Regions(options.regions)
        self._has_regions = bool(options.regions)

    def __call__(self, sample: Sample, *, needs_image: bool) -> Prepared:
        """See `Prepare`."""
        started = time.monotonic()
        picture = _picture(sample, None if needs_image or self._has_regions else self._preprocess.reduction)
        decoding = (time.monotonic() - started) * 1000
        (width, height), is_whole = picture.size, picture.reduced == (1, 1)
        views = [View(None, 0, 0, picture.pixels, picture.size, picture.reduced)]
        if is_whole:
            views = self._regions.cut(picture.pixels)
        return Prepared(
            self._preprocess([view.pixels for view in views], reduced=not is_whole),
            [self._preprocess.place(view) for view in views],
            {"width": width, "height": height, **sample.origin},
            picture.size,
            picture.pixels if is_whole else None,
            decoding,
        )


class Readings:
    """Prepares readings and sound.

    Args:
        preprocess: of the model.
        number_format: of messages, as the source states it.
    """

    def __init__(self, preprocess: SeriesPreprocess, number_format: NumberFormat) -> None:
        self._preprocess = preprocess
        self._number_format = number_format

    def __call__(self, sample: Sample, *, needs_image: bool) -> Prepared:  # noqa: ARG002 - there is no picture
        """See `Prepare`."""
        started = time.monotonic()
        numbers = self._numbers(sample)
        decoding = (time.monotonic() - started) * 1000
        values = self._preprocess.real(numbers)
        facts, beyond = dict(sample.origin), self._preprocess.out_of_range(values)
        if beyond:
            facts["out_of_range"] = beyond
        return Prepared(self._preprocess([values]), [RawInput(values)], facts, decoding=decoding)

    def _numbers(self, sample: Sample) -> "NDArray[np.float32]":
        if isinstance(sample.data, InputError):
            raise sample.data
        if isinstance(sample.data, Series):
            return sample.data.values
        if not isinstance(sample.data, bytes):
            raise InputError("expected readings, found a picture: the model takes no pictures")
        if self._preprocess.input.features is None and not sample.data.startswith(MAGICS):
            found = read_numbers(sample.data, self._number_format, self._preprocess.input.channels)
            if found.channels:
                return chosen_channels(Series(found.values, found.channels), self._preprocess.input)
            return found.values
        whole = read_series(sample.data, self._preprocess, self._number_format)
        windows = list(WindowCutter(self._preprocess, Window()).feed(whole, 0.0))
        if len(windows) != 1:
            raise InputError(
                f"expected sound for one input of the model, found {len(whole.values)} samples, which make "
                f"{len(windows)}: state `window` for the pipeline, or take it from an audio source"
            )
        return windows[0].series.values


class Tensors:
    """Prepares frames of a camera that has run the model itself: its output tensors stand in for the input.

    Args:
        preprocess: of the model.
    """

    def __init__(self, preprocess: OfSensor) -> None:
        self._preprocess = preprocess

    def __call__(self, sample: Sample, *, needs_image: bool) -> Prepared:
        """See `Prepare`."""
        if isinstance(sample.data, InputError):
            raise sample.data
        if sample.sensor is None:
            raise InputError("the model runs in the AI Camera only, on what that sees: it takes no other pictures")
        started = time.monotonic()
        image = _picture(sample, None).pixels if needs_image else None
        decoding = (time.monotonic() - started) * 1000
        width, height = sample.sensor.size
        return Prepared(
            self._preprocess.tensor(sample.sensor),
            [self._preprocess.place_frame(sample.sensor)],
            {"width": width, "height": height, **sample.origin},
            sample.sensor.size,
            image,
            decoding,
        )


class NamedReadings:
    """Prepares what a `ReadingCutter` has cut: there is no tensor, only the readings.

    Args:
        units: by name of the reading, where they are known.
    """

    def __init__(self, units: Mapping[str, str]) -> None:
        self._units = units

    def __call__(self, sample: Sample, *, needs_image: bool) -> Prepared:  # noqa: ARG002 - there is no picture
        """See `Prepare`."""
        if isinstance(sample.data, InputError):
            raise sample.data
        if not isinstance(sample.data, Series):
            raise InputError("expected readings, found a picture")
        values = check_finite(sample.data.values)
        facts = [
            {"channel": name} | ({"unit": unit} if (unit := self._units.get(name)) else {})
            for name in sample.data.channels
        ]
        return Prepared(values, facts, sample.origin)


class Utterances:
    """Prepares what an `UtteranceCutter` has cut, and messages that are WAV files."""

    def __call__(self, sample: Sample, *, needs_image: bool) -> Prepared:  # noqa: ARG002 - there is no picture
        """See `Prepare`; the tensor is (samples,), int16, 16 kHz."""
        if isinstance(sample.data, InputError):
            raise sample.data
        if isinstance(sample.data, bytes):
            return Prepared(whole(sample.data), [None], sample.origin)
        if not isinstance(sample.data, Series):
            raise InputError("expected sound, found a picture")
        return Prepared(as_pcm(sample.data.values), [None], sample.origin)


def preparation(preprocess: Preprocess | SeriesPreprocess | OfSensor | None, options: settings.Pipeline) -> Prepare:
    """The preparation that suits a model's input.

    Args:
        preprocess: of the model; None: it is a built-in one.
        options: of the pipeline.
    """
    if isinstance(options.model, settings.Speech):
        return Utterances()
    if preprocess is None:
        return NamedReadings(units_of(options.source))
    if isinstance(preprocess, SeriesPreprocess):
        return Readings(preprocess, _number_format(options))
    if isinstance(preprocess, OfSensor):
        return Tensors(preprocess)
    return Pictures(preprocess, options)


def _picture(sample: Sample, reduction: Reduction | None) -> Picture:
    if isinstance(sample.data, InputError):
        raise sample.data
    if isinstance(sample.data, Series):
        raise InputError("expected a picture, found readings: the model takes pictures")
    if isinstance(sample.data, bytes):
        return decode_picture(sample.data, reduction)
    if isinstance(sample.data, PlanarFrame):
        return convert_frame(sample.data, reduction)
    return reduce_pixels(sample.data, reduction)


def stream_cutter(
    preprocess: Preprocess | SeriesPreprocess | None, options: settings.Pipeline, counters: Counters
) -> StreamCutter | ReadingCutter | UtteranceCutter | None:
    """Cuts a pipeline's stream into windows, readings or utterances; None where each sample is one input."""
    if isinstance(options.model, settings.Speech):
        return None if options.source.type in WHOLE_INPUTS else UtteranceCutter()
    if isinstance(options.model, settings.Statistics):
        return ReadingCutter(options.model, _number_format(options))
    if not isinstance(preprocess, SeriesPreprocess) or (options.window is None and options.source.type in WHOLE_INPUTS):
        return None
    return StreamCutter(preprocess, options.window or Window(), counters, _number_format(options))


def _number_format(options: settings.Pipeline) -> NumberFormat:
    source = options.source
    return source.fields or source.numbers if isinstance(source, settings.MqttSource) else None


def units_of(source: settings.Source) -> Mapping[str, str]:
    """The units of a source's readings by their names, as they are written: °C for degC."""
    stated = source.fields if isinstance(source, settings.MqttSource) else {}
    return {name: _UNITS.get(unit, unit) for name, unit in stated.items()}
