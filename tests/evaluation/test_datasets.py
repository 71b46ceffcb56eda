"""Labelled data in the formats that people have: what is read, and how mistakes are reported."""

import json
import struct
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from edge_agent.evaluation import labelled
from edge_agent.evaluation.datasets import open_dataset
from edge_agent.evaluation.labelled import Dataset, LabelledObject

BMP = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 58, 0, 0, 54, 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + bytes(4)


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def labels(data: Dataset) -> list[tuple[str, str | None]]:
    return [(sample.path.name, sample.label) for sample in data if sample.path]


def objects(data: Dataset) -> dict[str, list[LabelledObject]]:
    return {sample.path.name: list(sample.objects or ()) for sample in data if sample.path}


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        open_dataset(path)
    return [problem.replace(f"{path}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize("prefix", ["", "val/", "test/"])
def test_a_folder_for_each_class(tmp_path: Path, prefix: str) -> None:
    files: dict[str, str | bytes] = {f"{prefix}{name}": BMP for name in ("cat/2.bmp", "cat/1.bmp", "dog-samples/3.bmp")}
    data = open_dataset(write(tmp_path, files | {f"{prefix}cat/notes.txt": "", ".hidden/4.bmp": BMP}))
    assert data.kind == "labels"
    assert data.classes == ("cat", "dog")
    assert labels(data) == [("1.bmp", "cat"), ("2.bmp", "cat"), ("3.bmp", "dog")]


def test_the_half_of_the_data_that_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, {"train/a/1.bmp": BMP, "valid/a/2.bmp": BMP})
    assert labels(open_dataset(tmp_path)) == [("2.bmp", "a")]
    assert labels(open_dataset(tmp_path, "train")) == [("1.bmp", "a")]


def test_samples_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    [sample] = open_dataset(write(tmp_path, {"a/1.bmp": BMP}))
    (tmp_path / "a" / "1.bmp").write_bytes(b"another")
    assert sample.read().data == b"another"


def test_edge_impulse_s_export(tmp_path: Path) -> None:
    listed = [
        {"path": "testing/1.bmp", "category": "testing", "label": {"type": "label", "label": "yes"}},
        {"path": "training/2.bmp", "category": "training", "label": {"type": "label", "label": "no"}},
    ]
    write(tmp_path, {"testing/1.bmp": BMP, "training/2.bmp": BMP, "info.labels": json.dumps({"files": listed})})
    assert labels(open_dataset(tmp_path)) == [("1.bmp", "yes")]
    assert labels(open_dataset(tmp_path, "train")) == [("2.bmp", "no")]


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "1.cbor", "label": {"type": "label", "label": "yes"}},
        {"path": "1.bmp", "label": {"type": "unlabeled"}},
        {"path": "1.bmp", "label": {"type": "multi-label", "labels": []}},
        {"path": "gone.bmp", "label": "yes"},
    ],
)
def test_what_edge_impulse_lists_and_can_not_be_used_is_a_mistake(tmp_path: Path, entry: dict[str, object]) -> None:
    write(tmp_path, {"1.cbor": b"\xa1", "1.bmp": BMP, "info.labels": json.dumps({"files": [entry]})})
    assert problems(tmp_path)[0].startswith("info.labels: files[0]: ")


def test_edge_impulse_s_boxes(tmp_path: Path) -> None:
    box = {"label": "nut", "x": 1, "y": 2, "width": 3, "height": 4}
    write(tmp_path, {"1.bmp": BMP, "2.bmp": BMP})
    write(tmp_path, {"bounding_boxes.labels": json.dumps({"boundingBoxes": {"1.bmp": [box]}})})
    data = open_dataset(tmp_path)
    assert objects(data) == {"1.bmp": [LabelledObject("nut", (1, 2, 4, 6))], "2.bmp": []}


COCO = {
    "images": [{"id": 7, "file_name": "1.bmp"}, {"id": 8, "file_name": "2.bmp"}],
    "categories": [{"id": 1, "name": "person", "keypoints": ["nose"]}, {"id": 18, "name": "dog"}],
    "annotations": [
        {"image_id": 7, "category_id": 18, "bbox": [1, 2, 3, 4], "area": 5, "iscrowd": 1},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2], "keypoints": [1, 1, 2]},
    ],
}


