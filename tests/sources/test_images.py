import logging
import os
import shutil
from pathlib import Path

import pytest

from edge_agent.models.model import Model
from tests.sources.contract import FiniteContract, Setup, SpoilableContract
from tests.sources.stage import DIGITS, Stage

GOLDEN = sorted((DIGITS / "golden").iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of 30 images."""
    (tmp_path / "images").mkdir()
    for number in range(30):
        shutil.copy(GOLDEN[number % len(GOLDEN)], tmp_path / "images" / f"{number:03}.png")
    return tmp_path / "images"


def images(path: str, folder: Path, model: Model) -> Stage:
    return Stage({"type": "images", "path": path}, model, folder)


class TestImages(FiniteContract, SpoilableContract):
    @pytest.fixture
    def setup(self, folder: Path, digits: Model) -> Setup:
        return Setup(
            open=lambda: images("images", folder.parent, digits),
            origin={"path"},
            spoil=(folder / "015a.png").touch,
            total=30,
        )


def names(stage: Stage) -> list[str]:
    return [Path(sample.origin["path"]).name for sample in stage.results]


def test_files_come_in_the_order_of_their_names(folder: Path, digits: Model) -> None:
    with images("images", folder.parent, digits) as stage:
        stage.wait_until_ended()
    assert names(stage) == [f"{number:03}.png" for number in range(30)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("images/00[1-3].png", ["001.png", "002.png", "003.png"]),
        ("images/*.png", [f"{number:03}.png" for number in range(30)]),
        ("**/02?.png", [f"02{number}.png" for number in range(10)]),
        ("images/005.png", ["005.png"]),
    ],
)
def test_a_glob_pattern_chooses_files(pattern: str, expected: list[str], folder: Path, digits: Model) -> None:
    with images(pattern, folder.parent, digits) as stage:
        stage.wait_until_ended()
    assert names(stage) == expected


def test_of_a_folder_only_image_files_are_taken(folder: Path, digits: Model) -> None:
    (folder / "notes.txt").write_text("text")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "LOUD.PNG").write_bytes(GOLDEN[0].read_bytes())
    with images("images", folder.parent, digits) as stage:
        stage.wait_until_ended()
    assert len(stage.results) == 31
    assert stage.given_up == []


def test_a_file_that_vanishes_is_counted_as_invalid(folder: Path, digits: Model) -> None:
    with images("images", folder.parent, digits) as stage:
        stage.gate.clear()
        stage.wait_for(lambda stage: stage.counts()["produced"], "the first is through the model")
        (folder / "020.png").unlink()
        stage.gate.set()
        stage.wait_until_ended()
    assert len(stage.results) == 29
    [(sample, error)] = stage.given_up
    assert str(error) == f"{sample.origin['path']}: can't be read: No such file or directory"


@pytest.mark.parametrize("pattern", ["empty", "empty/*.jpg", "gone/*"])
def test_where_there_is_no_image_the_source_fails_with_one_sentence(
    pattern: str, tmp_path: Path, digits: Model
) -> None:
    (tmp_path / "empty").mkdir()
    with images(pattern, tmp_path, digits) as stage:
        stage.wait_until_ended()
    assert stage.troubles == [f"images {tmp_path / pattern}: there is no image file"]
    assert stage.counts()["captured"] == 0


def test_the_debug_log_tells_the_way_of_one_image(
    folder: Path, digits: Model, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "edge_agent")
    path = folder / "000.png"
    with images(str(path), folder, digits) as stage:
        stage.wait_until_ended()
    told = [message for message in caplog.messages if message.startswith((f"images {path}: ", "stage: result "))]
    opened, first, *rest = told
    assert (opened, first) == (f"images {path}: opening", f"images {path}: first sample")
    result, ended = sorted(
        rest, key=lambda message: "ended" in message
    )  # the source may end before the result is there
    assert result.startswith("stage: result ")
    assert ended == f"images {path}: ended after 1 samples"
