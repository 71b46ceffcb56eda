"""Inputs at which the whole agent ends, again and again: the model or a decoder hangs or crashes there.

An MQTT input of QoS 1 is not acknowledged then, so the broker delivers it first after the next start, for ever. What
was in progress when the agent ended is recorded in a file, by a hash of topic and payload. After `MAX_DEATHS` the input
is given up: an error like any other.

In normal operation nothing is written, and nothing hashed. Under suspicion are inputs that are delivered again, and
those at which a pipeline hangs: they are recorded before the inference, or before the watchdog ends the process.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edge_agent.errors import ModelError
from edge_agent.samples import Sample
from edge_agent.system import atomic_file
from edge_agent.system.set_aside import set_aside, why_unusable
from edge_agent.system.text import TextError, parse_json, read_text

log = logging.getLogger(__name__)

# How often the agent may end at an input.
MAX_DEATHS = 3
# Inputs that are kept; those that were recorded first are dropped.
MAX_KEPT = 64
# Seconds after which an input that has not come again is forgotten.
FORGET_AFTER = 7 * 24 * 3600.0
_MAX_FILE = 100_000
_KEY_LENGTH = 64


class PoisonInputs:
    """The inputs at which the agent has ended. From any thread.

    Args:
        path: of the file; None: nothing outlasts the process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._deaths: dict[str, tuple[int, float]] = {} if path is None else _read(path)
        self._in_progress: set[str] = set()

    def is_suspect(self, sample: Sample) -> bool:
        """Whether the agent may have ended at an input: one that its sender repeats, or that is recorded."""
        if not sample.settlement.sender_waits:
            return False
        return "redelivered" in sample.origin or (bool(self._deaths) and self._key(sample) in self._deaths)

    def refuse(self, sample: Sample) -> None:
        """Refuses an input at which the agent has ended too often.

        Raises:
            ModelError: says how often.
        """
        if not self._deaths or (key := self._key(sample)) not in self._deaths:
            return
        deaths, _ = self._deaths[key]
        if deaths >= MAX_DEATHS and key not in self._in_progress:
            self._forget(key)
            raise ModelError(f"given up: the agent has ended {deaths} times while it worked on this input")

    @contextmanager
    def attempt(self, samples: Sequence[Sample]) -> Iterator[None]:
        """To be within while the model works on inputs: suspects are recorded as if the agent ended there."""
        keys = [self._key(sample) for sample in samples if self.is_suspect(sample)]
        if keys:
            self._record(keys)
        try:
            yield
        finally:
            for sample in samples if self._in_progress else ():
                self._forget(self._key(sample))

    def hung(self, samples: Iterable[Sample]) -> None:
        """Records inputs at which a pipeline hangs: the process is about to be ended."""
        self._record([self._key(sample) for sample in samples if sample.settlement.sender_waits])

    def end(self) -> None:
        """The agent ends in order: what is still in progress is not to blame."""
        with self._lock:
            for key in self._in_progress & self._deaths.keys():
                deaths, at = self._deaths[key]
                self._deaths[key] = deaths - 1, at
            if self._in_progress:
                self._in_progress.clear()
                self._write()

    def _record(self, keys: Iterable[str]) -> None:
        with self._lock:
            new = [key for key in keys if key and key not in self._in_progress]
            for key in new:
                deaths, _ = self._deaths.pop(key, (0, 0.0))
                self._deaths[key] = deaths + 1, time.time()
                self._in_progress.add(key)
            if new:
                self._write()

    def _forget(self, key: str) -> None:
        with self._lock:
            self._in_progress.discard(key)
            if self._deaths.pop(key, None) is not None:
                self._write()

    def _key(self, sample: Sample) -> str:
        """Identifies topic and payload; empty for what is not a message."""
        if not isinstance(sample.data, bytes) or sample.stream is None:
            return ""
        return hashlib.blake2b(sample.stream.encode() + b"\0" + sample.data, digest_size=_KEY_LENGTH // 2).hexdigest()

    def _write(self) -> None:
        self._deaths = {key: (deaths, at) for key, (deaths, at) in [*self._deaths.items()][-MAX_KEPT:] if deaths > 0}
        if self._path is None:
            return
        try:
            if self._deaths:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                atomic_file.write(self._path, json.dumps(self._deaths, indent=1).encode())
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: can't be written (%s): an input that ends the agent is not noticed", self._path, error)


def _read(path: Path) -> dict[str, tuple[int, float]]:
    """The recorded inputs; what is in the place of the file and can't be used is set aside."""
    try:
        if not (why := why_unusable(path)):
            document = parse_json(read_text(path, _MAX_FILE))
            if isinstance(document, dict) and all(map(_is_record, document.items())):
                now = time.time()
                return {key: (deaths, at) for key, (deaths, at) in document.items() if abs(now - at) < FORGET_AFTER}
            why = "it is no record of inputs"
    except FileNotFoundError:
        return {}
    except TextError as error:
        why = str(error)
    except OSError as error:
        log.warning("%s: can't be read: %s", path, error.strerror)
        return {}
    try:
        log.error("%s: can't be used (%s): set aside as %s", path, why, set_aside(path))
    except OSError as error:
        log.error("%s: can't be used (%s), nor moved out of the way: %s", path, why, error.strerror)
    return {}


def _is_record(item: tuple[str, object]) -> bool:
    key, value = item
    if len(key) != _KEY_LENGTH or not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - deaths and time
        return False
    deaths, at = value
    return type(deaths) is int and deaths > 0 and isinstance(at, int | float)
