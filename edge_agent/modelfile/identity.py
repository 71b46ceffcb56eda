"""The bytes of a model: an engine loads those that have passed the self-test, and no others."""

import hashlib
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_agent.errors import ModelError
from edge_agent.modelfile import gate
from edge_agent.system.regular_file import open_regular
from edge_agent.system.sealed import SealedFile, private_copy

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a model file names; it belongs to the model.

    Attributes:
        name: as the model names it: relative to the folder of the model file.
        sha256: of the whole file, in hexadecimal.
        size: in bytes.
        compiled: whether it is a part that is compiled for an accelerator; else it is weights.
    """

    name: str
    sha256: str
    size: int
    compiled: bool = False


_sealed: "weakref.WeakValueDictionary[str, SealedFile]" = weakref.WeakValueDictionary()
_sealing = threading.Lock()


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A model file, with the hashes of its content.

    Attributes:
        path: the file.
        format: `tflite` or `onnx`.
        sha256: of the file, in hexadecimal.
        size: of the file, in bytes.
        named_files: other files that the model consists of.
    """

    path: Path
    format: str
    sha256: str
    size: int
    named_files: tuple[NamedFile, ...] = ()

    def content(self) -> bytes:
        """The content of the file.

        Raises:
            ModelError: the file can't be read, or is not the one that this identifies.
        """
        return b"".join(_blocks(self.path, self.size, self.sha256))

    def check(self) -> None:
        """Reads the file.

        Raises:
            ModelError: see `content`.
        """
        for _ in _blocks(self.path, self.size, self.sha256):
            pass

    def sealed(self) -> SealedFile:
        """A copy of the file in memory, shared by all engines of this process that run the same file.

        Mapping the file itself would end the process when it is truncated, and change the answers when it is
        overwritten.

        Raises:
            ModelError: see `content`.
        """
        with _sealing:
            copy = _sealed.get(self.sha256)
            if copy is None:
                try:
                    copy = _sealed[self.sha256] = SealedFile(_blocks(self.path, self.size, self.sha256))
                except OSError as error:
                    raise ModelError(f"{self.path}: can't be copied into memory: {error.strerror}") from None
            return copy

    def named_contents(self) -> dict[str, Iterator[bytes]]:
        """The contents of the files that it names, block by block, by their names; errors are those of `content`."""
        return {
            file.name: _blocks(gate.inside(self.path.parent, file.name), file.size, file.sha256)
            for file in self.named_files
        }

    @contextmanager
    def copied(self) -> Iterator[Path]:
        """Yields a copy in a folder of its own, with the files that it names; see `private_copy`.

        Raises:
            ModelError: see `content`.
        """
        own = {self.path.name: _blocks(self.path, self.size, self.sha256)}
        try:
            with private_copy(self.named_contents() | own) as folder:
                yield folder / self.path.name
        except OSError as error:
            raise ModelError(f"{self.path}: can't be copied into memory: {error.strerror}") from None

    def as_json(self) -> Any:
        """For another process of this machine."""
        return asdict(self) | {"path": str(self.path)}

    @classmethod
    def from_json(cls, value: Any) -> "FileIdentity":
        """What `as_json` has returned."""
        named = tuple(NamedFile(**file) for file in value["named_files"])
        return cls(**value | {"path": Path(value["path"]), "named_files": named})


def _blocks(path: Path, size: int, sha256: str) -> Iterator[bytes]:
    """The content of a file, block by block.

    Raises:
        ModelError: it can't be read, or has another hash.
    """
    digest, left = hashlib.sha256(), size + 1
    try:
        with open_regular(path) as file:
            while left > 0 and (block := file.read(min(_BLOCK, left))):
                digest.update(block)
                left -= len(block)
                yield block
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror}") from None
    if digest.hexdigest() != sha256:
        raise ModelError(f"{path}: has changed since it was checked: reload the configuration, or start again")
