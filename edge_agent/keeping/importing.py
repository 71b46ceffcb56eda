"""Takes labels back from tools: Label Studio's JSON, COCO (as CVAT exports it), a folder for each label."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edge_agent.errors import ConfigError
from edge_agent.keeping.export import TEST, TRAIN, UNLABELLED
from edge_agent.sample_store.labels import Box, Label
from edge_agent.system.text import TextError, parse_json, read_text

MAX_FILE, MAX_FILES = 500_000_000, 1_000_000
_ID = re.compile(r"[0-9a-f]{16}")


def read(path: Path) -> dict[str, Label]:
    """What a tool says is right, by the ids of samples; a sample's id is the name of its file.

    Args:
        path: JSON of Label Studio or COCO, or a folder with a folder for each label.

    Raises:
        ConfigError: it is none of these, or can't be read.
    """
    try:
        if path.is_dir():
            return _folders(path)
        document = parse_json(read_text(path, MAX_FILE))
    except TextError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
    if isinstance(document, list):
        return _label_studio(document)
    if isinstance(document, dict) and all(isinstance(document.get(k), list) for k in ("images", "annotations")):
        return _coco(document)
    raise ConfigError([f"{path}: expected Label Studio's JSON, COCO's JSON, or a folder for each label"])


def _id_of(name: object) -> str | None:
    """The id of a sample, by the name of its file, which may have something before it."""
    if not isinstance(name, str):
        return None
    found = _ID.findall(PurePosixPath(name.partition("?d=")[2] or name).stem)
    return found[-1] if found else None


def _folders(folder: Path) -> dict[str, Label]:
    found: dict[str, Label] = {}
    parts = [part for name in (TRAIN, TEST) if (part := folder / name).is_dir()]
    for part in parts or [folder]:
        for place in sorted(one for one in part.iterdir() if one.is_dir()):
            for number, file in enumerate(sorted(place.iterdir())):
                if number > MAX_FILES:
                    raise ConfigError([f"{place}: more than {MAX_FILES} files"])
                if place.name != UNLABELLED and (one := _id_of(file.name)):
                    found[one] = Label(label=place.name)
    return found


def _coco(document: Mapping[str, Any]) -> dict[str, Label]:
    names = {one["id"]: str(one.get("name")) for one in _dicts(document.get("categories")) if "id" in one}
    ids = {one.get("id"): _id_of(one.get("file_name")) for one in _dicts(document["images"])}
    objects: dict[str, list[tuple[str, Box]]] = {one: [] for one in ids.values() if one}
    for annotation in _dicts(document["annotations"]):
        sample, box = ids.get(annotation.get("image_id")), _numbers(annotation.get("bbox"))
        if sample is not None and box is not None and annotation.get("category_id") in names:
            x, y, width, height = box
            objects[sample].append((names[annotation["category_id"]], (x, y, x + width, y + height)))
    return {one: Label(objects=tuple(found)) for one, found in objects.items()}


def _label_studio(tasks: list[Any]) -> dict[str, Label]:
    """Source: https://labelstud.io/guide/export#Label-Studio-JSON-format-of-annotated-tasks."""
    found: dict[str, Label] = {}
    for task in _dicts(tasks):
        facts = task.get("data")
        data = facts if isinstance(facts, dict) else {}
        sample = _id_of(data.get("id")) or _id_of(data.get("image"))
        annotations = [one for one in _dicts(task.get("annotations")) if not one.get("was_cancelled")]
        if sample is None or not annotations:
            continue
        objects, label = list[tuple[str, Box]](), None
        for result in _dicts(annotations[-1].get("result")):
            value = result.get("value")
            if not isinstance(value, dict):
                continue
            if isinstance(choices := value.get("choices"), list) and choices:
                label = str(choices[0])
            elif isinstance(names := value.get("rectanglelabels"), list) and names:
                box = _rectangle(value, result)
                if box is not None:
                    objects.append((str(names[0]), box))
        found[sample] = Label(label=label) if label is not None else Label(objects=tuple(objects))
    return found


def _rectangle(value: Mapping[str, Any], result: Mapping[str, Any]) -> Box | None:
    numbers = _numbers([value.get(key) for key in ("x", "y", "width", "height")])
    size = result.get("original_width"), result.get("original_height")
    if numbers is None or not all(isinstance(side, int | float) for side in size):
        return None
    across, down = float(size[0] or 0) / 100, float(size[1] or 0) / 100
    x, y, width, height = numbers
    return x * across, y * down, (x + width) * across, (y + height) * down


def _dicts(found: object) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _numbers(found: object) -> Box | None:
    four = 4
    if not isinstance(found, list) or len(found) != four or not all(isinstance(one, int | float) for one in found):
        return None
    return float(found[0]), float(found[1]), float(found[2]), float(found[3])
