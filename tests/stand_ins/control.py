"""Has a stand-in fail: a file of JSON, which it reads at each call."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The variable that names the file.
VARIABLE = "EDGE_AGENT_STAND_IN"


class Control:
    """The file of one stand-in.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stand_in.json"
        self.set()

    @property
    def environment(self) -> dict[str, str]:
        return {VARIABLE: str(self.path)}

    def set(self, **facts: Any) -> None:
        """What holds from now on: `at`, the call that goes wrong, and how: `status`, `hang` or `crash`; and others."""
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps(facts))
        beside.rename(self.path)

    @contextmanager
    def failing(self, **facts: Any) -> Iterator[None]:
        self.set(**facts)
        yield
        self.set()
