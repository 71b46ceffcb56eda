"""TFLite delegates that do what a test wants, compiled from delegate.c."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("delegate.c")
# Of the schema's operators, that which the bundled digit reader ends with.
SOFTMAX = 25
# All custom operators.
CUSTOM = 32


@dataclass(frozen=True)
class TestDelegate:
    """A delegate for the digit reader, of which it takes one operation of ten.

    Attributes:
        library: its shared library.
        harm_file: as long as this file is there, harm is done.
    """

    __test__ = False

    library: Path
    harm_file: Path

    def entry(self, harm: str = "", *, at_will: bool = False, take: int | None = SOFTMAX) -> dict[str, Any]:
        """What a list of `accelerators` holds.

        Args:
            harm: "wrong", "fail", "hang", "crash", "batch" or "unprepared".
            at_will: harm only between `do_harm` and `do_no_harm`.
            take: number of the operator that it takes.
        """
        options = {"take": "" if take is None else str(take)}
        options |= {"harm": harm} if harm else {}
        options |= {"when": str(self.harm_file)} if at_will else {}
        return {"delegate": str(self.library), "options": {key: value for key, value in options.items() if value}}

    def do_harm(self) -> None:
        self.harm_file.touch()

    def do_no_harm(self) -> None:
        self.harm_file.unlink()


def compiled(folder: Path) -> Path:
    """Compiles the delegate; the test is skipped where there is no gcc."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc to compile a delegate with")
    library = folder / "libtest_delegate.so"
    subprocess.run([gcc, "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return library
