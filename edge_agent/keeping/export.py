"""Writes kept samples as tools for labelling and training expect them."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import yaml

from edge_agent.errors import ConfigError
from edge_agent.keeping.chosen import PICTURES, Chosen, parts, request_of
from edge_agent.keeping.payload import SERIES, decode
from edge_agent.sample_store.labels import Box
from edge_agent.samples import Series
from edge_agent.settings.topics import as_level

UNLABELLED = "unlabelled"
TRAIN, TEST = "train", "test"
# Of the result document of a language model.
OF_ANSWERS = ("text", "json", "tool_calls", "calls", "finish_reason", "probability")


def export(samples: Sequence[Chosen], folder: Path, form: str, share: float) -> int:
    """Writes samples into a folder, which must be new or empty.

    Args:
        samples: what to write.
        folder: where to.
        form: one of `FORMATS`.
        share: of the samples that go into `test`; 0: no parts are made.

    Returns:
        How many samples were written.

    Raises:
        ConfigError: the folder is not empty, or the format is for pictures and there are others.
        StoreError: a sample is damaged.
        OSError: a file can't be read or written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError([f"{folder}: expected a new or empty folder"])
    pictures = [one for one in samples if one.media.startswith("image/")]
    if form in _OF_PICTURES and not pictures:
        raise ConfigError([f"{form} is for pictures, and there are none: try folder or jsonl"])
    wanted = pictures if form in _OF_PICTURES else samples
    testing = parts(wanted, share) if share else [False] * len(wanted)
    FORMATS[form](wanted, folder, [(TEST if one else TRAIN) if share else "" for one in testing])
    return len(wanted)


