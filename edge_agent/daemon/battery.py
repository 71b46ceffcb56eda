"""The battery of a phone, read through Termux:API (https://wiki.termux.com/wiki/Termux-battery-status)."""

import logging
import shutil
import threading
import time
from typing import Any

from edge_agent import settings
from edge_agent.errors import SourceError
from edge_agent.system.home import home
from edge_agent.system.text import parse_json

log = logging.getLogger(__name__)

PROGRAM = "termux-battery-status"
# Seconds. The program asks an app, which may be asleep or missing.
PATIENCE = 20.0
_MAX_ANSWER = 65536
# A low battery has recovered when it is this many percent above the level.
_RECOVERED = 5.0


class Battery:
    """Polls the battery in a thread of its own; does nothing where Termux:API is not installed.

    Args:
        options: how often to poll, and below which level the battery counts as low.

    Attributes:
        facts: percentage, whether it is plugged in, and its temperature in °C, as published; empty while unknown.
        low: the battery is below the level and not being charged; True until it is plugged in, or well above the level.
    """

    def __init__(self, options: settings.Battery) -> None:
        self.facts: dict[str, Any] = {}
        self.low = False
        self._options = options
        self._stopping = threading.Event()
        self._logged = False

    def start(self) -> None:
        """Starts polling."""
        if shutil.which(PROGRAM):
            threading.Thread(target=self._watch, name="battery", daemon=True).start()
        elif self._options.pause_below is not None:
            log.warning("battery: no %s: battery.pause_below has no effect (Termux: pkg install termux-api)", PROGRAM)

    def stop(self) -> None:
        """Stops polling; does not wait for the thread."""
        self._stopping.set()

    def _watch(self) -> None:
        while True:
            try:
                self._update(_read(self._stopping))
                self._logged = False
            except (SourceError, OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
                self.facts = {}
                if not self._logged and not self._stopping.is_set():
                    log.warning("battery: no usable answer from %s: is Termux:API installed? (%s)", PROGRAM, error)
                self._logged = True
            if self._stopping.wait(self._options.interval):
                return

    def _update(self, answer: dict[str, Any]) -> None:
        percentage, plugged = float(answer["percentage"]), answer["plugged"] != "UNPLUGGED"
        facts = {"percentage": percentage, "plugged": plugged}
        if isinstance(answer.get("temperature"), int | float):
            facts["temperature_c"] = answer["temperature"]
        log.debug("battery: %s", facts)
        self.facts = facts
        level = self._options.pause_below
        if level is not None:
            self.low = not plugged and percentage < level + (_RECOVERED if self.low else 0)


def _read(stopping: threading.Event) -> dict[str, Any]:
    """Runs the program once.

    Raises:
        SourceError: the program can't be run, or does not answer in time.
        ValueError: the answer is not the JSON object that is expected.
    """
    from edge_agent.sources.child import Child

    deadline = time.monotonic() + PATIENCE
    child = Child([PROGRAM], home(), "battery")
    answer = b""
    try:
        for data in child.read(lambda: stopping.is_set() or time.monotonic() > deadline):
            answer += data
            if len(answer) > _MAX_ANSWER:
                break
    finally:
        child.stop()
    document = parse_json(answer or b"null")
    if not isinstance(document, dict) or not {"percentage", "plugged"} <= set(document):
        raise ValueError("no percentage in it" if answer else "nothing")
    return document
