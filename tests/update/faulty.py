"""edge-agent, with faults.

$BAD_SERVICE: `fails VERSION`, `slow VERSION` or `dies VERSION`: how a version's inferences are once it serves.

$POWER_CUT_AT: a point of an update at which the process is killed:

`before STEP`, `in STEP`, `after STEP`: around a change of the store; in: between writing the new state and giving it
its name. `fetch`: in the middle of a download. Any other name: when the step of that name is about to be published.

$LEAST_INTERVAL: seconds between the starts of two checks, which are otherwise waited for.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent import cli
from edge_agent.errors import ModelError
from edge_agent.models.model import Model
from edge_agent.update import check_pace
from edge_agent.update.store import Store
from edge_agent.update.updater import Updater

STEPS = ("take_in", "begin", "activate", "commit", "refuse", "roll_back")
HALF_WAY = 100_000
SLOW_S = 60.0  # said to have passed


def _cut() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _instrument(point: str) -> None:
    when, _, name = point.partition(" ")
    if when in ("before", "in", "after") and name in STEPS:
        _instrument_store(when, name)
    elif point == "fetch":

        def half_way(_: Updater, have: int = 0) -> None:
            if have > HALF_WAY:
                _cut()

        _replace(Updater, "_check_stop", lambda _: half_way)
    else:

        def publish(original: Callable[..., None]) -> Callable[..., None]:
            def step(self: Updater, model: str, reached: str, *args: Any, **facts: Any) -> None:
                if reached == point:
                    _cut()
                original(self, model, reached, *args, **facts)

            return step

        _replace(Updater, "_step", publish)


def _serve_badly(how: str, version: str) -> None:
    def bad(original: Callable[..., Any]) -> Callable[..., Any]:
        def infer(self: Model, *args: Any) -> Any:
            serves = threading.current_thread().name in ("lab 0", "lab 1")
            if serves and self.identity["version"] == version:
                if how == "dies":
                    _cut()
                if how == "fails":
                    raise ModelError("a fault")
                self.engine.busy += SLOW_S
            return original(self, *args)

        return infer

    _replace(Model, "infer", bad)


def _instrument_store(when: str, name: str) -> None:
    inside: list[str] = []

    def change(original: Callable[..., Any]) -> Callable[..., Any]:
        def changed(self: Store, *args: Any, **options: Any) -> Any:
            if when == "before":
                _cut()
            inside.append(name)
            result = original(self, *args, **options)
            if when == "after":
                _cut()
            return result

        return changed

    def rename(original: Callable[[Path, Any], Path]) -> Callable[[Path, Any], Path]:
        def replace(self: Path, target: Any) -> Path:
            if inside and Path(target).name == "state.json":
                _cut()
            return original(self, target)

        return replace

    _replace(Store, name, change)
    if when == "in":
        _replace(Path, "replace", rename)


def _replace(owner: type, name: str, make: Callable[[Any], Any]) -> None:
    setattr(owner, name, make(getattr(owner, name)))


if __name__ == "__main__":
    check_pace.LEAST_INTERVAL = float(os.environ.get("LEAST_INTERVAL", check_pace.LEAST_INTERVAL))
    if fault := os.environ.get("BAD_SERVICE"):
        _serve_badly(*fault.split())
    if point := os.environ.get("POWER_CUT_AT"):
        _instrument(point)
    sys.exit(cli.main())
