"""What models without a file have in common."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from edge_agent import __version__


class BuiltIn:
    """Has the properties of a `Model` that pipelines use, but for its predictions. It runs on the CPU.

    Args:
        name: of the model.
        runtime: that runs it.

    Attributes:
        identity: name and version, as results carry them; there is no file to hash.
    """

    task: str
    preprocess = None
    min_confidence: float | None = None
    takes_pictures = stateful = keeps_state = False
    together = parallel = 1
    fallback = ""

    def __init__(self, name: str, runtime: str) -> None:
        self.identity = {"name": name, "version": __version__, "sha256": ""}
        self.engine = SimpleNamespace(accelerator="cpu", runtime=runtime)

    def facts(self) -> dict[str, Any]:
        """As published in `info`."""
        about = {"engine": self.engine.runtime, "accelerator": self.accelerator_facts(), "task": self.task}
        return self.identity | about | {"multi_label": False}

    def accelerator_facts(self) -> dict[str, Any]:
        """See `Model.accelerator_facts`."""
        return {"asked": ["cpu"], "in_use": "cpu", "fallback": "", "share": None, "speed_up": None, "moves": 0}

    def when_moved(self, moved: Callable[[], None]) -> None:
        """Does nothing: it never changes its accelerator."""

    def retire(self, successor: object = None) -> None:
        """Does nothing: there is nothing to free."""

    def close(self) -> None:
        """Does nothing: there is nothing to free."""