@pytest.mark.parametrize("name", ["annotations/instances_val2017.json", "_annotations.coco.json", "mine.json"])
def test_coco(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"images/1.bmp": BMP, "images/2.bmp": BMP, name: json.dumps(COCO)})
    data = open_dataset(tmp_path)
    assert (data.kind, data.classes, data.keypoints) == ("objects", ("person", "dog"), 1)
    dog = LabelledObject("dog", (1, 2, 4, 6), 5, crowd=True)
    person = LabelledObject("person", (0, 0, 2, 2), keypoints=((1, 1, 2),))
    assert objects(data) == {"1.bmp": [dog, person], "2.bmp": []}


def test_coco_as_tools_write_it(tmp_path: Path) -> None:
    """Runs of a crowd, outlines without a box, ids that are texts, names as in an address, keys that hold nothing."""
    runs = {"counts": [5, 5], "size": [2, 5]}
    annotations = [
        {"image_id": "p", "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 1, "segmentation": runs, "area": 5},
        {"image_id": "p", "category_id": 1, "segmentation": [[1, 2, 9, 2, 9, 8]], "keypoints": None, "area": None},
    ]
    document = {
        "images": [{"id": "p", "file_name": "a%20b.BMP"}],
        "categories": [{"id": 1, "name": "nut"}],
        "annotations": annotations,
    }
    write(tmp_path, {"images/default/a b.bmp": BMP, "annotations/instances_default.JSON": json.dumps(document)})
    crowd, outlined = objects(open_dataset(tmp_path))["a b.bmp"]
    assert (crowd.box, crowd.crowd, crowd.area) == ((1, 2, 4, 6), True, 5)
    assert outlined.box == (1, 2, 9, 8)


def test_ids_of_coco_that_are_none_are_mistakes(tmp_path: Path) -> None:
    annotation = {"image_id": [], "category_id": {}, "bbox": [1, 2, 3, 4]}
    write(tmp_path, {"1.bmp": BMP, "2.bmp": BMP, "coco.json": json.dumps({**COCO, "annotations": [annotation]})})
    assert [one.split(": ")[1] for one in problems(tmp_path)] == ["annotations[0]"]


def test_mistakes_in_coco_name_the_annotation(tmp_path: Path) -> None:
    wrong = COCO | {
        "annotations": [
            {"image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]},
            {"image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1]},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 1]},
            {"image_id": 7, "category_id": 1, "bbox": [0, 0, 10**400, 1]},
        ]
    }
    write(tmp_path, {"1.bmp": BMP, "coco.json": json.dumps(wrong)})
    found = problems(tmp_path)
    assert [one.partition(": ")[2].partition(":")[0] for one in found] == [
        "images[1]",
        "annotations[0]",
        "annotations[1]",
        "annotations[2]",
        "annotations[3]",
    ]


YOLO: dict[str, str | bytes] = {
    "data.yaml": "path: .\ntrain: train/images\nval: valid/images\nnames: [nut, bolt]\n",
    "valid/images/1.bmp": BMP,
    "valid/images/2.bmp": BMP,
    "train/images/3.bmp": BMP,
}


def test_yolo(tmp_path: Path) -> None:
    data = open_dataset(write(tmp_path, {**YOLO, "valid/labels/1.txt": "1 0.5 0.5 0.5 1\n"}))
    assert data.classes == ("nut", "bolt")
    [sample, empty] = data
    assert sample.relative
    assert sample.objects == (LabelledObject("bolt", (0.25, 0, 0.75, 1)),)
    assert sample.objects[0].scaled(40, 20).box == (10, 0, 30, 20)
    assert empty.objects == ()
    assert labels(open_dataset(tmp_path, "train")) == [("3.bmp", None)]


@pytest.mark.parametrize(
    "line", ["2 0.5 0.5 1 1", "0 0.5 0.5 1", "0 0.5 0.5 one 1", "0 320 240 100 100", "0.5 0.5 0.5 1 1", "0 nan 0 0 0"]
)
def test_mistakes_in_yolo_name_file_and_line(tmp_path: Path, line: str) -> None:
    write(tmp_path, {**YOLO, "valid/labels/2.txt": f"0 0.5 0.5 1 1\n{line}\n"})
    [problem] = problems(tmp_path)
    assert problem.startswith("valid/labels/2.txt:2: ")


@pytest.mark.parametrize(
    "files",
    [
        {"images/1.bmp": BMP, "labels/1.txt": "1 .5 .5 1 1", "classes.txt": "a\nb\n", "notes.json": "{}"},
        {"images/1.bmp": BMP, "labels/1.txt": "1 .5 .5 1 1", "birds.yaml": "val: images\nnames: [a, b]\n"},
        {"images/val/1.bmp": BMP, "labels/val/1.txt": "1 .5 .5 1 1", "classes.txt": "a\nb\n"},
        {"obj_train_data/1.bmp": BMP, "obj_train_data/1.txt": "1 .5 .5 1 1", "obj.names": "a\nb\n"},
        {"valid/1.bmp": BMP, "valid/1.txt": "1 .5 .5 1 1", "valid/_darknet.labels": "a\nb"},
        {"1.bmp": BMP, "1.txt": "1 .5 .5 1 1\r\n", "classes.txt": b"\xef\xbb\xbfa\r\nb\r\n"},
    ],
    ids=["Label Studio", "name of its own", "divided", "CVAT", "Roboflow's Darknet", "LabelImg"],
)
def test_yolo_as_tools_export_it(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    [found] = objects(open_dataset(write(tmp_path, files)))["1.bmp"]
    assert (found.label, found.box) == ("b", (0, 0, 1, 1))


def test_yolo_without_names_is_a_mistake_and_no_class_called_images(tmp_path: Path) -> None:
    write(tmp_path, {"images/1.bmp": BMP, "labels/1.txt": "0 .5 .5 1 1"})
    assert "names of the classes" in problems(tmp_path)[0]


def test_a_part_of_yolo_that_was_not_exported_is_replaced_by_another_of_the_same_half(tmp_path: Path) -> None:
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [a]\n"
    write(tmp_path, {"data.yaml": text, "valid/images/1.bmp": BMP, "train/images/2.bmp": BMP})
    assert list(objects(open_dataset(tmp_path))) == ["1.bmp"]


def test_half_a_corner_is_a_mistake(tmp_path: Path) -> None:
    write(tmp_path, {"images/1.bmp": BMP, "labels/1.txt": "0 .1 .1 .2 .1 .2 .2 .1", "classes.txt": "a\n"})
    assert problems(tmp_path)[0].startswith("labels/1.txt:1: ")


def test_an_outline_of_yolo_has_the_box_around_it(tmp_path: Path) -> None:
    write(tmp_path, {**YOLO, "valid/labels/1.txt": "0 0.1 0.2 0.5 0.2 0.5 0.8 0.1 0.7\n"})
    assert objects(open_dataset(tmp_path))["1.bmp"] == [LabelledObject("nut", (0.1, 0.2, 0.5, 0.8))]


def voc(inside: str, before: str = "") -> str:
    return f"{before}<annotation>\n<filename>1.bmp</filename>\n{inside}\n</annotation>"


BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"


def test_pascal_voc(tmp_path: Path) -> None:
    inside = f"<object><name>cat</name>{BOX}<part><name>head</name>{BOX}</part></object>"
    write(tmp_path, {"JPEGImages/1.bmp": BMP, "Annotations/1.xml": voc(inside)})
    assert objects(open_dataset(tmp_path)) == {"1.bmp": [LabelledObject("cat", (0, 1, 3, 4))]}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (voc("<object><name>cat</name></object>"), 3),
        (voc("<object>"), 4),
        (voc("", '<!DOCTYPE a [<!ENTITY x "y">]>'), 1),
        (voc("<a>" * 100), 3),
        (voc(f"\n<object>{BOX}</object>"), 4),
        ("<html/>", 1),
    ],
)
def test_mistakes_in_pascal_voc_name_file_and_line(tmp_path: Path, content: str, line: int) -> None:
    write(tmp_path, {"1.bmp": BMP, "1.xml": content})
    [problem] = problems(tmp_path)
    assert problem.startswith(f"1.xml:{line}: ")


def test_csv_of_files(tmp_path: Path) -> None:
    write(tmp_path, {"1.bmp": BMP, "images/2.bmp": BMP, "labels.csv": 'file,label\n1.bmp,"a, b"\n2.bmp,c\n'})
    data = open_dataset(tmp_path / "labels.csv")
    assert labels(data) == [("1.bmp", "a, b"), ("2.bmp", "c")]
    assert [sample.where.rpartition(":")[2] for sample in data] == ["2", "3"]


def test_csv_without_a_header(tmp_path: Path) -> None:
    write(tmp_path, {"1.bmp": BMP, "labels.csv": "1.bmp,3.5\n"})
    assert labels(open_dataset(tmp_path)) == [("1.bmp", "3.5")]


def test_csv_of_objects(tmp_path: Path) -> None:
    text = "filename,width,height,class,xmin,ymin,xmax,ymax\n1.bmp,9,9,a,1,2,3,4\n1.bmp,9,9,b,0,0,1,1\n"
    data = open_dataset(write(tmp_path, {"1.bmp": BMP, "labels.csv": text}))
    assert objects(data) == {"1.bmp": [LabelledObject("a", (1, 2, 3, 4)), LabelledObject("b", (0, 0, 1, 1))]}


def test_csv_of_readings_is_cut_where_the_label_changes(tmp_path: Path) -> None:
    rows = "timestamp,x,y,label\n0,1,2,walk\n1,3,4,walk\n2,5,6,run\n"
    walk, run = open_dataset(write(tmp_path, {"readings.csv": rows}) / "readings.csv")
    assert walk.series is not None
    assert run.series is not None
    assert walk.series.values.tolist() == [[1, 2], [3, 4]]
    assert walk.series.channels == ("x", "y")
    assert (walk.label, run.label) == ("walk", "run")
    assert run.where.endswith("readings.csv:4")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("file,label\n1.bmp,a\ngone.bmp,b\n", "labels.csv:3: "),
        ("file,label\n1.bmp\n", "labels.csv:2: "),
        ("file,label\n1.bmp,\n", "labels.csv:2: "),
        ("file,label\n../1.bmp,a\n", ""),
        ("x,y\n1,2\n", "labels.csv:1: "),
        ("x,label\n1,a\nb,a\n", "labels.csv:3: "),
        ("x,label\nnan,a\n", "labels.csv:2: "),
        ("label\na\n", "labels.csv:1: "),
    ],
)
def test_mistakes_in_csv_name_file_and_line(tmp_path: Path, text: str, where: str) -> None:
    write(tmp_path, {"1.bmp": BMP, "labels.csv": text})
    if where:
        [problem] = problems(tmp_path)
        assert problem.startswith(where)
    else:
        assert labels(open_dataset(tmp_path)) == [("1.bmp", "a")]


