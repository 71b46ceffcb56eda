"""Kept samples with what is right for them, and parts of them that keep together what belongs together."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.errors import InputError
from edge_agent.keeping.payload import JSON, SERIES, SOUND, TEXT, UNKNOWN
from edge_agent.postprocess.thresholds import ANOMALY
from edge_agent.preprocess.decoding import decode_picture
from edge_agent.sample_store.labels import Box, Label, read_labels
from edge_agent.sample_store.segment import Entry, Walk
from edge_agent.sample_store.store import Stored, read_store
from edge_agent.system.text import TextError, decode_lenient, parse_json

PICTURES = {"image/jpeg": ".jpg", "image/png": ".png", "image/bmp": ".bmp", "image/webp": ".webp"}
ENDINGS = PICTURES | {SERIES: ".csv", SOUND: ".wav", TEXT: ".txt", JSON: ".json"}


@dataclass(frozen=True, slots=True)
class Chosen:
    """A kept sample, which is read when it is asked for.

    Attributes:
        stored: where it is.
        entry: what is stored with it; without the data.
        stated: what a person has said; None: nothing.
    """

    stored: Stored
    entry: Mapping[str, Any]
    stated: Label | None

    @property
    def media(self) -> str:
        """What kind of file it is."""
        facts = self.entry.get("input")
        return str(facts.get("media", UNKNOWN)) if isinstance(facts, dict) else UNKNOWN

    @property
    def file(self) -> str:
        """Its name as a file: its id."""
        return f"{self.stored.id}{ENDINGS.get(self.media, '.bin')}"

    @property
    def result(self) -> Mapping[str, Any]:
        """The result document; empty where there is none."""
        result = self.entry.get("result")
        return result if isinstance(result, dict) else {}

    @property
    def is_request(self) -> bool:
        """Whether it is a request to a language model."""
        return "text" in (self.result.get("task"), self.entry.get("task"))

    @property
    def predictions(self) -> list[Mapping[str, Any]]:
        """What the model has said."""
        found = self.result.get("predictions")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    @property
    def label(self) -> str | None:
        """The label of the whole sample: as a person has said, else the model's best; an anomaly of any reading."""
        if self.stated is not None and self.stated.label is not None:
            return self.stated.label
        found = [label for one in self.predictions if "box" not in one and (label := one.get("label")) is not None]
        if self.result.get("task") == ANOMALY and ANOMALY in found:
            return ANOMALY
        return str(found[0]) if found else None

    @property
    def objects(self) -> list[tuple[str, Box]]:
        """The objects in a picture: as a person has said, else as the model has."""
        if self.stated is not None and self.stated.objects is not None:
            return list(self.stated.objects)
        return [(str(one.get("label")), _box(one["box"])) for one in self.predictions if _is_box(one.get("box"))]

    @property
    def has_objects(self) -> bool:
        """Whether it is about objects rather than about the picture as a whole."""
        stated = self.stated is not None and self.stated.objects is not None
        return stated or self.result.get("task") in ("detection", "pose", "segmentation")

    def read(self) -> Entry:
        """The sample itself; see `Stored.read`."""
        return self.stored.read()

    def size(self, data: bytes) -> tuple[int, int]:
        """Width and height of the picture, in pixels; 0, 0 where it can't be decoded."""
        facts = self.result.get("input")
        if isinstance(facts, dict) and isinstance(facts.get("width"), int) and isinstance(facts.get("height"), int):
            return facts["width"], facts["height"]
        try:
            return decode_picture(data).size
        except InputError:
            return 0, 0


def request_of(data: bytes) -> dict[str, Any]:
    """The request to a language model in a message: what is no JSON object is a prompt."""
    with suppress(TextError):
        document = parse_json(data)
        if isinstance(document, dict):
            return document
    return {"prompt": decode_lenient(data)}


def _is_box(box: object) -> bool:
    four = 4
    return isinstance(box, list) and len(box) == four and all(isinstance(edge, int | float) for edge in box)


def _box(box: Sequence[float]) -> Box:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def chosen(
    stores: Sequence[Path],
    damage: Walk,
    *,
    reasons: Sequence[str] = (),
    labels: Sequence[str] = (),
    labelled: bool = False,
) -> Iterator[Chosen]:
    """The samples of stores that have not been discarded.

    Args:
        stores: the folders.
        damage: counts what can't be read.
        reasons: only those that one of these has kept.
        labels: only those that the model has given one of these labels.
        labelled: only those that a person has labelled.

    Raises:
        StoreError: a store can't be used.
        OSError: it can't be read.
    """
    for store in stores:
        stated = read_labels(store)
        for one in read_store(store, damage):
            label = stated.get(one.id)
            fits = not reasons or not set(reasons).isdisjoint(one.reasons)
            fits = fits and (not labels or not set(labels).isdisjoint(one.labels))
            if fits and not (label and label.discard) and not (labelled and label is None):
                yield Chosen(one, one.read().document, label)


def parts(samples: Sequence[Chosen], share: float) -> list[bool]:
    """Which samples are for testing: about this share. What shows the same thing is in the same part.

    Samples of one pipeline within one minute, and those that show the same tracked object, are kept together, and so is
    what these have in common with others.

    Args:
        samples: in any order.
        share: 0 to 1.

    Returns:
        For each sample whether it is for testing; the same for the same samples every time.
    """
    leader: dict[object, object] = {}

    def find(key: object) -> object:
        while leader.setdefault(key, key) != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    minutes = [(one.stored.pipeline, int(one.stored.captured_at // 60)) for one in samples]
    for one, minute in zip(samples, minutes, strict=True):
        for prediction in one.predictions:
            if "track_id" in prediction:
                track = (one.stored.pipeline, str(one.entry.get("boot_id")), prediction["track_id"])
                leader[find(track)] = find(minute)
    groups: dict[object, list[int]] = {}
    for number, minute in enumerate(minutes):
        groups.setdefault(find(minute), []).append(number)
    testing, wanted = [False] * len(samples), share * len(samples)
    for members in sorted(groups.values(), key=lambda group: _drawn(samples[group[0]].stored.id)):
        if sum(testing) + len(members) / 2 <= wanted:
            for member in members:
                testing[member] = True
    return testing


def _drawn(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
