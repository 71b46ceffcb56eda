"""Data sets in tables: CSV and JSON lines, of files, readings, or requests with the right answers."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.errors import ConfigError
from edge_agent.evaluation.labelled import (
    MAX_SAMPLES,
    Dataset,
    LabelledObject,
    LabelledSample,
    Mistakes,
    PictureFinder,
    label_of,
    read_annotations,
)
from edge_agent.samples import Series
from edge_agent.system.text import TextError, lines, parse_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

LABELS = ("label", "labels", "class", "class_name", "category", "target", "activity", "value")
FILES = ("file", "filename", "file_name", "filepath", "path", "image", "image_path", "image_name", "image_id", "img")
TIMES = ("timestamp", "time", "timestamp_ms", "time_s", "t")
EXPECTED = ("expected", "answer", "completion")
_BOXES = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_DELIMITERS = (",", ";", "\t")
_MAX_COLUMNS = 10_000
_MAX_CELLS = 20_000_000
_MAX_RATE = 1e9


def read_csv(file: Path) -> Dataset:
    """A CSV file: of files with a label each, of objects (a row each, with the corners of its box), or of readings.

    Consecutive readings of the same label are one recording, from which windows are cut as in a pipeline.

    Raises:
        ConfigError: it is not as expected, with the line.
    """
    text = read_annotations(file)
    first = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count))
    try:
        header = [cell.strip() for cell in next(rows, [])]
        numbered = ((rows.line_num, row) for row in rows if any(cell.strip() for cell in row))
        columns = [name.lower() for name in header]
        files, labels = _column(columns, FILES), _column(columns, LABELS)
        finder = PictureFinder([file.parent, file.parent / "images"])
        if labels is None and len(header) == 2 and finder.find(header[0]):  # noqa: PLR2004 - file, label
            return _of_files(file, [(1, header), *numbered], 0, 1, finder)
        if labels is None:
            raise ConfigError(
                [f"{file}:1: expected a header with a column of labels ({', '.join(LABELS)}), found none"]
            )
        if files is None:
            return _of_readings(file, header, numbered, labels)
        corners = next((edges for edges in _BOXES if set(edges) <= set(columns)), None)
        if corners:
            return _of_objects(file, numbered, files, labels, [columns.index(edge) for edge in corners], finder)
        return _of_files(file, numbered, files, labels, finder)
    except csv.Error as error:
        raise ConfigError([f"{file}:{rows.line_num}: not valid CSV: {error}"]) from None


def _column(columns: Sequence[str], names: Sequence[str]) -> int | None:
    return next((columns.index(name) for name in names if name in columns), None)


def _named(
    file: Path, rows: Any, needed: Sequence[int], path: int, finder: PictureFinder, mistakes: Mistakes
) -> Iterator[tuple[str, list[str], Path]]:
    """The rows that have all columns and name a file that is there: where they stand, their cells, and the file."""
    count = 0
    for line, row in rows:
        where = f"{file}:{line}"
        if len(row) <= max(needed):
            mistakes.add(where, f"expected at least {max(needed) + 1} columns, found {len(row)}")
            continue
        found = finder.find(row[path].strip())
        if found is None:
            mistakes.add(where, f"there is no file {row[path].strip()!r} beside it")
            continue
        count += 1
        if count > MAX_SAMPLES:
            raise ConfigError([f"{where}: more than {MAX_SAMPLES} rows"])
        yield where, row, found


def _of_files(file: Path, rows: Any, path: int, label: int, finder: PictureFinder) -> Dataset:
    mistakes = Mistakes()
    samples = [
        LabelledSample(where, found, label_of(row[label], where, mistakes))
        for where, row, found in _named(file, rows, (path, label), path, finder, mistakes)
    ]
    mistakes.check()
    return Dataset(file, "CSV of files", "labels", samples, _classes(samples))


def _of_objects(file: Path, rows: Any, path: int, label: int, corners: Sequence[int], finder: PictureFinder) -> Dataset:
    mistakes, found = Mistakes(), dict[Path, tuple[str, list[LabelledObject]]]()
    for where, row, picture in _named(file, rows, (path, label, *corners), path, finder, mistakes):
        objects = found.setdefault(picture, (where, []))[1]
        if not any(row[at].strip() for at in corners):
            continue  # a picture without objects
        try:
            x1, y1, x2, y2 = (float(row[at]) for at in corners)
        except ValueError:
            mistakes.add(where, "expected a box in pixels")
            continue
        if not (0 <= x2 - x1 < np.inf and 0 <= y2 - y1 < np.inf):
            mistakes.add(where, "the box ends before it begins")
            continue
        objects.append(LabelledObject(label_of(row[label], where, mistakes), (x1, y1, x2, y2)))
    mistakes.check()
    samples = [LabelledSample(where, picture, objects=tuple(objects)) for picture, (where, objects) in found.items()]
    classes = dict.fromkeys(one.label for sample in samples for one in sample.objects or ())
    return Dataset(file, "CSV of objects", "objects", samples, tuple(classes))


def _of_readings(file: Path, header: Sequence[str], rows: Any, label: int) -> Dataset:
    """Rows of numbers with a label each; a column of times is left out."""
    columns = [at for at, name in enumerate(header) if at != label and name.lower() not in TIMES]
    mistakes, labels, starts = Mistakes(), list[str](), list[int]()
    values: list[list[float]] = []
    if not 0 < len(columns) <= _MAX_COLUMNS:
        raise ConfigError([f"{file}:1: expected 1 to {_MAX_COLUMNS} columns of readings, found {len(columns)}"])
    for line, row in rows:
        where = f"{file}:{line}"
        try:
            values.append([float(row[at]) for at in columns])
            if not all(map(math.isfinite, values[-1])):
                raise ValueError  # noqa: TRY301 - the same mistake
            label_ = label_of(row[label], where, mistakes)
        except (ValueError, IndexError):
            files = f", or a column of files ({', '.join(FILES)})" if not values else ""
            mistakes.add(where, f"expected {len(columns)} numbers and a label{files}")
            continue
        if not labels or labels[-1] != label_:
            starts.append(line)
        labels.append(label_)
        if len(labels) * len(columns) > _MAX_CELLS:
            raise ConfigError([f"{where}: more than {_MAX_CELLS} numbers"])
    mistakes.check()
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused
        table, names = np.array(values).astype(np.float32), tuple(header[at] for at in columns)
    samples, begin = list[LabelledSample](), 0
    for end in range(1, len(labels) + 1):
        if end == len(labels) or labels[end] != labels[begin]:
            series = Series(table[begin:end], names, gap=True)
            samples.append(
                LabelledSample(f"{file}:{starts[len(samples)]}", label=labels[begin], series=series, stream=True)
            )
            begin = end
    return Dataset(file, "CSV of readings", "labels", samples, _classes(samples))


def read_json_lines(file: Path) -> Dataset:
    """JSON lines: `file` or `values` with a `label`, or a request with the `expected` answer.

    A request is what a language model gets over MQTT: `prompt` or `messages` with options, or, as `request`, either.

    Raises:
        ConfigError: it is not as expected, with the line.
    """
    mistakes, samples, kinds = Mistakes(), list[LabelledSample](), dict[str, str]()
    finder = PictureFinder([file.parent, file.parent / "images"])
    for number, line in enumerate(lines(read_annotations(file)), 1):
        where = f"{file}:{number}"
        if not line.strip():
            continue
        try:
            document = parse_json(line)
        except TextError as error:
            mistakes.add(where, str(error))
            continue
        if not isinstance(document, dict):
            mistakes.add(where, "expected a JSON object")
            continue
        kind, sample = _sample(document, where, finder, mistakes)
        kinds.setdefault(kind, where)
        if sample is not None:
            samples.append(sample)
        if len(samples) > MAX_SAMPLES:
            raise ConfigError([f"{where}: more than {MAX_SAMPLES} lines"])
    kinds.pop("", None)
    if len(kinds) > 1:
        first, second = list(kinds.items())[:2]
        mistakes.add(second[1], f"expected {first[0]} as in the lines before, found {second[0]}")
    mistakes.check()
    kind = next(iter(kinds), "nothing")
    if kind == "a request":
        return Dataset(file, "JSON lines of requests", "requests", samples)
    return Dataset(
        file, f"JSON lines of {'files' if kind == 'a file' else 'readings'}", "labels", samples, _classes(samples)
    )


def _sample(
    document: Mapping[str, Any], where: str, finder: PictureFinder, mistakes: Mistakes
) -> tuple[str, LabelledSample | None]:
    if (key := next((key for key in EXPECTED if key in document), None)) and "values" not in document:
        rest = {name: value for name, value in document.items() if name != key}
        request = rest.get("request", rest) if set(rest) != {"prompt"} else rest["prompt"]
        if not request or not isinstance(request, str | dict):
            mistakes.add(where, "expected a request: prompt, messages, or request")
            return "a request", None
        text = request if isinstance(request, str) else json.dumps(request, ensure_ascii=False)
        return "a request", LabelledSample(where, request=text.encode(), expected=document[key])
    stated = next((document[key] for key in LABELS if key in document), None)
    if not isinstance(stated, str | int | float) or isinstance(stated, bool):
        mistakes.add(where, "expected a label, or the expected answer to a request")
        return "", None
    label = label_of(str(stated), where, mistakes)
    name = next((document[key] for key in FILES if key in document), None)
    if isinstance(name, str):
        path = finder.find(name)
        if path is None:
            mistakes.add(where, f"there is no file {name!r} beside it")
        return "a file", LabelledSample(where, path, label)
    values = _values(document.get("values"))
    if values is None:
        mistakes.add(where, "expected values: a list of numbers, or of lists of numbers that are alike in length")
        return "readings", None
    channels, rate = document.get("channels", ()), document.get("rate")
    names = tuple(str(one) for one in channels) if isinstance(channels, list) else ()
    number = float(rate) if isinstance(rate, int | float) and 0 < rate <= _MAX_RATE else None
    return "readings", LabelledSample(where, label=label, series=Series(values, names, number, gap=True))


def _values(stated: Any) -> "NDArray[np.float32] | None":
    """Readings (readings, channels); None where they are something else."""
    try:
        values = np.asarray(stated)
    except ValueError:  # lists that differ in length
        return None
    if values.dtype.kind not in "iuf" or not values.size or values.ndim not in (1, 2):
        return None
    with np.errstate(over="ignore"):
        found = values.astype(np.float32).reshape(len(values), -1)
    return found if np.isfinite(found).all() else None


def _classes(samples: Sequence[LabelledSample]) -> tuple[str, ...]:
    return tuple(sorted({sample.label for sample in samples if sample.label is not None}))
