"""Models on chips whose library comes with the system: the part that all vendors share."""

import importlib.util
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_agent.engines import MAX_REASON
from edge_agent.engines.accelerators import Target
from edge_agent.engines.isolated import IsolatedEngine
from edge_agent.engines.supervised import LOAD_TIMEOUT
from edge_agent.errors import ModelError
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.system.worker_process import WorkerEndedError, WorkerHungError

# The interpreter of the system, which has the packages of the system.
SYSTEM_PYTHON = "/usr/bin/python3"
# Seconds in which a chip may be released.
CLOSE_TIMEOUT = 2.0


class ChipEngine(IsolatedEngine):
    """A model on a chip: see `IsolatedEngine`.

    Args:
        file: the model file.
        target: the chip, with its options.
        library: the vendor's module, which decides on the interpreter.
        hints: status of the vendor's library -> what it means and what to do.
        facts: further ones of the request.

    Raises:
        ModelError: the model can't be loaded or run there.
    """

    def __init__(
        self,
        file: FileIdentity,
        target: Target,
        library: str,
        hints: Mapping[int, str],
        facts: Mapping[str, Any],
    ) -> None:
        self._hints = hints
        self._interpreter = interpreter_for(library, target.options)
        request = {"file": file.as_json(), "options": dict(target.options), **facts}
        try:
            super().__init__(target.runs_on, request, target.name, LOAD_TIMEOUT, self._interpreter)
        except OSError as error:
            raise ModelError(f"{self._interpreter} can't be started: {error.strerror}: state `python`") from None

    def close(self) -> None:
        """Has the process release the chip, and ends it."""
        with suppress(WorkerEndedError, WorkerHungError):
            self._worker.send(None)
            self._worker.receive(CLOSE_TIMEOUT)
        super().close()

    def explain(self, answer: Mapping[str, Any]) -> str:
        """See `IsolatedEngine.explain`: with what the status means and what to do."""
        text = str(answer["error"])
        text = text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"
        if "No module named" in text:
            text = f"{self._interpreter}: {text}"
        hint = self._hints.get(answer.get("status", 0), "")
        return f"{text}: {hint}" if hint else text


def interpreter_for(library: str, options: Mapping[str, str]) -> str:
    """The Python that has a vendor's module: the one that is stated, this one, or else the one of the system."""
    if stated := options.get("python"):
        return stated
    if importlib.util.find_spec(library) is not None or not Path(SYSTEM_PYTHON).exists():
        return sys.executable
    return SYSTEM_PYTHON