def test_a_name_does_not_lead_out_of_the_data(tmp_path: Path) -> None:
    write(tmp_path, {"secret.bmp": BMP, "data/labels.csv": "file,label\n../secret.bmp,a\n"})
    [problem] = problems(tmp_path / "data")
    assert problem.startswith("labels.csv:2: ")


def test_json_lines_of_readings(tmp_path: Path) -> None:
    line = {"values": [[1, 2], [3, 4]], "channels": ["x", "y"], "rate": 50, "label": "walk"}
    [sample] = open_dataset(write(tmp_path, {"a.jsonl": json.dumps(line)}) / "a.jsonl")
    assert sample.series is not None
    assert sample.series.values.tolist() == [[1, 2], [3, 4]]
    assert (sample.series.rate, sample.series.channels) == (50, ("x", "y"))


def test_json_lines_of_requests(tmp_path: Path) -> None:
    text = (
        '{"prompt": "2+2?", "expected": "4"}\n\n{"request": {"prompt": "a", "max_tokens": 5}, "expected": {"b": 1}}\n'
    )
    data = open_dataset(write(tmp_path, {"a.jsonl": text}) / "a.jsonl")
    assert data.kind == "requests"
    assert [(sample.request, sample.expected) for sample in data] == [
        (b"2+2?", "4"),
        (b'{"prompt": "a", "max_tokens": 5}', {"b": 1}),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        '{"values": [1]}',
        '{"values": ["a"], "label": "x"}',
        '{"expected": 1}',
        '{"file": "no", "label": "a"}',
        '{"values": [1], "label": "a"}',
    ],
)
def test_mistakes_in_json_lines_name_file_and_line(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"a.jsonl": f'{{"prompt": "a", "expected": "b"}}\n{line}\n'})
    with pytest.raises(ConfigError) as caught:
        open_dataset(tmp_path / "a.jsonl")
    assert all(problem.startswith(f"{tmp_path}/a.jsonl:2: ") for problem in caught.value.problems)


