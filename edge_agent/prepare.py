"""The first part of the road: a sample becomes what its model takes. One class for each kind of input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent import settings
from edge_agent.decoders.placement import Given
from edge_agent.errors import InputError
from edge_agent.images import decode_image
from edge_agent.preprocess import Preprocess
from edge_agent.regions import Regions
from edge_agent.samples import Sample, Series
from edge_agent.series.numbers import Numbers, read_numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sample that is ready for its model.

    Attributes:
        tensor: what goes in; the first axis is the batch.
        placements: for each item of the batch what the decoder has to know of where it comes from.
        facts: of the input, as results tell them.
        image: the picture (height, width, 3), uint8, BGR; None where it is none.
    """

    tensor: Any
    placements: Sequence[Any]
    facts: Mapping[str, Any]
    image: "NDArray[np.uint8] | None" = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture; 0, 0 where it is none."""
        return (0, 0) if self.image is None else (self.image.shape[1], self.image.shape[0])


class Prepare(Protocol):
    """From a sample to what its model takes."""

    def __call__(self, sample: Sample) -> Prepared:
        """Prepares a sample; called from several threads.

        Raises:
            InputError: the sample can't be used.
        """
        ...


class Pictures:
    """Prepares pictures: decoded, cut into regions, brought to the size of the model's input.

    Args:
        preprocess: of the model.
        options: of the pipeline, for its regions.
    """

    def __init__(self, preprocess: Preprocess, options: settings.Pipeline) -> None:
        self._preprocess = preprocess
        self._regions = Regions(options.regions)

    def __call__(self, sample: Sample) -> Prepared:
        """See `Prepare`."""
        image = _pixels(sample)
        views = self._regions.cut(image)
        return Prepared(
            self._preprocess([view.pixels for view in views]),
            [self._preprocess.place(view) for view in views],
            {"width": image.shape[1], "height": image.shape[0], **sample.origin},
            image,
        )


class Readings:
    """Prepares readings and sounds.

    Args:
        preprocess: of the model.
    """

    def __init__(self, preprocess: Numbers) -> None:
        self._preprocess = preprocess

    def __call__(self, sample: Sample) -> Prepared:
        """See `Prepare`."""
        values = self._preprocess.real(_numbers(sample))
        return Prepared(self._preprocess([values]), [Given(values)], sample.origin)


def preparation(preprocess: Preprocess | Numbers, options: settings.Pipeline) -> Prepare:
    """How the samples of a pipeline become what its model takes."""
    return Readings(preprocess) if isinstance(preprocess, Numbers) else Pictures(preprocess, options)


def _pixels(sample: Sample) -> Any:
    if isinstance(sample.data, InputError):
        raise sample.data
    if isinstance(sample.data, Series):
        raise InputError("expected a picture, found readings: the model takes pictures")
    return decode_image(sample.data) if isinstance(sample.data, bytes) else sample.data


def _numbers(sample: Sample) -> "NDArray[np.float32]":
    if isinstance(sample.data, InputError):
        raise sample.data
    if isinstance(sample.data, bytes):
        return read_numbers(sample.data)
    if isinstance(sample.data, Series):
        return sample.data.values
    raise InputError("expected readings, found a picture: the model takes no pictures")
