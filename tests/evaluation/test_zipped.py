"""Labelled data in archives: unpacked while they are used, within bounds, and never outside of their folder."""

import json
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from edge_agent.evaluation import zipped
from edge_agent.evaluation.datasets import open_dataset
from edge_agent.evaluation.labelled import Dataset
from edge_agent.system.zip_files import Bounds
from tests.evaluation.test_datasets import BMP

LISTED = {"path": "testing/1.bmp", "category": "testing", "label": {"type": "label", "label": "yes"}}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))


def make(path: Path, files: dict[str, str | bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def labels(data: Dataset) -> list[tuple[str, str | None]]:
    return [(sample.path.name, sample.label) for sample in data if sample.path]


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        open_dataset(path)
    assert list((path.parent / "scratch").iterdir()) == []
    [problem] = caught.value.problems
    assert problem.startswith(f"{path}")
    return problem


@pytest.mark.parametrize(
    "files",
    [
        {"info.labels": json.dumps({"files": [LISTED]}), "testing/1.bmp": BMP},
        {"test/yes/1.bmp": BMP, "train/yes/2.bmp": BMP},
        {"export/yes/1.bmp": BMP, "__MACOSX/export/yes/._1.bmp": b""},
    ],
    ids=["Edge Impulse", "divided", "in a folder"],
)
def test_an_export_is_read_as_it_was_downloaded(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    data = open_dataset(make(tmp_path / "data.ZIP", files))
    assert labels(data) == [("1.bmp", "yes")]
    assert (data.path, data.samples[0].read().data) == (tmp_path / "data.ZIP", BMP)
    del data
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_archive_for_each_class(tmp_path: Path) -> None:
    """As Teachable Machine saves the samples of a class."""
    for label in ("cat", "Class 2"):
        make(tmp_path / "samples" / f"{label}-samples.zip", {"0.bmp": BMP, "1.bmp": BMP})
    data = open_dataset(tmp_path / "samples")
    assert data.classes == ("Class 2", "cat")
    assert labels(data)[::2] == [("0.bmp", "Class 2"), ("0.bmp", "cat")]


def test_mistakes_name_the_archive_and_the_line(tmp_path: Path) -> None:
    path = make(tmp_path / "data.zip", {"labels.csv": "file,label\n1.bmp,a\ngone.bmp,b\n", "1.bmp": BMP})
    assert refused(path).startswith(f"{path}/labels.csv:3: ")


@pytest.mark.parametrize("name", ["../1.bmp", "/1.bmp", "a/../../1.bmp", "a\\..\\1.bmp"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    refused(make(tmp_path / "data.zip", {"a/1.bmp": BMP, name: BMP}))
    assert not (tmp_path / "1.bmp").exists()


def test_what_would_become_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(make(tmp_path / "data.zip", {"a/1.bmp": bytes(3_000_000)}))  # a thousandth of its size as an archive
    monkeypatch.setattr(zipped, "BOUNDS", Bounds("data", 2, 10_000, 100, 200))
    refused(make(tmp_path / "data.zip", {f"a/{number}.bmp": b"" for number in range(3)}))
    refused(make(tmp_path / "data.zip", {"a/1.bmp": BMP * 2}))


def test_links_and_damage_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a/1.bmp")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path / "data.zip")
    content = make(tmp_path / "data.zip", {"a/1.bmp": BMP * 50, "b/1.bmp": BMP}).read_bytes()
    for damaged in (b"", content[:50], content[:-30], content.replace(struct.pack("<H", 8), b"\1\0")):
        (tmp_path / "data.zip").write_bytes(damaged)
        refused(tmp_path / "data.zip")
