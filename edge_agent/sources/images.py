"""Image files of a folder or a glob pattern."""

import glob
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from edge_agent import settings
from edge_agent.errors import SourceError
from edge_agent.preprocess.files import read_file
from edge_agent.samples import Sample
from edge_agent.sources import Context
from edge_agent.sources.reader import Reader
from edge_agent.system.home import expand_user

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class Images:
    """Files in the order of their names; in a folder, only those with the suffix of an image."""

    live = False
    stall_timeout = 0.0

    def __init__(self, pattern: str) -> None:
        self.name = f"images {pattern}"
        self._pattern = pattern

    def samples(self, stopping: threading.Event) -> Iterator[Sample]:  # noqa: ARG002 - nothing here waits
        """One sample per file, not decoded."""
        paths = files(self._pattern, ENDINGS)
        if not paths:
            raise SourceError(f"{self.name}: there is no image file")
        for path in paths:
            yield read_file(path)


def files(pattern: str, endings: Collection[str]) -> list[Path]:
    """The files that match a glob pattern, or those of a folder with one of the suffixes, in order."""
    folder = Path(pattern)
    if folder.is_dir():
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in endings and path.is_file())
    found = glob.iglob(pattern, recursive=True)  # noqa: PTH207 - Path's own takes no absolute pattern
    return sorted(path for path in map(Path, found) if path.is_file())


def create(source: settings.ImagesSource, context: Context) -> Reader:
    """The source for the settings."""
    return Reader(Images(str(context.folder / expand_user(source.path))))
