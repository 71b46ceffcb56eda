"""Labelled data made of what the project ships and of the folder of test data."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent.models.predictor import Predictor
from edge_agent.models.shipped import shipped
from edge_agent.samples import Prediction


def digits(folder: Path) -> Path:
    """The bundled pictures of digits, a folder for each class."""
    for picture in sorted((shipped("digits") / "golden").glob("*.png")):
        place = folder / picture.stem.partition("_")[0]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, place / picture.name)
    return folder


def imagenet(folder: Path, data_dir: Path) -> Path:
    """A hundred photographs, each in a folder that is called as ImageNet's files are: n01440764_tench."""
    for picture in sorted((data_dir / "imagenet_100").glob("*.JPEG")):
        (folder / picture.stem).mkdir(parents=True)
        (folder / picture.stem / picture.name).symlink_to(picture)
    return folder


def imagenet_csv(file: Path, data_dir: Path) -> Path:
    """The same with the model's own labels, by class number."""
    labels = (data_dir / "labels" / "coral_imagenet_labels.txt").read_text().splitlines()
    with (data_dir / "imagenet_100" / "classes.tsv").open() as table, file.open("w") as out:
        rows = csv.writer(out)
        rows.writerow(("file", "label"))
        for number, name in list(csv.reader(table, delimiter="\t"))[1:]:
            (file.parent / name).symlink_to(data_dir / "imagenet_100" / name)
            rows.writerow((name, labels[int(number) + 1]))
    return file


def coco_of(predictor: Predictor, pictures: Sequence[Path], file: Path) -> Path:
    """COCO annotations of what a model is sure of in some pictures."""
    from edge_agent.preprocess.files import read_file

    images, annotations = [], list[dict[str, Any]]()
    categories: dict[str, int] = {}
    for number, picture in enumerate(pictures):
        (file.parent / picture.name).symlink_to(picture)
        images.append({"id": number, "file_name": picture.name})
        for one in predictor.ask(read_file(picture)).predictions:
            category = categories.setdefault(one.label or "", len(categories) + 1)
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": category, **place(one)})
    names = [{"id": category, "name": label} for label, category in categories.items()]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": names}))
    return file


def place(one: Prediction) -> dict[str, Any]:
    """The box of a prediction as COCO has it."""
    assert one.box is not None
    x1, y1, x2, y2 = one.box
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
