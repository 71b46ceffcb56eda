"""Files of recordings: a head, the inputs in their order with what became of each, and an end."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.errors import InputError
from edge_agent.keeping.payload import decode
from edge_agent.sample_store.segment import Entry, StoreError, Walk, walk
from edge_agent.samples import Sample

SUFFIX, PART_SUFFIX = ".recording", ".recording.part"
NAME = re.compile(r"([0-9]{8})-[0-9A-Za-z-]+\.recording")
# What stands in place of an input that could not even be read.
NOTHING = "none"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording, whose inputs are read one by one.

    Attributes:
        path: of the file.
        head: pipeline, device, reason, options, model, versions.
    """

    path: Path
    head: Mapping[str, Any]

    def entries(self, found: Walk | None = None) -> Iterator[Entry]:
        """The inputs in their order.

        Args:
            found: counts what is damaged.

        Raises:
            StoreError: see `open_recording`.
            OSError: the file can't be read.
        """
        for _, entry in walk(self.path, found):
            if "captured" in entry.document:
                yield entry

    def packets(self) -> Iterator[Entry]:
        """The packets of its stream, in the order in which they came; errors as those of `entries`."""
        for _, entry in walk(self.path):
            if "packet" in entry.document:
                yield entry

    def captured_at(self, document: Mapping[str, Any]) -> float:
        """When an input was captured, in seconds since the epoch, by the clock as it was when the recording started.

        A clock that was set meanwhile moves nothing: the times of all inputs are as far apart as the inputs were.

        Args:
            document: of the input.
        """
        epoch, captured = self.head.get("epoch"), document.get("captured")
        if isinstance(epoch, int | float) and isinstance(captured, int | float):
            return float(epoch + captured)
        at = document.get("captured_at")  # an earlier version has written it
        return float(at) if isinstance(at, int | float) else 0.0

    def end(self) -> Mapping[str, Any]:
        """What is stated at its end; empty if it was cut off."""
        last = Entry({}, b"")
        for _, entry in walk(self.path):
            last = entry
        end = last.document.get("end")
        return end if isinstance(end, dict) else {}


def open_recording(path: Path) -> Recording:
    """Opens a recording.

    Raises:
        StoreError: it can't be read, is none, or one of a newer version.
    """
    try:
        first = next((entry for _, entry in walk(path)), None)
    except OSError as error:
        raise StoreError(f"{path}: can't be read: {error.strerror}") from None
    head = None if first is None else first.document.get("recording")
    if not isinstance(head, dict):
        raise StoreError(f"{path}: no recording: it does not begin with the head of one")
    return Recording(path, head)


def recordings(folder: Path) -> list[Path]:
    """The finished recordings of a folder, oldest first.

    Raises:
        OSError: the folder can't be read.
    """
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def sample_of(entry: Entry) -> Sample:
    """An input as it went through the pipeline, with the times at which it did.

    Raises:
        StoreError: the document lacks what is needed.
    """
    document = entry.document
    captured, captured_at, played = (document.get(key) for key in ("captured", "captured_at", "played"))
    facts, origin = document.get("input"), document.get("origin")
    numbers = isinstance(captured, int | float) and isinstance(captured_at, int | float)
    if not (numbers and isinstance(facts, dict) and isinstance(origin, dict)):
        raise StoreError("an entry of the recording is no input: its times, its origin or its kind is missing")
    data: Any
    if facts.get("media") == NOTHING:
        data = InputError(str(document.get("error")))
    else:
        try:
            data = decode(entry.data, facts)
        except InputError as error:
            data = error
    played = float(played) if isinstance(played, int | float) else None
    return Sample(data, float(captured_at or 0), float(captured or 0), origin, played=played)
