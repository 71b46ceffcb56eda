"""Opens labelled data, in whichever of the usual formats it is."""

from pathlib import Path

from edge_agent.errors import ConfigError
from edge_agent.evaluation.coco import is_coco, read_coco
from edge_agent.evaluation.folders import (
    EDGE_IMPULSE,
    EDGE_IMPULSE_BOXES,
    mask_folders,
    read_classes,
    read_edge_impulse,
    read_edge_impulse_boxes,
    read_masks,
)
from edge_agent.evaluation.labelled import SPLITS, Dataset, Split, entries, read_annotations, split_folder
from edge_agent.evaluation.tables import read_csv, read_json_lines
from edge_agent.evaluation.voc import read_voc
from edge_agent.evaluation.yolo import read_yolo
from edge_agent.system.text import TextError, parse_json

FORMATS = (
    "a folder for each class, COCO's JSON, YOLO's data.yaml, Pascal VOC's XML, pictures with masks, CSV or JSON lines"
)
_YOLO = ("data.yaml", "data.yml", "dataset.yaml")
# Names under which tools export COCO's JSON.
_COCO = ("_annotations.coco.json", "annotations.json", "coco.json", "instances.json", "labels.json", "result.json")
_COCO_FOLDERS = ("", "annotations")
_TABLES = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_json_lines, ".ndjson": read_json_lines}


def open_dataset(path: Path, split: Split = "test") -> Dataset:
    """Labelled data, its samples in a stable order. Annotations are read now, samples when they are asked for.

    Args:
        path: of a folder or a file, in one of `FORMATS`.
        split: the part that is wanted, where the data is divided into parts.

    Raises:
        ConfigError: there is nothing, or it is not as expected; each mistake with file and line.
    """
    try:
        path.stat()
        found = _of_folder(path, split) if path.is_dir() else _of_file(path, split)
    except OSError as error:
        raise ConfigError([f"{error.filename or path}: can't be read: {error.strerror}"]) from None
    except ValueError as error:  # U+0000 in the name
        raise ConfigError([f"{path}: can't be read: {error}"]) from None
    if not found.samples:
        raise ConfigError([f"{path}: read as {found.format}: there is no sample in it"])
    return found


def _of_file(file: Path, split: Split) -> Dataset:
    ending = file.suffix.lower()
    if ending in _TABLES:
        return _TABLES[ending](file)
    if ending in (".yaml", ".yml"):
        return read_yolo(file, split)
    if ending == ".xml":
        return read_voc(file, [file])
    if ending == ".json":
        return read_coco(file)
    if file.name == EDGE_IMPULSE:
        return read_edge_impulse(file.parent, split)
    hint = ": unpack it, and name the folder" if ending in (".zip", ".tar", ".gz", ".tgz") else ""
    raise ConfigError([f"{file}: expected labelled data ({FORMATS}), found a file {ending or 'without ending'}{hint}"])


def _of_folder(folder: Path, split: Split) -> Dataset:
    part = split_folder(folder, split)
    names, names_of_part = ({path.name for path in entries(place)} for place in (folder, part))
    if yolo := next((name for name in _YOLO if name in names), None):
        return read_yolo(folder / yolo, split)
    if EDGE_IMPULSE in names:
        return read_edge_impulse(folder, split)
    if EDGE_IMPULSE_BOXES in names_of_part:
        return read_edge_impulse_boxes(part)
    if mask_folders(folder) or mask_folders(part):
        return read_masks(folder, split)
    return _with_annotations(folder, part, split) or read_classes(part)


def _with_annotations(folder: Path, part: Path, split: Split) -> Dataset | None:
    """A folder with files of annotations; None where there are none."""
    if coco := _coco_file(folder, part, split):
        return read_coco(coco)
    if annotations := _voc_files(part) or _voc_files(folder):
        return read_voc(folder, annotations)
    tables = [path for path in entries(part) if path.suffix.lower() in _TABLES and path.is_file()]
    return _of_file(tables[0], split) if len(tables) == 1 else None


def _coco_file(folder: Path, part: Path, split: Split) -> Path | None:
    """The COCO file of a folder; that of the split where there are several.

    Raises:
        ConfigError: there are several, and none is called after the split.
    """
    for place in dict.fromkeys((part, folder)):
        for name in _COCO:
            if (place / name).is_file():
                return place / name
    found = [
        path
        for place in dict.fromkeys(root / name for root in (part, folder) for name in _COCO_FOLDERS)
        if place.is_dir()
        for path in entries(place)
        if path.suffix == ".json" and path.is_file()
    ]
    of_split = [path for path in found if any(name in path.stem for name in SPLITS[split])]
    candidates = [path for path in of_split or found if _looks_like_coco(path)]
    if len(candidates) > 1:
        names = ", ".join(path.name for path in candidates[:5])
        raise ConfigError([f"{folder}: expected one file of annotations, found {names}: name the one that is meant"])
    return candidates[0] if candidates else None


def _looks_like_coco(file: Path) -> bool:
    try:
        return is_coco(parse_json(read_annotations(file)))
    except (ConfigError, TextError):
        return False


def _voc_files(folder: Path) -> list[Path]:
    places = (folder / "Annotations", folder / "annotations", folder)
    return next(
        (found for place in places if place.is_dir() if (found := [p for p in entries(place) if p.suffix == ".xml"])),
        [],
    )
