"""Packed weights on disk: whatever is wrong with them, the model answers as it does without."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.engines import load_engine, weight_cache
from edge_agent.models.shipped import shipped
from tests.disks import small_disk, turn_read_only

GIVEN = [np.random.default_rng(0).integers(-128, 128, (1, 32, 24, 1)).astype(np.int8)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "edge-agent/weights"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(shipped("digits/digits.tflite"), tmp_path / "model.tflite"))


def answer(model: Path) -> list[int]:
    engine = load_engine(model, "tflite", "xnnpack", 1)
    [found] = engine.run(GIVEN)
    engine.close()
    return [int(value) for value in found[0]]


@pytest.fixture
def packed(folder: Path, model: Path) -> Path:
    """The file that the first load has made."""
    answer(model)
    [file] = folder.iterdir()
    return file


def test_weights_are_packed_once(packed: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def packs(*_: object) -> None:
        raise AssertionError("it packs them again")

    before, content = answer(model), packed.read_bytes()
    monkeypatch.setattr(weight_cache, "_pack", packs)
    assert answer(model) == before
    assert packed.read_bytes() == content


def _turned(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 5000]) + content[middle + 5000 :]


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[:-1000],
        lambda content: content[:100],
        lambda _: b"",
        lambda content: bytes(len(content)),
        lambda content: np.random.default_rng(0).bytes(len(content)),
        _turned,
        lambda content: content + b"more",
    ],
    ids=["truncated", "head only", "empty", "zeros", "garbage", "other weights", "longer"],
)
def test_a_damaged_file_is_made_anew(harm: Callable[[bytes], bytes], packed: Path, model: Path) -> None:
    before, content = answer(model), packed.read_bytes()
    packed.write_bytes(harm(content))
    assert answer(model) == before
    assert packed.read_bytes() == content


def test_the_file_of_another_model_under_this_name_is_made_anew(
    packed: Path, model: Path, folder: Path, tmp_path: Path
) -> None:
    before, content = answer(model), packed.read_bytes()
    other = bytearray(model.read_bytes())
    other[-len(other) // 3] ^= 1  # of the weights
    (tmp_path / "other.tflite").write_bytes(other)
    answer(tmp_path / "other.tflite")
    [theirs] = (path for path in folder.iterdir() if path != packed)
    packed.unlink()
    theirs.rename(folder / f"{packed.name.split('-')[0]}-{theirs.name.split('-')[1]}")
    assert answer(model) == before
    assert packed.read_bytes() == content


def test_the_runtimes_version_and_the_processor_stand_in_the_name(
    packed: Path, model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight_cache.with_weights(model, "LiteRT 99 None", lambda path: Path(path).write_bytes(b"theirs"))
    monkeypatch.setattr(weight_cache, "processor", lambda: ["another one"])
    answer(model)
    names = {path.name.split("-")[0] for path in folder.iterdir()}
    assert packed.exists()
    assert len(names) == 3


def test_where_there_is_no_place_the_model_runs_without(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answer(model)
    shutil.rmtree(folder)
    folder.write_text("no folder")
    assert answer(model) == before
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    assert answer(model) == before


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    with small_disk(folder, 100_000) as mounted:
        yield mounted


def test_on_a_disk_that_is_full_or_read_only_the_model_runs_without(
    disk: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer(model)
    assert list(disk.iterdir()) == []
    monkeypatch.setattr(weight_cache, "ROOM", 0)  # so that it fills up while it is written to
    assert answer(model) == expected
    assert list(disk.iterdir()) == []
    turn_read_only(disk)
    assert answer(model) == expected


def test_what_lies_on_a_read_only_disk_is_used(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(folder, 100_000_000) as disk:
        expected = answer(model)
        turn_read_only(disk)
        monkeypatch.setattr(weight_cache, "_pack", lambda *_: pytest.fail("it packs them again"))
        assert answer(model) == expected


def test_the_oldest_go_when_there_are_too_many(
    packed: Path, model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = packed.stat().st_size
    monkeypatch.setattr(weight_cache, "MAX_BYTES", 2 * size + 100)
    left = folder / "left-by-a-crash.part"
    left.write_bytes(bytes(50))
    for number in (1, 2):
        other = tmp_path / f"other{number}.tflite"
        other.write_bytes(model.read_bytes() + bytes(number))
        answer(other)
    kept = list(folder.iterdir())
    assert packed not in kept
    assert len([path for path in kept if path.stat().st_size == size]) == 2
    monkeypatch.setattr(weight_cache, "MAX_BYTES", size - 1)
    answer(model)
    assert packed not in folder.iterdir()