def test_pictures_with_masks(tmp_path: Path) -> None:
    write(tmp_path, {"images/1.bmp": BMP, "masks/1.png": b"", "classes.txt": "background\ncat\n"})
    data = open_dataset(tmp_path)
    assert (data.kind, data.classes) == ("masks", ("background", "cat"))
    [sample] = data
    assert sample.mask == tmp_path / "masks" / "1.png"


def test_case_makes_no_difference_in_names_of_files_and_folders(tmp_path: Path) -> None:
    write(
        tmp_path / "voc",
        {"a.JPG": BMP, "a.XML": voc(f"<filename>A.jpg</filename><object><name>nut</name>{BOX}</object>")},
    )
    assert list(objects(open_dataset(tmp_path / "voc"))) == ["a.JPG"]
    write(tmp_path / "split", {"Train/cat/1.bmp": BMP, "Test/dog/2.BMP": BMP})
    assert labels(open_dataset(tmp_path / "split")) == [("2.BMP", "dog")]


def test_a_folder_around_the_data_is_no_class(tmp_path: Path) -> None:
    write(tmp_path, {"export/cat/1.bmp": BMP, "export/dog/2.bmp": BMP, "__MACOSX/export/cat/._1.bmp": b""})
    assert labels(open_dataset(tmp_path)) == [("1.bmp", "cat"), ("2.bmp", "dog")]
    assert open_dataset(write(tmp_path / "one", {"cat/1.bmp": BMP, "cat/2.bmp": BMP})).classes == ("cat",)


