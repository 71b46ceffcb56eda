"""YOLO's text files: `data.yaml` names the classes, and beside `images/` there is a file of boxes for each picture.

Source: https://docs.ultralytics.com/datasets/detect/ and https://docs.ultralytics.com/datasets/pose/
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_agent.config.yaml_lines import Key, Problems, line_of, read
from edge_agent.errors import ConfigError
from edge_agent.evaluation.labelled import (
    MAX_CLASSES,
    MAX_SAMPLES,
    PICTURES,
    SPLITS,
    Dataset,
    LabelledObject,
    LabelledSample,
    Mistakes,
    Split,
    entries,
    files_below,
    label_of,
    read_annotations,
    split_folder,
)
from edge_agent.system.text import lines

_MAX_LABELS = 10_000_000
_YAML = ("data.yaml", "data.yml", "dataset.yaml")
# Lists of names: of LabelImg and Label Studio, of Darknet (CVAT), of Roboflow's export for it.
_NAMES = ("classes.txt", "obj.names", "_darknet.labels")
# Columns of a line: the class, a box; less are none. More are an outline, or keypoints.
_BOX = 5


def read_yolo(file: Path, split: Split) -> Dataset:
    """The pictures that `data.yaml` names for a split, each with its objects; also those without a file of boxes.

    Raises:
        ConfigError: it is not as expected, with file and line.
    """
    problems = Problems(file)
    try:
        document = read(file, problems, {})
    except OSError as error:
        raise ConfigError([f"{file}: can't be read: {error.strerror}"]) from None
    if texts := problems.texts():
        raise ConfigError(texts)
    if not isinstance(document, dict) or "names" not in document:
        raise ConfigError([f"{file}: expected `names`, the labels of the classes, found none"])
    mistakes = Mistakes()
    names = _names(document["names"], f"{file}:{problems.lines.get(('names',), 1)}", mistakes)
    mistakes.check()
    shape = document.get("kpt_shape")
    points, columns = _keypoints(shape, file)
    reader = _Reader(names, points, columns, mistakes)
    samples = [reader.sample(picture) for picture in _pictures(file, document, problems.lines, split)]
    mistakes.check()
    if not samples:
        raise ConfigError([f"{file}: expected pictures for {split}, found none"])
    return Dataset(file, "YOLO", "objects", samples, tuple(names.values()), points)


def find_yolo(folder: Path, split: Split) -> Dataset | None:
    """A folder with YOLO's files; None where it has none.

    Tools export the names of the classes as `data.yaml`, under a name of the user's, as a list of lines, or not at all.

    Raises:
        ConfigError: see `read_yolo`; or there are files of boxes, and no names.
    """
    found = {path.name.lower(): path for path in entries(folder)}
    divided = "images" in found and "labels" in found
    yamls = [path for name, path in found.items() if name.endswith((".yaml", ".yml"))]
    if stated := next((found[name] for name in _YAML if name in found), None):
        return read_yolo(stated, split)
    if divided and len(yamls) == 1:
        return read_yolo(yamls[0], split)
    part = split_folder(folder, split)
    pictures = folder / "images" if divided else part
    names = [place / name for place in (part, folder, folder / "labels") for name in _NAMES]
    file = next((path for path in names if path.is_file()), None)
    if file is None and not divided:
        return None
    shown = list(files_below(split_folder(pictures, split), PICTURES))
    if not any(labels_beside(picture).is_file() for picture in shown):
        return None
    if file is None:
        raise ConfigError([f"{folder}: expected the names of the classes in data.yaml or classes.txt, found none"])
    mistakes = Mistakes()
    labels = [line.strip() for line in lines(read_annotations(file))]
    reader = _Reader(_names(labels[:-1] if labels[-1:] == [""] else labels, f"{file}", mistakes), 0, 0, mistakes)
    samples = [reader.sample(picture) for picture in shown]
    mistakes.check()
    return Dataset(folder, "YOLO", "objects", samples, tuple(reader.names.values()))


def _names(stated: object, where: str, mistakes: Mistakes) -> dict[int, str]:
    listed = dict(enumerate(stated)) if isinstance(stated, list) else stated
    if not isinstance(listed, dict) or not 0 < len(listed) <= MAX_CLASSES:
        mistakes.add(where, f"names: expected 1 to {MAX_CLASSES} labels")
        return {}
    found: dict[int, str] = {}
    for number, name in listed.items():
        if not isinstance(name, str) or not str(number).isdecimal():
            mistakes.add(where, "names: expected a list of labels, or `number: label` lines")
            return {}
        found[int(number)] = label_of(name, where, mistakes)
    return found


def _keypoints(shape: Any, file: Path) -> tuple[int, int]:
    if shape is None:
        return 0, 0
    match shape:
        case [str() as points, ("2" | "3") as columns] if points.isdecimal() and int(points) <= MAX_CLASSES:
            return int(points), int(columns)
    raise ConfigError([f"{file}: kpt_shape: expected [keypoints, 2 or 3]"])


def _pictures(file: Path, document: dict[str, Any], numbers: Mapping[Key, int], split: Split) -> Iterator[Path]:
    stated = document.get("path")
    roots = [file.parent / stated, file.parent] if isinstance(stated, str) else [file.parent]
    other: Split = "train" if split == "test" else "test"
    keys = [key for key in (*SPLITS[split], *SPLITS[other]) if document.get(key)]
    if not keys:
        yield from _listed(file.parent / "images" if (file.parent / "images").is_dir() else file.parent)
        return
    absent: list[str] = []
    for key in keys:
        stated = [str(place) for place in (document[key] if isinstance(document[key], list) else [document[key]])]
        found = {place: _existing(roots, place) for place in stated}
        missing = [place for place in found if found[place] is None]
        if not missing:
            for place in filter(None, found.values()):
                yield from _listed(place)
            return
        where = f"{file}:{line_of(numbers, (key,))}: {key}"
        absent += [f"{where}: there is no folder or file {place!r}" for place in missing]
    raise ConfigError(absent)


def _existing(roots: Sequence[Path], place: str) -> Path | None:
    """A folder or file that `data.yaml` names. Exports of Roboflow say ../train/images where they mean train/images."""
    named = (root / part for root in roots for part in (place, place.removeprefix("../")))
    return next((one for one in named if one.exists()), None)


def _listed(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from files_below(place, PICTURES)
        return
    listed = lines(read_annotations(place))
    if len(listed) > MAX_SAMPLES:
        raise ConfigError([f"{place}: more than {MAX_SAMPLES} pictures"])
    for number, line in enumerate(listed, 1):
        if line.strip():
            picture = place.parent / line.strip()
            if not picture.is_file():
                raise ConfigError([f"{place}:{number}: there is no file {line.strip()!r}"])
            yield picture


def labels_beside(picture: Path) -> Path:
    """The file of boxes of a picture: in `labels/` in place of the last `images/`, else beside it."""
    parts = list(picture.parts)
    if "images" in parts:
        at = len(parts) - 1 - parts[::-1].index("images")
        parts[at] = "labels"
    return Path(*parts).with_suffix(".txt")


class _Reader:
    def __init__(self, names: dict[int, str], points: int, columns: int, mistakes: Mistakes) -> None:
        self.names, self._points, self._columns, self._mistakes = names, points, columns, mistakes

    def sample(self, picture: Path) -> LabelledSample:
        file = labels_beside(picture)
        objects: list[LabelledObject] = []
        if file.is_file():
            for number, line in enumerate(lines(read_annotations(file, _MAX_LABELS)), 1):
                if line.strip() and (found := self._object(line, f"{file}:{number}")):
                    objects.append(found)
        return LabelledSample(str(file), picture, objects=tuple(objects), relative=True)

    def _object(self, line: str, where: str) -> LabelledObject | None:
        try:
            numbers = [float(cell) for cell in line.split()]
        except ValueError:
            self._mistakes.add(where, "expected numbers: class, centre x, centre y, width, height")
            return None
        if len(numbers) < _BOX or not all(map(math.isfinite, numbers)):
            self._mistakes.add(where, f"expected class, centre x, centre y, width, height, found {len(numbers)} values")
            return None
        label = self.names.get(int(numbers[0]))
        if label is None or numbers[0] != int(numbers[0]):
            self._mistakes.add(where, f"there is no class {numbers[0]:g} among the {len(self.names)} names")
            return None
        rest = numbers[1:]
        is_outline = not self._points and len(rest) > _BOX
        if (self._points and len(rest) != 4 + self._points * self._columns) or (is_outline and len(rest) % 2):
            pose = f"a box and {self._points} keypoints of {self._columns} numbers"
            expected = pose if self._points else "an outline, x and y of each corner"
            self._mistakes.add(where, f"expected {expected}, found {len(rest)} values")
            return None
        if is_outline:
            xs, ys = rest[0::2], rest[1::2]
            box = (min(xs), min(ys), max(xs), max(ys))
        else:
            x, y, width, height = rest[:4]
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        if not all(-0.5 <= edge <= 1.5 for edge in box):  # noqa: PLR2004 - a fraction, within the rounding of tools
            self._mistakes.add(where, "expected fractions of the picture, 0 to 1, found pixels")
            return None
        points = rest[4:] if self._points else []
        step = self._columns or 1
        keypoints = tuple(
            (points[at], points[at + 1], points[at + 2] if step == 3 else 2.0)  # noqa: PLR2004 - x, y, visibility
            for at in range(0, len(points), step)
        )
        return LabelledObject(label, box, keypoints=keypoints)
