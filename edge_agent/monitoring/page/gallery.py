"""Kept samples on the page: listed newest first, shown, and labelled. See `edge_agent.keeping`."""

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.errors import InputError
from edge_agent.keeping.chosen import Chosen
from edge_agent.keeping.payload import JSON, SERIES, TEXT, decode
from edge_agent.monitoring.agent_status import AgentStatus
from edge_agent.monitoring.page.answers import Answer, Request, as_json, in_words, not_found
from edge_agent.monitoring.page.curves import Curve, curve_of
from edge_agent.preprocess.decoding import decode_picture
from edge_agent.publish.drawing import encode_jpeg, shrunk
from edge_agent.sample_store.labels import Label, append_labels, read_history, read_labels
from edge_agent.sample_store.segment import StoreError
from edge_agent.sample_store.store import SUFFIX, Stored, newest_first, read_sample
from edge_agent.samples import Series, timestamp
from edge_agent.system.text import TextError, decode_lenient, parse_json

# Samples of one answer, and how many are looked at for it.
MOST_LISTED, MOST_SEARCHED = 60, 20_000
MOST_OBJECTS, LONGEST_LABEL, LARGEST_SIDE = 500, 200, 65_535
MOST_HISTORY, MOST_LABELS = 50, 2000
# Characters of a request or an answer, in a list and alone.
SHORT_TEXT, LONG_TEXT = 160, 20_000
# Sides of a picture in pixels, and bytes.
THUMBNAIL, LARGEST, MOST_BYTES = 320, 1600, 1_000_000
_KEY = re.compile(r"([0-9]{8})-([0-9]{1,12})")
_STATES = ("open", "labelled", "discarded")


