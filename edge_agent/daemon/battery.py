"""The battery of a phone, asked through Termux:API (https://wiki.termux.com/wiki/Termux-battery-status)."""

import json
import logging
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.errors import SourceError

log = logging.getLogger(__name__)

PROGRAM = "termux-battery-status"
# It asks an app, which may be asleep, or not be there at all.
PATIENCE = 20.0
_MAX_ANSWER = 65536
# So many percent above the level at which everything was paused, it goes on.
_RECOVERED = 5.0


class Battery:
    """Asks for its state now and then, in a thread of its own; does nothing where there is no way to ask.

    Args:
        options: how often, and below which level it counts as low.

    Attributes:
        facts: percentage, whether it is plugged in, and its temperature in °C, as far as they are known; as published.
        low: it is below the level, and not being charged. So it stays until it is plugged in, or well above the level.
    """

    def __init__(self, options: settings.Battery) -> None:
        self.facts: dict[str, Any] = {}
        self.low = False
        self._options = options
        self._stopping = threading.Event()
        self._said = False

    def start(self) -> None:
        """Begins to ask."""
        if shutil.which(PROGRAM):
            threading.Thread(target=self._watch, name="battery", daemon=True).start()
        elif self._options.pause_below is not None:
            log.warning("battery: there is no %s: nothing is paused (Termux: pkg install termux-api)", PROGRAM)

    def stop(self) -> None:
        """Asks no more; does not wait."""
        self._stopping.set()

    def _watch(self) -> None:
        while True:
            try:
                self._take(_ask(self._stopping))
                self._said = False
            except (SourceError, ValueError, TypeError, RecursionError) as error:
                self.facts = {}
                if not self._said and not self._stopping.is_set():
                    log.warning(
                        "battery: %s gives no answer that can be used: is Termux:API installed? (%s)", PROGRAM, error
                    )
                self._said = True
            if self._stopping.wait(self._options.interval):
                return

    def _take(self, answer: dict[str, Any]) -> None:
        percentage, plugged = float(answer["percentage"]), answer["plugged"] != "UNPLUGGED"
        facts = {"percentage": percentage, "plugged": plugged}
        if isinstance(answer.get("temperature"), int | float):
            facts["temperature_c"] = answer["temperature"]
        self.facts = facts
        level = self._options.pause_below
        if level is not None:
            self.low = not plugged and percentage < level + (_RECOVERED if self.low else 0)


def _ask(stopping: threading.Event) -> dict[str, Any]:
    """What the program answers.

    Raises:
        SourceError: it can't be run, or has not answered in time.
        ValueError: it has answered something else.
    """
    from edge_agent.sources.child import Child

    deadline = time.monotonic() + PATIENCE
    child = Child([PROGRAM], Path.home(), "battery")
    answer = b""
    try:
        for data in child.read(lambda: stopping.is_set() or time.monotonic() > deadline):
            answer += data
            if len(answer) > _MAX_ANSWER:
                break
    finally:
        child.stop()
    document = json.loads(answer or b"null")
    if not isinstance(document, dict) or not {"percentage", "plugged"} <= set(document):
        raise ValueError("no percentage in it" if answer else "nothing")
    return document
