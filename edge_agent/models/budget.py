"""The memory that all models may take together."""

from edge_agent.errors import ModelError
from edge_agent.system import memory
from edge_agent.system.units import format_size


class Budget:
    """The memory that is left for models.

    Args:
        most: bytes for all models, as configured; None: a share of the free memory, for models that are not loaded yet.

    Attributes:
        stated: the same bytes.
    """

    def __init__(self, most: int | None) -> None:
        self.stated = most
        self._left = memory.for_models() if most is None else most

    @property
    def left(self) -> int | None:
        """Bytes; None where nothing is known of the free memory."""
        return self._left

    def keep(self, size: int) -> None:
        """Counts a model that is loaded already."""
        if self.stated is not None and self._left is not None:
            self._left -= size

    def take(self, size: int, of_what: str) -> None:
        """Counts a model that is about to be loaded.

        Args:
            size: bytes that it will take, about.
            of_what: what takes these bytes, for the error message.

        Raises:
            ModelError: that much memory is not left.
        """
        if self._left is not None and size > self._left:
            bound = (
                "model_memory" if self.stated is not None else f"{memory.SHARE_OF_FREE_MEMORY:.0%} of the free memory"
            )
            raise ModelError(
                f"it takes about {format_size(size)} of memory ({of_what}), and of {bound} "
                f"{format_size(max(0, self._left))} are left: use fewer or smaller models"
            )
        if self._left is not None:
            self._left -= size