def test_a_class_whose_files_can_not_be_used_is_not_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"cat/1.tif": b"II*\0", "dog/2.bmp": BMP})
    assert problems(tmp_path)[0].startswith("cat: ")


@pytest.mark.parametrize("name", ["nothing", "data.tar.gz", "empty/a"])
def test_what_is_no_data_is_refused(tmp_path: Path, name: str) -> None:
    if "/" in name:
        (tmp_path / name).mkdir(parents=True)
    elif name == "data.tar.gz":
        (tmp_path / name).touch()
    with pytest.raises(ConfigError):
        open_dataset(tmp_path / name)


def test_the_number_of_samples_and_of_mistakes_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"labels.csv": "file,label\n" + "gone.bmp,a\n" * 1000})
    assert len(problems(tmp_path)) == labelled.MAX_PROBLEMS + 1
    monkeypatch.setattr(labelled, "MAX_SAMPLES", 1)
    write(tmp_path / "other", {"a/1.bmp": BMP, "a/2.bmp": BMP})
    assert "more than 1 files" in problems(tmp_path / "other")[0]


def test_a_folder_that_can_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a/1.bmp": BMP})
    is_dir = Path.is_dir

    def refused(path: Path) -> bool:
        if path.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refused)
    assert problems(tmp_path) == ["a: can't be read: Permission denied"]


def test_damaged_data_is_refused_without_a_traceback(tmp_path: Path) -> None:
    """Every file of annotations, cut off at each of some places."""
    write(tmp_path, {"1.bmp": BMP, "data.yaml": YOLO["data.yaml"], "1.xml": voc(f"<object>{BOX}</object>")})
    write(
        tmp_path, {"coco.json": json.dumps(COCO), "a.jsonl": '{"values": [[1]], "label": "b"}', "a.csv": "x,label\n1,a"}
    )
    for name in ("data.yaml", "1.xml", "coco.json", "a.jsonl", "a.csv"):
        content = (tmp_path / name).read_bytes()
        for end in range(0, len(content), 7):
            (tmp_path / name).write_bytes(content[:end])
            assert all(str(tmp_path) in problem for problem in mistakes(tmp_path / name))


def mistakes(path: Path) -> tuple[str, ...]:
    try:
        open_dataset(path)
    except ConfigError as error:
        return error.problems
    return ()
