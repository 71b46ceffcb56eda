"""The mistakes that somebody can fix.

Every message is one line that says where, what was expected, what was found and what to do. The command line prints it
as it is; anything that is not an `EdgeAgentError` is a defect of ours and keeps its traceback.
"""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


class EdgeAgentError(Exception):
    """Base of all errors whose message is meant for the user."""


class ConfigError(EdgeAgentError):
    """The configuration or the command line is wrong.

    Attributes:
        problems: one line each, as `FILE:LINE: key: what is wrong`.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class ModelError(EdgeAgentError):
    """A model file, its labels or its settings cannot be used."""


class InputError(EdgeAgentError):
    """One input (an image, a window of readings) cannot be used; the next one may be fine."""


class SourceError(EdgeAgentError):
    """A source could not be opened, or has stopped delivering; it is tried again where it is a live one."""


class MissingExtraError(EdgeAgentError):
    """A package is needed that is an optional part of edge-agent; the message says how to install it here.

    Args:
        what: what it is needed for, as a phrase ("running .onnx models").
        extra: the name of the extra that brings it.
        error: the failed import. A package that is installed may still not load: for lack of memory, or of a library.
    """

    def __init__(self, what: str, extra: str, error: ImportError | None = None) -> None:
        if error is None or isinstance(error, ModuleNotFoundError):
            super().__init__(f"{what} needs a package that is not installed: {install_extra(extra)}")
        else:
            super().__init__(f"{what} needs a package that can't be loaded: {error}")


class UpdateError(EdgeAgentError):
    """A release can't be had or can't be trusted; what runs goes on."""


class ReleaseError(EdgeAgentError):
    """A repository of releases can't be made or changed as was asked."""


# As pip calls what is installed; `edge-agent` is another project's name.
DISTRIBUTION = "edge-agent-runtime"
# The runtimes that are published for 64-bit systems only.
ONLY_64_BIT = ("onnx", "openvino", "quantize", "language")
_IS_32_BIT = sys.maxsize < 1 << 32
# In the environments that deploy/install.sh and the Debian package make; not empty. They never change one later.
_NOT_CHANGED_BY_PIP = ".installed"


def install_extra(extra: str) -> str:
    """The command that installs an extra in this environment, or why there is none.

    An extra's packages are named, never edge-agent itself, which may be installed from a wheel, a checkout or a package
    of the system, and whose name is another project's on the public package index.
    """
    if _IS_32_BIT and extra in ONLY_64_BIT:
        return "it exists for 64-bit systems only"
    mark = Path(sys.prefix, _NOT_CHANGED_BY_PIP)
    made_by = mark.read_bytes().strip() if mark.is_file() else b""
    if made_by == b"package":
        return f"the Debian package is without the extra {extra}: remove it and install with `sh install.sh --extras`"
    if made_by:
        return f"run `sh install.sh --extras {','.join([*_installed_extras(), extra])} WHEEL` again"
    needed = _requirements(extra)
    return install_packages(*needed) if needed else f"install edge-agent again with its extra {extra}"


def install_packages(*requirements: str) -> str:
    """The command that installs packages in this environment."""
    import importlib.util

    if importlib.util.find_spec("pip"):
        return shlex.join([sys.executable, "-m", "pip", "install", *requirements])
    return shlex.join(["python3", "-m", "pip", "--python", sys.executable, "install", *requirements])


def install_opencv() -> str:
    """The command that installs OpenCV; 32-bit ARM has no wheels of it."""
    return "apt-get install python3-opencv" if _IS_32_BIT else install_packages("opencv-python-headless")


def _installed_extras() -> Iterator[str]:
    from importlib import metadata

    for extra in _metadata("Provides-Extra"):
        names = [re.split(r"[^\w.-]", requirement)[0] for requirement in _requirements(extra)]
        if extra != "dev" and names and all(any(metadata.distributions(name=name)) for name in names):
            yield extra


def _requirements(extra: str) -> list[str]:
    """What an extra installs, such as `onnxruntime>=1.20`."""
    found = []
    for line in _metadata("Requires-Dist"):
        requirement, _, marker = line.partition(";")
        of_extra = f"extra == '{extra}'" in marker.replace('"', "'")
        if of_extra and ("platform_machine" not in marker or ("platform_machine ==" in marker) == _IS_32_BIT):
            found.append(requirement.strip())
    return found


def _metadata(key: str) -> list[str]:
    from importlib import metadata  # slow to import

    try:
        return metadata.metadata(DISTRIBUTION).get_all(key) or []
    except metadata.PackageNotFoundError:
        return []