class _Wanted(NamedTuple):
    """What a list is to hold; empty texts: anything."""

    reason: str
    label: str
    state: str
    since: float
    until: float

    def fits(self, stored: Stored, said: Label | None) -> bool:
        discarded = said is not None and said.discard
        state = "discarded" if discarded else "open" if said is None else "labelled"
        labels = {*stored.labels, *_labels_of(said)}
        return (
            self.since <= stored.captured_at <= self.until
            and (state == self.state if self.state else not discarded)
            and (not self.reason or self.reason in stored.reasons)
            and (not self.label or self.label in labels)
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """A sample that was asked for by its key."""

    store: Path
    chosen: Chosen
    data: bytes


class Gallery:
    """The kept samples of an agent's pipelines.

    A sample's key is where it is: the number of its segment and its offset there.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: AgentStatus) -> None:
        self._agent = agent

    def pipelines(self) -> list[str]:
        """Those that keep samples."""
        return [name for name, one in self._agent.config().settings.pipelines.items() if one.keep is not None]

    def listed(self, request: Request) -> Answer:
        """Samples of a pipeline, newest first, and what can be chosen by; `before=KEY` goes on behind that one."""
        names = self.pipelines()
        name = request.name or next(iter(names), "")
        if name not in names:
            return as_json({"pipelines": names, "pipeline": "", "samples": [], "more": ""})
        wanted = _Wanted(
            request.text("reason"),
            request.text("label"),
            state if (state := request.text("state")) in _STATES else "",
            request.number("since", 0.0),
            request.number("until", math.inf),
        )
        store = self._store(name)
        try:
            rows, more = _search(store, wanted, request.text("before"), as_text=self._has_requests(name))
        except (StoreError, OSError) as error:
            return in_words(HTTPStatus.CONFLICT, str(error))
        labels = [*self._agent.labels_of(name)][:MOST_LABELS]
        return as_json({"pipelines": names, "pipeline": name, "samples": rows, "more": more, "labels": labels})

    def _has_requests(self, pipeline: str) -> bool:
        keep = self._agent.config().settings.pipelines[pipeline].keep
        return keep is not None and keep.prompts

    def sample(self, request: Request) -> Answer:
        """All about one sample but its picture."""
        found = self._find(request)
        if isinstance(found, Answer):
            return found
        chosen, document = found.chosen, found.chosen.entry
        history = read_history(found.store, chosen.stored.id)[-MOST_HISTORY:]
        result = document.get("result")
        return as_json(
            {
                **_row(chosen.stored, chosen.stated),
                "model": document.get("model"),
                "error": document.get("error"),
                "task": result.get("task") if isinstance(result, dict) else None,
                "predictions": [_short(one) for one in chosen.predictions[:MOST_OBJECTS]],
                "size": chosen.size(found.data) if chosen.media.startswith("image/") else None,
                "curve": _curve(found),
                "text": _text(found.data, LONG_TEXT) if chosen.media in (TEXT, JSON) else None,
                "answer": str(chosen.result["text"])[:LONG_TEXT] if "text" in chosen.result else None,
                "label": chosen.label,
                "objects": [{"label": label, "box": box} for label, box in chosen.objects[:MOST_OBJECTS]],
                "has_objects": chosen.has_objects,
                "history": [{key: one[key] for key in one if key != "id"} for one in history],
            }
        )

    def picture(self, request: Request) -> Answer:
        """A sample's picture as JPEG; what came is decoded and encoded again: it may be anybody's."""
        found = self._find(request)
        if isinstance(found, Answer):
            return found
        side = THUMBNAIL if request.text("size") == "small" else LARGEST
        try:
            picture = decode_picture(found.data, lambda width, height: (max(width, height) // side,) * 2)
        except InputError as error:
            return in_words(HTTPStatus.NOT_FOUND, str(error))
        jpeg = encode_jpeg(shrunk(picture.pixels, side), MOST_BYTES)
        # What is under a key never changes, but segments go, and their numbers may come again.
        return Answer(HTTPStatus.OK, jpeg, "image/jpeg", (("Cache-Control", "private, max-age=600"),))

    def label(self, request: Request) -> Answer:
        """Adds what a person says to a sample's history."""
        found = self._find(request)
        if isinstance(found, Answer):
            return found
        try:
            stated = label_of(parse_json(request.body))
        except (TextError, ValueError) as error:
            return in_words(HTTPStatus.BAD_REQUEST, str(error))
        try:
            append_labels(
                found.store, [(found.chosen.stored.id, stated)], request.user or "page", timestamp(time.time())
            )
        except OSError as error:
            return in_words(HTTPStatus.INSUFFICIENT_STORAGE, f"{found.store}: can't be written: {error.strerror}")
        return as_json(_row(found.chosen.stored, stated))

    def _store(self, pipeline: str) -> Path:
        return self._agent.config().kept_path("samples", pipeline)

    def _find(self, request: Request) -> _Found | Answer:
        name, key = request.text("pipeline"), _KEY.fullmatch(request.name)
        if name not in self.pipelines() or key is None:
            return not_found("sample")
        store = self._store(name)
        try:
            stored, entry = read_sample(store / f"{key[1]}{SUFFIX}", int(key[2]))
            stated = read_labels(store).get(stored.id)
        except (StoreError, OSError):
            return not_found("sample")
        return _Found(store, Chosen(stored, entry.document, stated), entry.data)


def label_of(document: object) -> Label:
    """What a person says, checked.

    Args:
        document: `label`, `objects` with `label` and `box` x1, y1, x2, y2 in pixels, `discard`.

    Raises:
        ValueError: it is none, or too large.
    """
    stated = Label.read(document) if isinstance(document, dict) else None
    if stated is None or not isinstance(document, dict):
        raise ValueError("expected label, objects and discard")
    if len(stated.objects or ()) > MOST_OBJECTS:
        raise ValueError(f"at most {MOST_OBJECTS} objects")
    for label in _labels_of(stated):
        if not label.strip() or len(label) > LONGEST_LABEL or not label.isprintable():
            raise ValueError(f"a label must have 1 to {LONGEST_LABEL} printable characters")
    for _, (x1, y1, x2, y2) in stated.objects or ():
        if not (0 <= x1 < x2 <= LARGEST_SIDE and 0 <= y1 < y2 <= LARGEST_SIDE):
            raise ValueError("a box needs 0 <= x1 < x2 and 0 <= y1 < y2, in pixels")
    return stated


def _search(store: Path, wanted: _Wanted, before: str, *, as_text: bool) -> tuple[list[dict[str, Any]], str]:
    """Rows of samples, with how each begins where they are text, and the key of the last one if there may be more."""
    if not store.exists():
        return [], ""
    said, rows, last = read_labels(store), list[dict[str, Any]](), ""
    for number, stored in enumerate(_behind(store, before)):
        if len(rows) == MOST_LISTED or number == MOST_SEARCHED:
            return rows, last
        last = _key(stored)
        label = said.get(stored.id)
        if wanted.fits(stored, label):
            rows.append(_row(stored, label) | ({"text": _beginning(stored)} if as_text else {}))
    return rows, ""


def _behind(store: Path, before: str) -> Iterator[Stored]:
    place = tuple(map(int, found.groups())) if (found := _KEY.fullmatch(before)) else None
    for stored in newest_first(store):
        if place is None or (int(stored.path.stem), stored.at) < place:
            yield stored


def _key(stored: Stored) -> str:
    return f"{stored.path.stem}-{stored.at}"


def _row(stored: Stored, said: Label | None) -> dict[str, Any]:
    return {
        "key": _key(stored),
        "id": stored.id,
        "pipeline": stored.pipeline,
        "at": timestamp(stored.captured_at),
        "reasons": list(stored.reasons),
        "labels": list(stored.labels),
        "said": None if said is None else said.as_dict(),
    }


def _beginning(stored: Stored) -> str:
    with suppress(StoreError, OSError):  # damaged, or deleted in the meantime
        return _text(stored.read().data, SHORT_TEXT)
    return ""


def _text(data: bytes, most: int) -> str:
    return decode_lenient(data)[:most]


def _labels_of(said: Label | None) -> list[str]:
    if said is None:
        return []
    return [*([] if said.label is None else [said.label]), *(label for label, _ in said.objects or ())]


def _short(prediction: Mapping[str, Any]) -> dict[str, Any]:
    known = ("label", "class_id", "confidence", "box", "track_id", "value", "region", "channel", "reading", "expected")
    return {key: prediction[key] for key in known if key in prediction}


def _curve(found: _Found) -> Curve | None:
    """Readings or sound to be drawn; None for anything else."""
    facts = found.chosen.entry.get("input")
    if found.chosen.media != SERIES or not isinstance(facts, dict):
        return None
    try:
        series = decode(found.data, facts)
    except (StoreError, InputError):
        return None
    return curve_of(series) if isinstance(series, Series) else None
