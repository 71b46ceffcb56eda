"""The history of the labels of kept samples: one JSON object a line, only appended to. The last one counts."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.sample_store.segment import StoreError
from edge_agent.system.text import TextError, lines, parse_json, read_text

NAME = "labels.jsonl"
MAX_FILE, MAX_OBJECTS = 500_000_000, 10_000
_CORNERS = 4

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Label:
    """What is right for a sample, as a person has said.

    Attributes:
        label: of the whole sample; None: it is not labelled as a whole.
        objects: label and box x1, y1, x2, y2 in pixels of each object; None: they are not labelled.
        discard: whether the sample is of no use.
    """

    label: str | None = None
    objects: tuple[tuple[str, Box], ...] | None = None
    discard: bool = False

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the file."""
        objects = None if self.objects is None else [{"label": label, "box": list(box)} for label, box in self.objects]
        known = {"label": self.label, "objects": objects, "discard": self.discard or None}
        return {key: value for key, value in known.items() if value is not None}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "Label | None":
        """A label from its line; None if it is none."""
        label, objects = document.get("label"), document.get("objects")
        if not (label is None or isinstance(label, str)) or not (objects is None or isinstance(objects, list)):
            return None
        discard = document.get("discard") is True
        if objects is None:
            return cls(label, None, discard)
        found = tuple(one for stated in objects[:MAX_OBJECTS] if (one := _object(stated)))
        return cls(label, found, discard) if len(found) == len(objects) else None


def _object(one: object) -> tuple[str, Box] | None:
    if not isinstance(one, dict) or not isinstance(one.get("label"), str):
        return None
    box = one.get("box")
    numbers = isinstance(box, list) and len(box) == _CORNERS and all(isinstance(edge, int | float) for edge in box)
    return (one["label"], (float(box[0]), float(box[1]), float(box[2]), float(box[3]))) if box and numbers else None


def read_labels(store: Path) -> dict[str, Label]:
    """The labels of a store by the ids of samples; lines that can't be read are left out: the last one may be cut off.

    Raises:
        StoreError: the file is too large, or not text.
        OSError: it can't be read.
    """
    found: dict[str, Label] = {}
    for document in _documents(store):
        if isinstance(document.get("id"), str) and (label := Label.read(document)):
            found[document["id"]] = label
    return found


def read_history(store: Path, sample: str) -> list[dict[str, Any]]:
    """What has been said of a sample, as it stands in the file, oldest first: with `by` and `at`.

    Raises:
        StoreError: see `read_labels`.
        OSError: the file can't be read.
    """
    return [document for document in _documents(store) if document.get("id") == sample and Label.read(document)]


def _documents(store: Path) -> Iterator[dict[str, Any]]:
    for line in lines(_content(store / NAME)):
        try:
            document = parse_json(line)
        except TextError:
            continue
        if isinstance(document, dict):
            yield document


def append_labels(store: Path, labels: Iterable[tuple[str, Label]], by: str, at: str) -> int:
    """Adds to the history; when this returns, it is on the disk. Several processes may do that.

    Args:
        store: the folder.
        labels: ids of samples, and what is right for them.
        by: who says that.
        at: when, as a timestamp.

    Returns:
        How many there were.

    Raises:
        OSError: the file can't be written.
    """
    rows = [json.dumps({"id": one, "at": at, "by": by, **label.as_dict()}) for one, label in labels]
    _append(store, rows)
    return len(rows)


def merge_labels(store: Path, other: Path) -> int:
    """Adds to the history what another copy of it has and this one has not; returns how many lines.

    Raises:
        StoreError: a file is too large, or not text.
        OSError: a file can't be read or written.
    """
    found = lines(_content(other))
    known = set(lines(_content(store / NAME)))
    fresh = [line for line in found if line.strip() and line not in known]
    _append(store, fresh)
    return len(fresh)


def _content(file: Path) -> str:
    try:
        return read_text(file, MAX_FILE)
    except FileNotFoundError:
        return ""
    except TextError as error:
        raise StoreError(f"{file}: {error}") from None


def _append(store: Path, rows: Sequence[str]) -> None:
    if not rows:
        return
    with (store / NAME).open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        begin = ""
        if size := file.seek(0, os.SEEK_END):
            file.seek(size - 1)
            begin = "" if file.read(1) == b"\n" else "\n"  # the last write was cut off
        file.write((begin + "\n".join(rows) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
