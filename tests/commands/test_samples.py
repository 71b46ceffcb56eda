"""`samples export` and `samples import`: what tools get, and what comes back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent import cli
from edge_agent.commands.samples import FORMATS
from edge_agent.errors import ConfigError
from edge_agent.evaluation.datasets import open_dataset
from edge_agent.keeping import export
from edge_agent.keeping.chosen import Chosen, chosen, parts
from edge_agent.keeping.payload import SERIES
from edge_agent.preprocess.image import Preprocess
from edge_agent.quantization.samples import samples_of
from edge_agent.sample_store.labels import Label, append_labels, read_labels
from edge_agent.sample_store.segment import Entry, Walk
from edge_agent.sample_store.store import Bounds, SampleStore, Stored

CLASSES = ["cat", "dog", "cat"]
BOXES = [[("cat", (10.0, 20.0, 30.0, 40.0))], [], [("dog", (0.0, 0.0, 64.0, 48.0)), ("cat", (1.0, 2.0, 3.0, 4.0))]]
JPEG = bytes(cv2.imencode(".jpg", np.full((48, 64, 3), 99, np.uint8))[1])
SIZE = {"width": 64, "height": 48}


def document(number: int, task: str, predictions: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"{number:016x}",
        "captured_at": 1000.0 + 60 * number,
        "pipeline": "porch",
        "reasons": ["random"],
        "boot_id": "b00t",
        "result": {"task": task, "predictions": predictions, "input": SIZE},
        "input": {"media": "image/jpeg", "frame": False, "exact": True},
    }


def stored(folder: Path, entries: list[Entry]) -> Path:
    store = SampleStore(folder, Bounds(10_000_000))
    store.append(entries)
    store.close()
    return folder


@pytest.fixture
def classified(tmp_path: Path) -> Path:
    entries = [
        Entry(document(number, "classification", [{"label": label, "confidence": 0.5}]), JPEG)
        for number, label in enumerate(CLASSES)
    ]
    return stored(tmp_path / "classified", entries)


@pytest.fixture
def detected(tmp_path: Path) -> Path:
    entries = [
        Entry(document(number, "detection", [{"label": label, "box": list(box)} for label, box in boxes]), JPEG)
        for number, boxes in enumerate(BOXES)
    ]
    return stored(tmp_path / "detected", entries)


def run(*arguments: object) -> int:
    return cli.main(["samples", *map(str, arguments)])


def test_the_formats_of_the_command_are_those_that_there_are() -> None:
    assert set(FORMATS) == set(export.FORMATS)


@pytest.mark.parametrize("form", ["folder", "jsonl"])
def test_classified_samples_are_read_again_as_labelled_data(classified: Path, tmp_path: Path, form: str) -> None:
    assert run("export", "-o", tmp_path / "out", "--format", form, classified) == 0
    assert sorted(str(one.label) for one in open_dataset(tmp_path / "out")) == sorted(CLASSES)
    assert next(iter(open_dataset(tmp_path / "out"))).read().data == JPEG


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_objects_are_read_again_where_they_were(detected: Path, tmp_path: Path, form: str) -> None:
    assert run("export", "-o", tmp_path / "out", "--format", form, detected) == 0
    dataset = open_dataset(tmp_path / "out", "train")
    found = []
    for one in dataset:
        objects = one.objects or ()
        scaled = [each.scaled(64, 48) if one.relative else each for each in objects]
        found.append(sorted((each.label, tuple(round(edge, 2) for edge in each.box)) for each in scaled))
    assert sorted(found) == sorted(sorted(boxes) for boxes in BOXES)


def test_readings_are_written_as_numbers(tmp_path: Path) -> None:
    about = document(1, "classification", [{"label": "still"}])
    about["input"] = {"media": SERIES, "shape": [2, 2], "channels": ["x", "y"], "rate": 50.0, "gap": False}
    store = stored(tmp_path / "store", [Entry(about, bytes(8) + b"\0\0\x80?" * 2)])
    run("export", "-o", tmp_path / "csv", store)
    assert (tmp_path / "csv" / "still" / f"{1:016x}.csv").read_text().split() == ["x,y", "0.0,0.0", "1.0,1.0"]
    run("export", "-o", tmp_path / "jsonl", "--format", "jsonl", store)
    [one] = open_dataset(tmp_path / "jsonl")
    assert (one.label, one.series and one.series.values.tolist()) == ("still", [[0, 0], [1, 1]])


def test_labels_come_back_from_a_folder_and_count_in_the_next_export(classified: Path, tmp_path: Path) -> None:
    run("export", "-o", tmp_path / "out", classified)
    (tmp_path / "out" / "bird").mkdir()
    moved = tmp_path / "out" / "cat" / f"{0:016x}.jpg"
    moved.rename(tmp_path / "out" / "bird" / moved.name)
    assert run("import", tmp_path / "out", classified) == 0
    assert run("import", tmp_path / "out", classified) == 0  # nothing new: nothing is added to the history
    assert len((classified / "labels.jsonl").read_text().splitlines()) == 3
    run("export", "-o", tmp_path / "again", "--labelled", classified)
    assert sorted(path.parent.name for path in (tmp_path / "again").rglob("*.jpg")) == ["bird", "cat", "dog"]


def test_labels_come_back_from_label_studio(detected: Path, tmp_path: Path) -> None:
    run("export", "-o", tmp_path / "out", "--format", "label-studio", detected)
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
    assert all((tmp_path / "out" / task["data"]["image"].partition("?d=")[2]).is_file() for task in tasks)
    for task in tasks:  # as a person would: each suggestion is confirmed, and the first is corrected
        task["annotations"] = task.pop("predictions")
    tasks[0]["annotations"][0]["result"][0]["value"] |= {"rectanglelabels": ["fox"], "x": 50.0}
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert run("import", tmp_path / "export.json", detected) == 0
    labels = read_labels(detected)
    [fox] = labels[f"{0:016x}"].objects or ()
    assert (fox[0], [round(edge, 3) for edge in fox[1]]) == ("fox", [32, 20, 52, 40])
    assert labels[f"{1:016x}"].objects == ()


def test_labels_come_back_from_coco(detected: Path, tmp_path: Path) -> None:
    run("export", "-o", tmp_path / "out", "--format", "coco", detected)
    assert run("import", tmp_path / "out" / "_annotations.coco.json", detected) == 0
    found = read_labels(detected)
    assert [list(found[f"{number:016x}"].objects or ()) for number in range(3)] == BOXES


def test_a_history_with_a_line_that_was_cut_off_goes_on(classified: Path) -> None:
    append_labels(classified, [("a", Label("cat")), ("b", Label("dog"))], "test", "now")
    file = classified / "labels.jsonl"
    file.write_bytes(file.read_bytes()[:-9])
    append_labels(classified, [("a", Label(discard=True))], "test", "later")
    assert read_labels(classified) == {"a": Label(discard=True)}


def test_what_is_discarded_is_not_exported(classified: Path) -> None:
    append_labels(classified, [(f"{1:016x}", Label(discard=True))], "test", "now")
    assert [one.stored.id for one in chosen([classified], Walk())] == [f"{0:016x}", f"{2:016x}"]


def fake(number: int, captured_at: float, track: int | None = None) -> Chosen:
    predictions = [] if track is None else [{"track_id": track}]
    where = Stored(Path(), 0, f"{number}", captured_at, "porch", [], [])
    return Chosen(where, {"boot_id": "b", "result": {"predictions": predictions}}, None)


def test_what_shows_the_same_stays_together() -> None:
    # Ten minutes with ten samples each; a track leads from each even minute into the next one.
    samples = [fake(n, 6.0 * n, track=n // 20 if n % 20 in (9, 10) else None) for n in range(100)]
    testing = parts(samples, 0.4)
    assert testing == parts(samples, 0.4)
    for begin in range(0, 100, 20):
        assert len(set(testing[begin : begin + 20])) == 1
    assert sum(testing) == 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: out.write_bytes(b""), "expected a new or empty folder"),
        (lambda out: (out.mkdir(), (out / "a").write_bytes(b"")), "expected a new or empty folder"),
    ],
)
def test_nothing_is_overwritten(
    classified: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    message: str,
) -> None:
    change(tmp_path / "out")
    assert run("export", "-o", tmp_path / "out", classified) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"images": 1}', '{"images": [1], "annotations": [{}]}', "[[], {}, 3]"])
def test_a_file_that_holds_no_labels_changes_nothing(classified: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.json").write_text(content)
    assert run("import", tmp_path / "labels.json", classified) in (1, 2)
    assert read_labels(classified) == {}


def test_a_store_is_labelled_data_as_far_as_it_is_labelled(classified: Path, detected: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of these kept samples is labelled"):
        open_dataset(classified)
    append_labels(classified, [(f"{0:016x}", Label("bird")), (f"{1:016x}", Label(discard=True))], "test", "now")
    [one] = open_dataset(classified)
    assert (one.label, one.read().data) == ("bird", JPEG)
    run("export", "-o", tmp_path / "out", "--format", "coco", detected)
    run("import", tmp_path / "out" / "_annotations.coco.json", detected)
    found = open_dataset(detected)
    assert [[(each.label, each.box) for each in one.objects or ()] for one in found] == BOXES
    assert (found.kind, found.classes) == ("objects", ("cat", "dog"))


def test_a_store_has_samples_to_quantize_with_but_what_failed_and_what_is_discarded(
    classified: Path, tmp_path: Path
) -> None:
    append_labels(classified, [(f"{1:016x}", Label(discard=True))], "test", "now")
    store = SampleStore(classified, Bounds(10_000_000))
    store.open()
    store.append([Entry({"id": f"{9:016x}", "error": "no picture", "input": {"media": "?"}}, b"no picture")])
    store.close()
    (tmp_path / "more.jpg").write_bytes(JPEG)
    preprocess = Preprocess(24, 24, "stretch", "rgb", "nhwc", "uint8", (0.0,), (1.0,))
    found = samples_of([str(classified), str(tmp_path / "more.jpg")], preprocess)
    assert [one.read().data for one in found] == [JPEG, JPEG, JPEG]
    assert [one.path.name[-16:] for one in found[:2]] == [f"{0:016x}", f"{2:016x}"]
