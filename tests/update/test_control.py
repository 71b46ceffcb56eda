from typing import Any

from edge_agent.update.control import UpdateControl


class Stopping(UpdateControl):
    """Its updater is stopped by another thread between any two looks at it."""

    def __init__(self) -> None:
        self._looks = 0

    @property
    def _updater(self) -> Any:  # type: ignore[override]
        self._looks += 1
        return None if self._looks > 1 else self

    def document(self) -> Any:
        return {"at": "now"} if self._looks else super().document()


def test_the_state_of_updates_can_be_read_while_they_are_stopped() -> None:
    assert Stopping().document() == {"at": "now"}
