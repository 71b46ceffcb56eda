"""COCO's instances and keypoints: one JSON file for all pictures.

Source: https://cocodataset.org/#format-data
"""

from pathlib import Path
from typing import Any, TypeGuard

from edge_agent.errors import ConfigError
from edge_agent.evaluation.labelled import (
    MAX_CLASSES,
    MAX_OBJECTS,
    MAX_SAMPLES,
    Dataset,
    LabelledObject,
    LabelledSample,
    Mistakes,
    PictureFinder,
    Point,
    label_of,
    read_annotations,
)
from edge_agent.system.text import TextError, parse_json

_KEYS = ("images", "annotations", "categories")
# More pixels than any picture has; NaN is not less either.
_MOST = 1e9
_FOLDERS = ("", "images", "val2017", "train2017", "images/val2017", "val", "test", "data")
# An outline of at least three corners: x, y of each.
_OUTLINE = 6


def is_coco(document: object) -> bool:
    """Whether a JSON document is of this format."""
    return isinstance(document, dict) and all(isinstance(document.get(key), list) for key in _KEYS)


def read_coco(file: Path) -> Dataset:
    """The pictures of a file, each with its objects; also those without any.

    Raises:
        ConfigError: it is not as expected; each mistake with the annotation that has it.
    """
    try:
        document = parse_json(read_annotations(file))
    except TextError as error:
        raise ConfigError([f"{file}: {error}"]) from None
    if not is_coco(document):
        raise ConfigError([f"{file}: expected COCO's lists images, annotations and categories, found something else"])
    images, annotations, categories = (document[key] for key in _KEYS)
    for found, most, what in ((images, MAX_SAMPLES, "pictures"), (annotations, MAX_OBJECTS, "annotations")):
        if len(found) > most:
            raise ConfigError([f"{file}: more than {most} {what}"])
    return _Reader(file).read(images, annotations, categories[: MAX_CLASSES + 1])


class _Reader:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._mistakes = Mistakes()
        self._labels: dict[Any, str] = {}
        self._keypoints = 0
        parents = (file.parent, file.parent.parent)
        part = file.stem.rpartition("_")[2]  # instances_default.json: the pictures are in images/default
        folders = (*_FOLDERS, f"images/{part}", part)
        self._finder = PictureFinder([parent / name for parent in parents for name in folders])

    def read(self, images: list[Any], annotations: list[Any], categories: list[Any]) -> Dataset:
        for number, category in enumerate(categories):
            where = f"{self._file}: categories[{number}]"
            if not isinstance(category, dict) or not isinstance(category.get("name"), str):
                self._mistakes.add(where, "expected an object with id and name")
                continue
            if not isinstance(category.get("id"), int) or category["id"] in self._labels:
                self._mistakes.add(where, "expected an id of its own, a whole number")
                continue
            self._labels[category["id"]] = label_of(category["name"], where, self._mistakes)
            if isinstance(names := category.get("keypoints"), list):
                self._keypoints = max(self._keypoints, len(names))
        pictures = self._pictures(images)
        objects: dict[int | str, list[LabelledObject]] = {number: [] for number in pictures}
        for number, annotation in enumerate(annotations):
            where = f"{self._file}: annotations[{number}]"
            if isinstance(annotation, dict) and _identity(annotation.get("image_id")) not in pictures:
                self._mistakes.add(where, f"there is no picture with the id {annotation.get('image_id')!r}")
            elif found := self._object(annotation, where):
                objects[annotation["image_id"]].append(found)
        self._mistakes.check()
        samples = [
            LabelledSample(where, path, objects=tuple(objects[number])) for number, (where, path) in pictures.items()
        ]
        classes = tuple(dict.fromkeys(self._labels.values()))
        return Dataset(self._file, "COCO", "objects", samples, classes, self._keypoints)

    def _pictures(self, images: list[Any]) -> dict[int | str, tuple[str, Path]]:
        found: dict[int | str, tuple[str, Path]] = {}
        for number, image in enumerate(images):
            where = f"{self._file}: images[{number}]"
            name = image.get("file_name") if isinstance(image, dict) else None
            if not isinstance(name, str) or _identity(image.get("id")) is None:
                self._mistakes.add(where, "expected an object with id and file_name")
                continue
            path = self._finder.find(name)
            if path is None:
                self._mistakes.add(where, f"there is no file {name!r} beside {self._file.name} or in images/")
                continue
            if image["id"] in found:
                self._mistakes.add(where, f"the id {image['id']} is that of another picture too")
            found[image["id"]] = (where, path)
        return found

    def _object(self, annotation: Any, where: str) -> LabelledObject | None:
        if not isinstance(annotation, dict):
            self._mistakes.add(where, "expected an object")
            return None
        label = self._labels.get(_identity(annotation.get("category_id")))
        box = annotation.get("bbox") or _around(annotation.get("segmentation"))
        if label is None:
            self._mistakes.add(where, f"there is no category with the id {annotation.get('category_id')!r}")
            return None
        if not _are_numbers(box, 4) or box[2] < 0 or box[3] < 0:
            self._mistakes.add(where, "expected bbox: [x, y, width, height] in pixels")
            return None
        x, y, width, height = map(float, box)
        area = annotation.get("area")
        points = annotation.get("keypoints") or []
        if points and not _are_numbers(points, 3 * self._keypoints):
            self._mistakes.add(where, f"expected keypoints: {self._keypoints} times x, y, visibility")
            return None
        return LabelledObject(
            label,
            (x, y, x + width, y + height),
            float(area) if area is not None and _are_numbers([area], 1) else None,
            bool(annotation.get("iscrowd")),
            _points(points),
        )


def _identity(value: Any) -> int | str | None:
    """An id; None where the value can be none."""
    return value if isinstance(value, int | str) else None


def _around(outlines: Any) -> list[float] | None:
    """x, y, width, height of the box around outlines, which some tools leave out; None where there are none."""
    if not isinstance(outlines, list) or not outlines:
        return None
    if not all(isinstance(one, list) and len(one) >= _OUTLINE and _are_numbers(one, len(one)) for one in outlines):
        return None
    xs, ys = ([number for one in outlines for number in one[at::2]] for at in (0, 1))
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _points(numbers: list[float]) -> tuple[Point, ...]:
    return tuple((numbers[at], numbers[at + 1], numbers[at + 2]) for at in range(0, len(numbers), 3))


def _are_numbers(values: Any, count: int) -> TypeGuard[list[float]]:
    if not isinstance(values, list) or len(values) != count:
        return False
    return all(isinstance(one, int | float) and not isinstance(one, bool) and abs(one) <= _MOST for one in values)
