"""Models that run in the sensor of a camera: what they give takes the place of an input tensor."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.errors import InputError
from edge_agent.preprocess.image import Preprocess
from edge_agent.preprocess.placement import Placement
from edge_agent.samples import SensorOutput

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class OfSensor(Preprocess):
    """The model's input is what the sensor sees; its outputs come with each frame.

    Attributes:
        numbers: of all output tensors together.
    """

    numbers: int = 0

    def tensor(self, output: SensorOutput) -> "NDArray[np.float32]":
        """What the engine takes: (1, numbers), float32.

        Raises:
            InputError: the sensor gives another number of them.
        """
        if len(output.values) != self.numbers:
            raise InputError(
                f"the camera gives {len(output.values)} numbers, and the model has {self.numbers}: another network "
                "runs in it"
            )
        return output.values[None]

    def place_frame(self, output: SensorOutput) -> Placement:
        """Where the frame lies in the model's input, which is all of the sensor."""
        (x, y, wide, high), (width, height) = output.crop, output.size
        return Placement(
            region=None,
            width=width,
            height=height,
            offset_x=0,
            offset_y=0,
            crop_width=width,
            crop_height=height,
            scale_x=self.width * wide / width,
            scale_y=self.height * high / height,
            pad_x=self.width * x,
            pad_y=self.height * y,
        )

    def blank(self, count: int) -> "tuple[NDArray[Any], list[Placement]]":
        """See `Preprocess.blank`: what a sensor gives that sees nothing."""
        whole = SensorOutput(np.zeros(self.numbers, np.float32), (0.0, 0.0, 1.0, 1.0), (self.width, self.height))
        return np.repeat(self.tensor(whole), count, axis=0), [self.place_frame(whole)] * count