def _write(one: Chosen, path: Path) -> bytes:
    """Writes a sample into a file; returns its data. Readings become CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entry = one.read()
    data = _csv(decode(entry.data, entry.document["input"])) if one.media == SERIES else entry.data
    path.write_bytes(data)
    return entry.data


def _csv(series: object) -> bytes:
    if not isinstance(series, Series):
        return b""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(series.channels or [f"channel_{number}" for number in range(series.values.shape[1])])
    writer.writerows(series.values.tolist())
    return out.getvalue().encode()


def _as_folders(samples: Sequence[Chosen], folder: Path, places: Sequence[str]) -> None:
    for one, part in zip(samples, places, strict=True):
        label = one.label or (one.objects[0][0] if one.objects else None) or UNLABELLED
        _write(one, folder / part / (as_level(label).strip(".") or "_") / one.file)


def _as_jsonl(samples: Sequence[Chosen], folder: Path, places: Sequence[str]) -> None:
    """`samples.jsonl`, or one for each part; each line names its file, or holds its readings, or request and answer."""
    rows: dict[str, list[str]] = {}
    for one, part in zip(samples, places, strict=True):
        row: dict[str, Any] = {
            "id": one.stored.id,
            "label": one.label or UNLABELLED,
            "reasons": list(one.stored.reasons),
        }
        if one.has_objects:
            row["objects"] = [{"label": label, "box": list(box)} for label, box in one.objects]
        if one.media == SERIES:
            entry = one.read()
            series = decode(entry.data, entry.document["input"])
            if isinstance(series, Series):
                row |= {"values": np.asarray(series.values).tolist(), "channels": list(series.channels)}
                row |= {} if series.rate is None else {"rate": series.rate}
        elif one.is_request:
            row["request"] = request_of(one.read().data)
            row |= {key: one.result[key] for key in OF_ANSWERS if key in one.result}
            row |= {"error": one.entry["error"]} if "error" in one.entry else {}
        else:
            place = "images" if one.media in PICTURES else "files"
            row["file"] = str(Path(place, one.file))
            _write(one, folder / part / place / one.file)
        rows.setdefault(part, []).append(json.dumps(row))
    for part, written in rows.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / "samples.jsonl").write_text("\n".join(written) + "\n", encoding="utf-8")


def _as_coco(samples: Sequence[Chosen], folder: Path, places: Sequence[str]) -> None:
    """A folder with pictures and `_annotations.coco.json`, for each part."""
    names = _names(samples)
    documents: dict[str, dict[str, list[Any]]] = {}
    for number, (one, part) in enumerate(zip(samples, places, strict=True), 1):
        width, height = one.size(_write(one, folder / part / one.file))
        categories = [{"id": index, "name": name} for index, name in enumerate(names)]
        document = documents.setdefault(part, {"images": [], "annotations": [], "categories": categories})
        document["images"].append({"id": number, "file_name": one.file, "width": width, "height": height})
        for label, (x1, y1, x2, y2) in one.objects:
            annotation = {"id": len(document["annotations"]) + 1, "image_id": number, "category_id": names.index(label)}
            size = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            document["annotations"].append(annotation | size)
    for part, content in documents.items():
        (folder / part / "_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")


def _as_yolo(samples: Sequence[Chosen], folder: Path, places: Sequence[str]) -> None:
    """`data.yaml`, `images/PART` and `labels/PART`."""
    names = _names(samples)
    for one, part in zip(samples, places, strict=True):
        size = one.size(_write(one, folder / "images" / (part or TRAIN) / one.file))
        rows = [f"{names.index(label)} {_relative(box, *size)}" for label, box in one.objects]
        labels = folder / "labels" / (part or TRAIN) / Path(one.file).with_suffix(".txt")
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    used = {part or TRAIN for part in places}
    document = {"path": ".", TRAIN: f"images/{TRAIN}", "val": f"images/{TEST if TEST in used else TRAIN}"}
    (folder / "data.yaml").write_text(yaml.safe_dump(document | {"names": dict(enumerate(names))}), encoding="utf-8")


def _relative(box: Box, width: int, height: int) -> str:
    """The middle, width and height of a box in fractions of the picture."""
    x1, y1, x2, y2 = box
    across, down = max(width, 1), max(height, 1)
    values = ((x1 + x2) / 2 / across, (y1 + y2) / 2 / down, (x2 - x1) / across, (y2 - y1) / down)
    return " ".join(f"{min(max(value, 0.0), 1.0):.6f}" for value in values)


def _as_voc(samples: Sequence[Chosen], folder: Path, places: Sequence[str]) -> None:
    """Each picture with an XML file beside it."""
    for one, part in zip(samples, places, strict=True):
        width, height = one.size(_write(one, folder / part / one.file))
        root = ET.Element("annotation")
        ET.SubElement(root, "filename").text = one.file
        size = ET.SubElement(root, "size")
        for key, value in (("width", width), ("height", height), ("depth", 3)):
            ET.SubElement(size, key).text = str(value)
        for label, box in one.objects:
            thing = ET.SubElement(root, "object")
            ET.SubElement(thing, "name").text = label
            corners = ET.SubElement(thing, "bndbox")
            # The first pixel is 1, and the last one belongs to the box.
            x1, y1, x2, y2 = box
            for key, edge in zip(("xmin", "ymin", "xmax", "ymax"), (x1 + 1, y1 + 1, x2, y2), strict=True):
                ET.SubElement(corners, key).text = f"{edge:g}"
        ET.ElementTree(root).write((folder / part / one.file).with_suffix(".xml"), encoding="utf-8")


def _as_label_studio(samples: Sequence[Chosen], folder: Path, places: Sequence[str]) -> None:
    """`tasks.json` with what the model has said as predictions, and the pictures, for a local storage of Label Studio.

    Source: https://labelstud.io/guide/predictions
    """
    tasks = []
    for one, part in zip(samples, places, strict=True):
        path = Path(part, "images", one.file)
        size = one.size(_write(one, folder / path))
        tasks.append(
            {
                "data": {
                    "image": f"/data/local-files/?d={path}",
                    "id": one.stored.id,
                    "pipeline": one.stored.pipeline,
                    "reasons": ", ".join(one.stored.reasons),
                },
                "predictions": [{"model_version": _version(one), "result": _results(one, size)}],
            }
        )
    (folder / "tasks.json").write_text(json.dumps(tasks, indent=1), encoding="utf-8")


def _version(one: Chosen) -> str:
    model = one.entry.get("model")
    return str(model.get("sha256", ""))[:12] if isinstance(model, dict) else ""


def _results(one: Chosen, size: tuple[int, int]) -> list[dict[str, Any]]:
    if not one.has_objects:
        value: Mapping[str, Any] = {"choices": [one.label]}
        choice = {"from_name": "choice", "to_name": "image", "type": "choices", "value": value}
        return [] if one.label is None else [choice]
    width, height = max(size[0], 1), max(size[1], 1)
    return [
        {
            "from_name": "label",
            "to_name": "image",
            "type": "rectanglelabels",
            "original_width": width,
            "original_height": height,
            "value": {
                "x": x1 / width * 100,
                "y": y1 / height * 100,
                "width": (x2 - x1) / width * 100,
                "height": (y2 - y1) / height * 100,
                "rectanglelabels": [label],
            },
        }
        for label, (x1, y1, x2, y2) in one.objects
    ]


def _names(samples: Sequence[Chosen]) -> list[str]:
    return sorted({label for one in samples for label, _ in one.objects})


FORMATS: Mapping[str, Callable[[Sequence[Chosen], Path, Sequence[str]], None]] = {
    "folder": _as_folders,
    "coco": _as_coco,
    "yolo": _as_yolo,
    "voc": _as_voc,
    "label-studio": _as_label_studio,
    "jsonl": _as_jsonl,
}
_OF_PICTURES = ("coco", "yolo", "voc", "label-studio")
