"""Bundles are data: what a bundle, an archive or a runtime's own configuration may name, and hold.

A bundle may come from anybody. So a name in it means a regular file inside of it, never one elsewhere, and no file in
it is native code, which a runtime could be made to load. Every way from a path to a model passes here, before a
runtime sees any of it.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from edge_agent.errors import ModelError
from edge_agent.system.regular_file import open_regular

MAX_FILES = 1000
MAX_DEPTH = 8
MAX_NAME = 1000
_HEAD = 1024
# How native code begins, whatever the file is called: https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html,
# https://github.com/apple-oss-distributions/xnu/blob/main/EXTERNAL_HEADERS/mach-o/loader.h (and fat.h).
_ELF = b"\x7fELF"
_MACH_O = (
    *(b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"),
    *(b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"),
)
# https://learn.microsoft.com/windows/win32/debug/pe-format: the header's place is stated at 0x3c.
_DOS, _PE, _PE_AT = b"MZ", b"PE\0\0", 0x3C


def native_code(head: bytes) -> str:
    """What kind of native code a file is that begins so; "" if it is none.

    Args:
        head: its first 1024 bytes, or all if it has fewer.
    """
    if head.startswith(_ELF):
        return "ELF"
    if head.startswith(_MACH_O):
        return "Mach-O"
    at = int.from_bytes(head[_PE_AT : _PE_AT + 4], "little")
    # A program for Windows says within its first page where its header is; a text that begins with MZ does not.
    if head.startswith(_DOS) and (head[at : at + 4] == _PE or b"This program " in head):
        return "PE"
    return ""


def inside(folder: Path, name: str | Path) -> Path:
    """The file in a folder that a name there means.

    Args:
        folder: of the bundle, or of the model file.
        name: as the bundle, the model file or the runtime's configuration has it.

    Raises:
        ModelError: the name leads out of the folder, or is no regular file there; begins with the name.
    """
    parts = PurePosixPath(name).parts
    if len(str(name)) > MAX_NAME:
        raise ModelError(f"{str(name)[:40]}…, which is too long a name")
    if PurePosixPath(name).is_absolute() or ".." in parts:
        raise ModelError(f"{name}, which lies outside of the bundle")
    path = folder
    try:
        for part in parts or (".",):
            path /= part
            if stat.S_ISLNK(path.lstat().st_mode):
                raise ModelError(f"{name}, which is a link: put the file itself there")
        if not stat.S_ISREG(path.lstat().st_mode):
            raise ModelError(f"{name}, which is not a file")
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"{name}, which is not there") from None
    except (OSError, ValueError) as error:  # ValueError: U+0000 in the name
        raise ModelError(f"{str(name)!r}, which can't be read: {getattr(error, 'strerror', error)}") from None
    return path


def check_file(path: Path) -> None:
    """Checks that a file is not native code.

    Raises:
        ModelError: it is, or can't be read.
    """
    try:
        with open_regular(path) as file:
            kind = native_code(file.read(_HEAD))
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror}") from None
    if kind:
        raise ModelError(f"{path}: native code ({kind}): a bundle holds data only: remove it")


def check_folder(folder: Path) -> None:
    """Checks that a bundle holds nothing but regular files, and no native code among them.

    Args:
        folder: of the bundle; may itself be reached through a link.

    Raises:
        ModelError: it holds something else, or too much.
    """
    for count, entry in enumerate(_entries(folder, MAX_DEPTH), 1):
        if count > MAX_FILES:
            raise ModelError(f"{folder}: expected a bundle of at most {MAX_FILES} files, found more")
        if entry.is_symlink():
            raise ModelError(f"{entry.path}: a link: a bundle holds the files themselves: put the file itself there")
        if not entry.is_file(follow_symlinks=False):
            raise ModelError(f"{entry.path}: a pipe or a device: a bundle holds files only: remove it")
        check_file(Path(entry.path))


def _entries(folder: Path, depth: int) -> Iterator["os.DirEntry[str]"]:
    """All in a folder and in those below it, but for the folders themselves."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ModelError(f"{folder}: can't be read: {error.strerror}") from None
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            yield entry
        elif depth:
            yield from _entries(Path(entry.path), depth - 1)
        else:
            raise ModelError(f"{entry.path}: expected a bundle with folders at most {MAX_DEPTH} deep")
