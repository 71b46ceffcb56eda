import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.models import archive
from edge_agent.models.archive import unpacked
from edge_agent.models.resolve import resolve_model
from edge_agent.models.shipped import shipped

MANIFEST = "model.yaml"


@pytest.fixture(autouse=True)
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where bundles are unpacked to."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edge-agent" / "bundles"


def zipped(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in entries:
            out.writestr(name, content)
    return path


def zipped_folder(path: Path, folder: Path, under: str = "") -> Path:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return zipped(path, *((f"{under}{file.relative_to(folder)}", file.read_bytes()) for file in files))


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("under", ["", "digits-1/"])
def test_a_zip_is_a_bundle_with_its_files_at_the_top_or_in_its_only_folder(under: str, tmp_path: Path) -> None:
    path = zipped_folder(tmp_path / "digits.zip", shipped("digits"), under)
    folder = unpacked(path)
    assert files_in(folder) == files_in(shipped("digits"))
    source = resolve_model(settings.Model(path=path), tmp_path)
    assert source.file.path.parent == folder
    assert len(source.golden) == 14


def test_it_is_unpacked_once_and_another_content_anew(tmp_path: Path, bundles: Path) -> None:
    path = zipped(tmp_path / "a.zip", (MANIFEST, b"one"))
    first = unpacked(path)
    (first / "mark").touch()
    assert unpacked(path) == first
    assert (first / "mark").exists()
    second = unpacked(zipped(path, (MANIFEST, b"two")))
    assert (second / MANIFEST).read_bytes() == b"two"
    assert sorted(one.name for one in bundles.iterdir()) == sorted([".lock", first.name, second.name])


def test_a_folder_a_model_file_and_a_zip_that_is_no_bundle_come_back_as_they_are(tmp_path: Path) -> None:
    model = shipped("digits/digits.tflite")
    torch = zipped(tmp_path / "model.pt", ("archive/data.pkl", b""))
    for path in (tmp_path, model, torch, tmp_path / "gone"):
        assert unpacked(path) == path
    with pytest.raises(ModelError, match="a PyTorch archive"):
        resolve_model(settings.Model(path=torch), tmp_path)


def test_what_is_left_of_a_broken_attempt_does_no_harm(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", (MANIFEST, b"one"), ("labels.txt", b"cat"))
    folder = unpacked(path)
    folder.rename(folder.with_name(f"{folder.name}.part"))
    (folder.with_name(f"{folder.name}.part") / "labels.txt").write_bytes(b"c")
    assert (unpacked(path) / "labels.txt").read_bytes() == b"cat"


def test_only_the_last_ones_are_kept(tmp_path: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_UNPACKED", 2)
    folders = []
    for number in range(4):
        folder = unpacked(zipped(tmp_path / "a.zip", (MANIFEST, str(number).encode())))
        os.utime(folder, (number, number))
        folders.append(folder)
    assert [folder.exists() for folder in folders] == [False, False, True, True]


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([("../evil", b"")], "'../evil' in it is no name of a file in a folder"),
        ([("/etc/evil", b"")], "no name of a file"),
        ([("a/../../evil", b"")], "no name of a file"),
        ([("a//b", b"")], "no name of a file"),
        ([("a\\b", b"")], "no name of a file"),
        ([("C:evil", b"")], "no name of a file"),
        ([("a\nb", b"")], "no name of a file"),
        ([("a/" * 9 + "b", b"")], "no name of a file"),
        ([("a" * 256, b"")], "no name of a file"),
        ([(entry("link", stat.S_IFLNK | 0o777), b"/etc/passwd")], "link in it is a link or a device"),
        ([(entry("device", stat.S_IFCHR | 0o666), b"")], "device in it is a link or a device"),
        ([("zeros", bytes(20_000_000))], r"its .* would become 20\.0 MB: at most 200 times as much"),
        ([(str(number), b"") for number in range(1000)], "expected a bundle of at most 1000 files, found 1001"),
        ([("a", b""), ("a/b", b"")], "can't be unpacked"),
    ],
)
def test_an_archive_that_would_do_harm_is_refused(
    entries: Iterable[tuple[str, bytes]], sentence: str, tmp_path: Path, bundles: Path
) -> None:
    path = zipped(tmp_path / "a.zip", (MANIFEST, b"name: evil"), *entries)
    with pytest.raises(ModelError, match=sentence) as caught:
        unpacked(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert not [one for one in bundles.glob("*") if one.is_dir()]
    assert not (tmp_path / "evil").exists()


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = zipped(tmp_path / "a.zip", (MANIFEST, b"one"), (MANIFEST, b"two"))
    with pytest.raises(ModelError, match="two files in it have the same name"):
        unpacked(path)


def test_two_bundles_in_one_archive_are_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", (f"a/{MANIFEST}", b""), (f"b/{MANIFEST}", b""))
    with pytest.raises(ModelError, match="expected one bundle, found 2"):
        unpacked(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(compression: int, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", (MANIFEST, b"one"), compression=compression)
    with pytest.raises(ModelError, match="use plain deflate"):
        unpacked(path)


def test_a_directory_too_large_for_memory_is_not_read(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "a.zip", (MANIFEST, b"one")).read_bytes())
    end = content.rfind(b"PK\5\6")
    struct.pack_into("<I", content, end + 12, 2**31)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ModelError, match="expected a bundle of at most"):
        unpacked(tmp_path / "a.zip")


def test_a_content_that_is_more_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", (MANIFEST, b"x" * 1000))
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.rfind(b"PK\1\2") + 24, 10)
    path.write_bytes(content)
    with pytest.raises(ModelError, match="the archive is damaged"):
        unpacked(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_is_refused_and_leaves_nothing(share: float, tmp_path: Path, bundles: Path) -> None:
    content = zipped_folder(tmp_path / "a.zip", shipped("digits")).read_bytes()
    (tmp_path / "a.zip").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match="copy or download it again"):
        unpacked(tmp_path / "a.zip")
    assert not bundles.exists()


def test_damaged_content_is_refused_and_leaves_nothing(tmp_path: Path, bundles: Path) -> None:
    content = bytearray(zipped_folder(tmp_path / "a.zip", shipped("digits")).read_bytes())
    content[100_000] ^= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ModelError, match="the archive is damaged"):
        unpacked(tmp_path / "a.zip")
    assert [one.name for one in bundles.iterdir()] == [".lock"]


def test_a_disk_that_takes_nothing_ends_in_one_sentence(tmp_path: Path, bundles: Path) -> None:
    path = zipped(tmp_path / "a.zip", (MANIFEST, b"one"))
    bundles.parent.parent.write_text("a file in the way of the folder")
    with pytest.raises(ModelError, match=r"can't be unpacked to .*: Not a directory"):
        unpacked(path)


def test_a_model_with_an_archive_at_its_end_is_a_model(tmp_path: Path) -> None:
    path = Path(shutil.copy(shipped("digits/digits.tflite"), tmp_path))
    with zipfile.ZipFile(path, "a") as out:
        out.writestr(MANIFEST, "name: x")
    assert unpacked(path) == path
