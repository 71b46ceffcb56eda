"""Opens labelled data, in whichever of the usual formats it is."""

from dataclasses import replace
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
from edge_agent.evaluation.kept import is_store, read_kept
from edge_agent.evaluation.labelled import (
    PICTURES,
    SOUNDS,
    SPLITS,
    Dataset,
    Split,
    entries,
    read_annotations,
    split_folder,
)
from edge_agent.evaluation.tables import read_csv, read_json_lines
from edge_agent.evaluation.voc import read_voc
from edge_agent.evaluation.yolo import find_yolo, read_yolo
from edge_agent.evaluation.zipped import ZIP, unpack
from edge_agent.system.text import TextError, parse_json

FORMATS = (
    "a folder for each class, COCO's JSON, YOLO's data.yaml, Pascal VOC's XML, pictures with masks, CSV or JSON lines"
)
# Names under which tools export COCO's JSON.
_COCO = ("_annotations.coco.json", "annotations.json", "coco.json", "instances.json", "labels.json", "result.json")
_COCO_FOLDERS = ("", "annotations")
_TABLES = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_json_lines, ".ndjson": read_json_lines}
# Folders around a data set, each the only thing in the one before.
_MAX_WRAPPED = 3


def open_dataset(path: Path, split: Split = "test") -> Dataset:
    """Labelled data, its samples in a stable order. Annotations are read now, samples when they are asked for.

    Args:
        path: of a folder or a file, in one of `FORMATS`; or of a .zip with such a folder, or a folder with a .zip for
            each class. Archives are unpacked into a temporary folder, for as long as the result is used.
        split: the part that is wanted, where the data is divided into parts.

    Raises:
        ConfigError: there is nothing, or it is not as expected; each mistake with file and line.
    """
    try:
        path.stat()
        if archives := _archives(path):
            return _of_archives(path, archives, split)
        found = _of_folder(_unwrapped(path), split) if path.is_dir() else _of_file(path, split)
    except OSError as error:
        raise ConfigError([f"{error.filename or path}: can't be read: {error.strerror}"]) from None
    except ValueError as error:  # U+0000 in the name
        raise ConfigError([f"{path}: can't be read: {error}"]) from None
    if not found.samples:
        raise ConfigError([f"{path}: read as {found.format}: there is no sample in it"])
    return found


def _archives(path: Path) -> list[Path]:
    """The archives that a path names: itself, or all that is in its folder; none where it is something else."""
    if not path.is_dir():
        return [path] if path.suffix.lower() == ZIP else []
    found = entries(path)
    return found if all(one.suffix.lower() == ZIP and one.is_file() for one in found) else []


def _of_archives(path: Path, archives: list[Path], split: Split) -> Dataset:
    content = unpack(archives)
    try:
        found = open_dataset(content.folder, split)
    except ConfigError as error:
        content.remove()
        raise ConfigError([content.named(problem) for problem in error.problems]) from None
    return replace(found, path=path, unpacked=content)


def _unwrapped(folder: Path) -> Path:
    """The folder of the data set itself, where an archive was unpacked into one around it."""
    for _ in range(_MAX_WRAPPED):
        match entries(folder):
            case [Path() as only] if only.is_dir() and not _is_class(only):
                folder = only
            case _:
                break
    return folder


def _is_class(folder: Path) -> bool:
    """Whether a folder holds samples and nothing else, so that its name is a label."""
    found = entries(folder)
    kinds = {next((kind for kind in (PICTURES, SOUNDS) if path.suffix.lower() in kind), path.suffix) for path in found}
    return len(kinds) == 1 and not any(path.is_dir() for path in found)


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
    hint = ": unpack it, and name the folder" if ending in (".tar", ".gz", ".tgz", ".7z", ".rar") else ""
    raise ConfigError([f"{file}: expected labelled data ({FORMATS}), found a file {ending or 'without ending'}{hint}"])


def _of_folder(folder: Path, split: Split) -> Dataset:
    if is_store(folder):
        return read_kept(folder)
    part = split_folder(folder, split)
    names, names_of_part = ({path.name for path in entries(place)} for place in (folder, part))
    if EDGE_IMPULSE in names:
        return read_edge_impulse(folder, split)
    if EDGE_IMPULSE_BOXES in names_of_part:
        return read_edge_impulse_boxes(part)
    if mask_folders(folder) or mask_folders(part):
        return read_masks(folder, split)
    return find_yolo(folder, split) or _with_annotations(folder, part, split) or read_classes(part)


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
        if path.suffix.lower() == ".json" and path.is_file()
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
    found = ([one for one in entries(place) if one.suffix.lower() == ".xml"] for place in places if place.is_dir())
    return next((files for files in found if files), [])
