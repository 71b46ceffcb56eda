"""Images as the agent decodes them."""

import numpy as np
from numpy.typing import NDArray

from edge_agent.preprocess.decoding import decode_picture


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """All pixels of an encoded image: (height, width, 3), uint8, BGR, upright."""
    return decode_picture(data).pixels
