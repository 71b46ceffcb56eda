"""Labelled data: samples, each with what is right for it."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from edge_agent.errors import ConfigError, InputError
from edge_agent.keeping.payload import decode
from edge_agent.preprocess.files import read_file
from edge_agent.sample_store.segment import StoreError
from edge_agent.sample_store.store import Stored
from edge_agent.samples import Sample, Series
from edge_agent.sources import audio, images
from edge_agent.system.terminal import printable
from edge_agent.system.text import TextError, read_text

# Bounds of a data set: samples, objects of all pictures, classes, characters of a label, bytes of an annotation file.
MAX_SAMPLES = 200_000
MAX_OBJECTS = 5_000_000
MAX_CLASSES = 10_000
MAX_LABEL = 200
MAX_FILE = 200_000_000
MAX_PROBLEMS = 100
_HIDDEN = (".", "__MACOSX")
PICTURES = images.ENDINGS
SOUNDS = audio.ENDINGS

Split = Literal["train", "test"]
Kind = Literal["labels", "objects", "masks", "requests"]
Point = tuple[float, float, float]
# How folders of the two halves of a data set are called, the best first.
SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """An object in a picture.

    Attributes:
        label: of its class.
        box: x1, y1, x2, y2 in pixels of the picture; in fractions of its size where the sample is `relative`.
        area: in square pixels, as COCO states it of an outline; None: that of the box.
        crowd: whether it stands for many objects, any number of which may be found (COCO's `iscrowd`).
        keypoints: x, y, visibility of each: 0 not labelled, 1 hidden, 2 visible.
    """

    label: str
    box: tuple[float, float, float, float]
    area: float | None = None
    crowd: bool = False
    keypoints: tuple[Point, ...] = ()

    def scaled(self, width: float, height: float) -> "LabelledObject":
        """The same in pixels of a picture of this size, for one in fractions."""
        x1, y1, x2, y2 = self.box
        box = (x1 * width, y1 * height, x2 * width, y2 * height)
        points = tuple((x * width, y * height, seen) for x, y, seen in self.keypoints)
        return LabelledObject(self.label, box, self.area, self.crowd, points)


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """A sample, and what is right for it. The sample itself is read when it is asked for.

    Attributes:
        where: `FILE:LINE` of the label, or the file, for messages.
        path: the file of the sample; None where `series` or `request` holds it.
        label: the class of the whole sample; the text of the value, for a regression.
        objects: of a picture; None where the data set does not label objects.
        relative: whether the coordinates of the objects are fractions of the picture.
        mask: the file with a class for each pixel.
        series: the readings, all with the same label.
        stream: whether each window of the readings is a sample of its own, as in a pipeline.
        request: for a language model: the message as it would come over MQTT.
        expected: the right answer to the request: a text, or a JSON value.
        stored: where it is kept, for a sample of a store.
    """

    where: str
    path: Path | None = None
    label: str | None = None
    objects: tuple[LabelledObject, ...] | None = None
    relative: bool = False
    mask: Path | None = None
    series: Series | None = None
    stream: bool = False
    request: bytes | None = None
    expected: Any = None
    stored: Stored | None = None

    @property
    def name(self) -> str:
        """The file of the sample, or where it stands in a table."""
        return self.where if self.path is None else str(self.path)

    def read(self) -> Sample:
        """The sample, as a source would give it; it holds the error where the file can't be read."""
        if self.path is not None:
            return read_file(self.path)
        if self.stored is not None:
            return self._read_kept(self.stored)
        data = self.series if self.series is not None else self.request or b""
        return Sample(data, captured_at=time.time(), captured=time.monotonic(), origin={"path": self.where})

    def _read_kept(self, stored: Stored) -> Sample:
        data: Any
        try:
            entry = stored.read()
            data = decode(entry.data, entry.document["input"])
        except (StoreError, OSError, KeyError, InputError) as error:
            data = InputError(f"{self.where}: {error}")
        return Sample(data, captured_at=time.time(), captured=time.monotonic(), origin={"path": self.where})


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled samples.

    Attributes:
        path: as it was named.
        format: in words, for messages: `a folder for each class`.
        kind: what is labelled: whole samples, objects in pictures, pixels, or requests.
        samples: in a stable order; small, since they name their files.
        classes: the labels that the data set declares or uses, in its own order; of masks, by their values.
        keypoints: number of keypoints of an object; 0 where they are not labelled.
        unpacked: what keeps the files of an archive for as long as the data set is used.
    """

    path: Path
    format: str
    kind: Kind
    samples: Sequence[LabelledSample]
    classes: tuple[str, ...] = ()
    keypoints: int = 0
    unpacked: object = None

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[LabelledSample]:
        return iter(self.samples)


@dataclass(slots=True)
class Mistakes:
    """What is wrong with a data set, gathered while it is read."""

    found: list[str] = field(default_factory=list)

    def add(self, where: object, message: str) -> None:
        """Notes `WHERE: message`.

        Raises:
            ConfigError: there are too many.
        """
        self.found.append(printable(f"{where}: {message}"))
        if len(self.found) >= MAX_PROBLEMS:
            raise ConfigError([*self.found, "and maybe more: these are the first"])

    def check(self) -> None:
        """Ends reading where there were any.

        Raises:
            ConfigError: with all of them.
        """
        if self.found:
            raise ConfigError(self.found)


def read_annotations(path: Path, limit: int = MAX_FILE) -> str:
    """The text of a file of annotations.

    Raises:
        ConfigError: it can't be read, is too large, or is not text in UTF-8.
    """
    try:
        return read_text(path, limit)
    except TextError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([f"{path}: can't be read: {reason}"]) from None


def label_of(text: str, where: object, mistakes: Mistakes) -> str:
    """A label as it is in the data, without spaces around it; a mistake where it is empty or too long."""
    label = text.strip()
    if not label or len(label) > MAX_LABEL:
        mistakes.add(where, "expected a label" + (f" of at most {MAX_LABEL} characters" if label else ", found none"))
    return label


def entries(folder: Path) -> list[Path]:
    """What is in a folder, in the order of the names; hidden files, and the folder of them in archives, are left out.

    Raises:
        ConfigError: it can't be read, or holds too many files.
    """
    try:
        found = sorted(path for path in folder.iterdir() if not path.name.startswith(_HIDDEN))
    except OSError as error:
        raise ConfigError([f"{folder}: can't be read: {error.strerror}"]) from None
    if len(found) > MAX_SAMPLES:
        raise ConfigError([f"{folder}: more than {MAX_SAMPLES} files"])
    return found


def files_below(folder: Path, endings: Sequence[str], depth: int = 4) -> Iterator[Path]:
    """The files with these endings in a folder and in those within it."""
    for path in entries(folder):
        if path.name.lower().endswith(tuple(endings)) and not path.is_dir():
            yield path
        elif depth and path.is_dir():
            yield from files_below(path, endings, depth - 1)


def split_folder(folder: Path, split: Split) -> Path:
    """The part of a data set that is asked for, where its folder is divided; else the folder itself."""
    parts = {path.name.lower(): path for path in entries(folder) if path.is_dir()}
    return next((parts[name] for name in SPLITS[split] if name in parts), folder)


class PictureFinder:
    """Finds the pictures that annotations name, whether they lie beside them, in `images/` or in a part of it.

    Upper and lower case make a difference only where that is the only one between two files.

    Args:
        folders: to look in, the first one first.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = list(dict.fromkeys(folders))
        self._alike: dict[Path, dict[str, Path]] = {}

    def find(self, name: str) -> Path | None:
        """The file of this name; None if there is none, or if the name leads out of the folders."""
        # Label Studio writes names as in an address: `a%20b.jpg`.
        names = [one for spelling in dict.fromkeys((name, unquote(name))) for one in _inside(spelling)]
        for folder in self._folders:
            for one in names:
                with contextlib.suppress(OSError):
                    if (folder / one).is_file():
                        return folder / one
        return next((found for folder in self._folders for one in names if (found := self._like(folder / one))), None)

    def _like(self, path: Path) -> Path | None:
        """The file whose name differs in case alone: annotations made where that makes no difference."""
        if path.parent not in self._alike:
            place = path.parent
            found = entries(place) if place.is_dir() else []
            self._alike[place] = {one.name.lower(): one for one in found if one.is_file()}
        return self._alike[path.parent].get(path.name.lower())


def _inside(name: str) -> list[Path]:
    """The paths below a folder that a name may mean: itself, unless it leads elsewhere, and its last part."""
    relative = Path(name.replace("\\", "/"))
    if "\0" in name or not relative.name:
        return []
    leads_out = relative.is_absolute() or ".." in relative.parts
    return [Path(relative.name)] if leads_out else [relative, Path(relative.name)]
