"""Labelled data in .zip archives, as training tools export them: unpacked for as long as they are used."""

import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Sequence
from pathlib import Path

from edge_agent.errors import ConfigError
from edge_agent.evaluation.labelled import MAX_SAMPLES
from edge_agent.system.zip_files import DAMAGES, Bounds, RefusedError, check_directory, checked, extract

ZIP = ".zip"
# Pictures hardly shrink, tables of readings do.
BOUNDS = Bounds("data", files=MAX_SAMPLES, directory_bytes=50_000_000, total_bytes=8 * 2**30, ratio=200)


class Unpacked:
    """The content of archives, in a temporary folder that is removed when this is no longer used.

    Args:
        archives: all in one folder.

    Attributes:
        folder: of the content: of one archive, or with a folder for each of several, named as they are.
        remove: removes it at once.

    Raises:
        OSError: there is no place for it.
    """

    def __init__(self, archives: Sequence[Path]) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="edge-agent-data-"))
        self._beside = archives[0].parent
        self.remove = weakref.finalize(self, shutil.rmtree, self._place, ignore_errors=True)
        # A single one keeps its name, so that paths in results say where a sample is from.
        self.folder = self._place / archives[0].name if len(archives) == 1 else self._place

    def folder_of(self, archive: Path) -> Path:
        """Where the content of one of them goes."""
        return self.folder if self.folder != self._place else self._place / archive.stem

    def named(self, problem: str) -> str:
        """A message that names the archive, in place of the temporary folder."""
        return problem.replace(f"{self._place}/", f"{self._beside}/")


def unpack(archives: Sequence[Path]) -> Unpacked:
    """Unpacks archives of labelled data.

    Raises:
        ConfigError: one of them is damaged or out of bounds, or there is no place for its content.
    """
    path, content = archives[0], None
    try:
        content = Unpacked(archives)
        for path in archives:
            with path.open("rb") as file:
                check_directory(file, BOUNDS)
                with zipfile.ZipFile(file) as archive:
                    extract(archive, checked(archive, BOUNDS), content.folder_of(path), durable=False)
    except (RefusedError, *DAMAGES, OSError) as error:
        if content is not None:
            content.remove()
        raise ConfigError([f"{path}: {_reason(error)}"]) from None
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, OSError):
        why = f"{error.strerror}: make room, or set TMPDIR to a folder that has some"
        return f"can't be unpacked to {tempfile.gettempdir()}: {why}"
    return f"the archive is damaged ({error}): copy or download it again"
