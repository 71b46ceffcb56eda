"""Pascal VOC's annotations: an XML file for each picture.

Source: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
"""

import math
from pathlib import Path
from xml.parsers import expat

from edge_agent.errors import ConfigError
from edge_agent.evaluation.labelled import (
    PICTURES,
    Dataset,
    LabelledObject,
    LabelledSample,
    Mistakes,
    PictureFinder,
    label_of,
    read_annotations,
)

MAX_XML = 10_000_000
_MAX_DEPTH = 16
_MAX_TEXT = 1000
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(folder: Path, files: list[Path]) -> Dataset:
    """The pictures of XML files, each with its objects. `difficult` objects count as crowds do: they need not be found.

    Args:
        folder: of the data set.
        files: the annotations, in `Annotations/` or beside the pictures.

    Raises:
        ConfigError: a file is not as expected, with its line.
    """
    mistakes, samples = Mistakes(), list[LabelledSample]()
    for file in files:
        finder = PictureFinder([file.parent, *(file.parent.parent / name for name in ("JPEGImages", "images", ""))])
        reader = _Reader(file, mistakes)
        if not reader.parse():
            continue
        names = [reader.filename, *(f"{file.stem}{ending}" for ending in PICTURES)]
        picture = next((found for name in names if name and (found := finder.find(name))), None)
        if picture is None:
            mistakes.add(file, f"there is no picture {reader.filename or file.stem!r} in JPEGImages/ or beside it")
            continue
        samples.append(LabelledSample(str(file), picture, objects=tuple(reader.objects)))
    mistakes.check()
    classes = sorted({one.label for sample in samples for one in sample.objects or ()})
    return Dataset(folder, "Pascal VOC", "objects", samples, tuple(classes))


class _RefusedError(Exception):
    """The file has something in it that no annotation needs."""


class _Reader:
    """One file. No entities, a bounded depth: an annotation has neither."""

    def __init__(self, file: Path, mistakes: Mistakes) -> None:
        self._file, self._mistakes = file, mistakes
        self.filename = ""
        self.objects: list[LabelledObject] = []
        self._path: list[str] = []
        self._text: list[str] = []
        self._length = 0
        self._fields: dict[str, str] = {}
        self._line = 1
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = self._entity
        self._parser.StartDoctypeDeclHandler = self._entity

    def parse(self) -> bool:
        """Whether the file could be read."""
        try:
            self._parser.Parse(read_annotations(self._file, MAX_XML), True)
        except expat.ExpatError as error:
            self._mistakes.add(f"{self._file}:{error.lineno}", f"not valid XML: {expat.ErrorString(error.code)}")
        except _RefusedError as error:
            self._mistakes.add(f"{self._file}:{self._parser.CurrentLineNumber}", str(error))
        except ConfigError as error:
            self._mistakes.add(*error.problems[0].split(": ", 1))
        else:
            return True
        return False

    def _entity(self, *_: object) -> None:
        raise _RefusedError("document types and entities are not read: remove them")

    def _start(self, name: str, _: object) -> None:
        if not self._path and name != "annotation":
            raise _RefusedError(f"expected <annotation>, found <{name[:40]}>")
        self._path.append(name)
        self._text.clear()
        self._length = 0
        if len(self._path) > _MAX_DEPTH:
            raise _RefusedError("elements are nested too deeply")
        if self._path == ["annotation", "object"]:
            self._fields, self._line = {}, self._parser.CurrentLineNumber

    def _characters(self, text: str) -> None:
        self._length += len(text)
        if self._length > _MAX_TEXT:
            raise _RefusedError(f"a text of more than {_MAX_TEXT} characters")
        self._text.append(text)

    def _end(self, name: str) -> None:
        text = "".join(self._text).strip()
        self._text.clear()
        match self._path:
            case ["annotation", "filename"]:
                self.filename = text
            case ["annotation", "object", _] | ["annotation", "object", "bndbox", _]:
                self._fields[name] = text
            case ["annotation", "object"]:
                self._add()
        self._path.pop()

    def _add(self) -> None:
        where = f"{self._file}:{self._line}"
        if "name" not in self._fields:
            self._mistakes.add(where, "object: expected a name, found none")
            return
        label = label_of(self._fields["name"], where, self._mistakes)
        try:
            x1, y1, x2, y2 = (float(self._fields[edge]) for edge in _EDGES)
        except (KeyError, ValueError):
            self._mistakes.add(where, f"object {label}: expected bndbox with {', '.join(_EDGES)} in pixels")
            return
        if not all(map(math.isfinite, (x1, y1, x2, y2))) or x2 < x1 or y2 < y1:
            self._mistakes.add(where, f"object {label}: the box ends before it begins")
            return
        difficult = self._fields.get("difficult") == "1"
        # The first pixel is 1, and the last one belongs to the box.
        self.objects.append(LabelledObject(label, (x1 - 1, y1 - 1, x2, y2), crowd=difficult))
