"""Data sets in folders: one for each class, Edge Impulse's exports, pictures with masks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_agent.errors import ConfigError
from edge_agent.evaluation.labelled import (
    MAX_SAMPLES,
    PICTURES,
    SOUNDS,
    Dataset,
    LabelledObject,
    LabelledSample,
    Mistakes,
    PictureFinder,
    Split,
    entries,
    files_below,
    label_of,
    read_annotations,
    split_folder,
)
from edge_agent.system.text import TextError, lines, parse_json

EDGE_IMPULSE = "info.labels"
EDGE_IMPULSE_BOXES = "bounding_boxes.labels"
# Folders of pictures and of masks, and of Pascal VOC's.
MASKS = (("images", "masks"), ("JPEGImages", "SegmentationClass"))
_CLASS_FILES = ("classes.txt", "labels.txt", "labelmap.txt")
_IN_CLASS = (*PICTURES, *SOUNDS, ".csv", ".json")


def read_classes(folder: Path) -> Dataset:
    """A folder for each class, named by the label, as ImageFolder, Keras and Teachable Machine have it.

    Raises:
        ConfigError: there are no such folders, or too many files.
    """
    samples: list[LabelledSample] = []
    classes: list[str] = []
    mistakes = Mistakes()
    for place in entries(folder):
        if not place.is_dir():
            continue
        found = list(files_below(place, _IN_CLASS))
        if not found:
            if others := {path.suffix.lower() for path in entries(place) if path.suffix}:
                expected = f"expected files {', '.join(_IN_CLASS)}, found {', '.join(sorted(others)[:5])}"
                mistakes.add(place, f"{expected}: convert them, or move the folder away")
            continue
        label = label_of(_without_suffix(place.name), place, mistakes)
        classes.append(label)
        samples += [LabelledSample(str(path), path, label) for path in found]
        if len(samples) > MAX_SAMPLES:
            raise ConfigError([f"{folder}: more than {MAX_SAMPLES} files"])
    mistakes.check()
    if not samples:
        raise ConfigError(
            [f"{folder}: expected labelled data: a folder for each class, COCO, YOLO, VOC or CSV; found none of them"]
        )
    return Dataset(folder, "a folder for each class", "labels", samples, tuple(dict.fromkeys(classes)))


def _without_suffix(name: str) -> str:
    """The label of a folder; Teachable Machine calls that of the class `cat` `cat-samples`."""
    return name.removesuffix("-samples") or name


def read_edge_impulse(folder: Path, split: Split) -> Dataset:
    """Edge Impulse's export: `info.labels` names each file, its half of the data, its label and its boxes.

    Source: https://docs.edgeimpulse.com/docs/edge-impulse-cli/cli-uploader

    Raises:
        ConfigError: the file is not as expected, or names files that are not there.
    """
    file = folder / EDGE_IMPULSE
    mistakes, samples = Mistakes(), list[LabelledSample]()
    document = _json(file)
    listed = document.get("files") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ConfigError([f"{file}: expected a list `files`, found none"])
    finder = PictureFinder([folder])
    wanted = {"train": "training", "test": "testing"}[split]
    categories = {one.get("category") for one in listed if isinstance(one, dict)}
    for number, one in enumerate(listed[: MAX_SAMPLES + 1]):
        where = f"{file}: files[{number}]"
        if not isinstance(one, dict) or not isinstance(one.get("path"), str):
            mistakes.add(where, "expected an object with `path`")
            continue
        if wanted in categories and one.get("category") != wanted:
            continue
        if (sample := _listed(one, where, finder, mistakes)) is not None:
            samples.append(sample)
    mistakes.check()
    if len(samples) > MAX_SAMPLES:
        raise ConfigError([f"{file}: more than {MAX_SAMPLES} files"])
    with_boxes = any(one.objects is not None for one in samples)
    labels = (one.label for sample in samples for one in sample.objects or (sample,))
    classes = tuple(dict.fromkeys(label for label in labels if label is not None))
    if with_boxes:
        samples = [one if one.objects is not None else replace(one, label=None, objects=()) for one in samples]
    return Dataset(folder, "Edge Impulse", "objects" if with_boxes else "labels", samples, classes)


def _listed(one: dict[str, Any], where: str, finder: PictureFinder, mistakes: Mistakes) -> LabelledSample | None:
    """The sample of an entry of `info.labels`; None where that has a mistake."""
    path = finder.find(one["path"])
    if path is None or path.suffix.lower() == ".cbor":
        found = "CBOR: export the data as JSON" if path else "none"
        mistakes.add(where, f"expected the file {one['path']!r}, a picture, a WAV file or JSON, found {found}")
        return None
    boxes, stated = one.get("boundingBoxes"), one.get("label")
    label = stated.get("label") if isinstance(stated, dict) else stated
    if isinstance(boxes, list) and (boxes or label is None):
        return LabelledSample(where, path, objects=tuple(_objects(boxes, where, mistakes)))
    if isinstance(label, str):
        return LabelledSample(where, path, label_of(label, where, mistakes))
    kind = stated.get("type") if isinstance(stated, dict) else "none"
    mistakes.add(where, f"expected a label, found {kind}: label it, or remove it from the export")
    return None


def read_edge_impulse_boxes(folder: Path) -> Dataset:
    """Edge Impulse's `bounding_boxes.labels`: the boxes of each picture beside it.

    Raises:
        ConfigError: see `read_edge_impulse`.
    """
    file = folder / EDGE_IMPULSE_BOXES
    document, mistakes = _json(file), Mistakes()
    listed = document.get("boundingBoxes") if isinstance(document, dict) else None
    if not isinstance(listed, dict):
        raise ConfigError([f"{file}: expected an object `boundingBoxes`, found none"])
    samples: list[LabelledSample] = []
    for path in files_below(folder, PICTURES):
        where = f"{file}: boundingBoxes.{path.name}"
        boxes = listed.get(path.name, [])
        if not isinstance(boxes, list):
            mistakes.add(where, "expected a list")
            continue
        samples.append(LabelledSample(where, path, objects=tuple(_objects(boxes, where, mistakes))))
    mistakes.check()
    classes = dict.fromkeys(one.label for sample in samples for one in sample.objects or ())
    return Dataset(folder, "Edge Impulse", "objects", samples, tuple(classes))


def _objects(boxes: list[object], where: str, mistakes: Mistakes) -> Iterator[LabelledObject]:
    for number, box in enumerate(boxes):
        place = f"{where}.boundingBoxes[{number}]"
        numbers = [box.get(key) for key in ("x", "y", "width", "height")] if isinstance(box, dict) else []
        sides = [float(one) for one in numbers if isinstance(one, int | float) and abs(one) < 1e6]  # noqa: PLR2004 - more pixels than any picture
        if len(sides) != 4 or not isinstance(box, dict) or not isinstance(box.get("label"), str):  # noqa: PLR2004 - sides
            mistakes.add(place, "expected an object with label, x, y, width and height")
            continue
        x, y, width, height = sides
        yield LabelledObject(label_of(box["label"], place, mistakes), (x, y, x + width, y + height))


def _json(file: Path) -> object:
    try:
        return parse_json(read_annotations(file))
    except TextError as error:
        raise ConfigError([f"{file}: {error}"]) from None


def mask_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of pictures and of masks in a data set; None where it has none."""
    for pictures, masks in MASKS:
        if (folder / pictures).is_dir() and (folder / masks).is_dir():
            return folder / pictures, folder / masks
    return None


def read_masks(folder: Path, split: Split) -> Dataset:
    """Pictures, and for each a PNG whose pixels are the numbers of classes; 255 is not judged.

    `classes.txt` or `labels.txt` names the classes, one a line, from 0.

    Raises:
        ConfigError: a mask has no picture, or there are none.
    """
    place = split_folder(folder, split)
    pictures, masks = mask_folders(place) or mask_folders(folder) or (place, place)
    finder, mistakes, samples = PictureFinder([pictures]), Mistakes(), list[LabelledSample]()
    for mask in files_below(masks, (".png",)):
        found = next((path for ending in PICTURES if (path := finder.find(f"{mask.stem}{ending}"))), None)
        if found is None:
            mistakes.add(mask, f"there is no picture of that name in {pictures}")
            continue
        samples.append(LabelledSample(str(mask), found, mask=mask))
    mistakes.check()
    if not samples:
        raise ConfigError([f"{masks}: expected masks as PNG, found none"])
    file = next((path for name in _CLASS_FILES for path in (folder / name, place / name) if path.is_file()), None)
    classes = tuple(line.strip() for line in lines(read_annotations(file))) if file else ()
    return Dataset(folder, "pictures with masks", "masks", samples, classes)
