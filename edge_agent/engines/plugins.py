"""Accelerators that installed packages bring, by entry points of the group `edge_agent.engines`.

An entry point `NAME.FORMAT = "module"` brings the accelerator NAME for model files of a FORMAT: `tflite`, `onnx`,
`hef`, `rknn` or `rpk`. The module has `load(file, target, threads)`, as those of this package have, and keeps the
promises of `edge_agent.testing.engine_contract`. It is imported when a configuration names the accelerator, and not
before.

A plug-in is code that the owner of the machine has installed; nothing in a bundle can bring one.
"""

import importlib.metadata
from types import ModuleType

from edge_agent.errors import ModelError

GROUP = "edge_agent.engines"
MAX_REASON = 200


def entry_point(name: str, file_format: str) -> importlib.metadata.EntryPoint:
    """Where the engine of an accelerator for a format is.

    Raises:
        ModelError: no installed package has it, or several have.
    """
    known = importlib.metadata.entry_points(group=GROUP)
    found = [one for one in known if one.name == f"{name}.{file_format}"]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(sorted(package(one) for one in found))
        raise ModelError(f"{name}: several packages bring it ({listed}): uninstall all but one")
    formats = sorted(one.name.partition(".")[2] for one in known if one.name.partition(".")[0] == name)
    if formats:
        raise ModelError(f"{name}: models of this format can't use it: it runs .{', .'.join(formats)} files")
    names = ", ".join(sorted({one.name.partition(".")[0] for one in known})) or "none"
    raise ModelError(f"{name}: no installed package brings it, found {names}: install it with pip in this environment")


def packages(name: str) -> list[str]:
    """The installed packages that bring an accelerator, for any format."""
    known = importlib.metadata.entry_points(group=GROUP)
    return sorted({package(one) for one in known if one.name.partition(".")[0] == name})


def package(found: importlib.metadata.EntryPoint) -> str:
    """Name and version of the package that an entry point is from."""
    return f"{found.dist.name} {found.dist.version}" if found.dist else found.module


def load(name: str, file_format: str) -> ModuleType:
    """The module of a plug-in.

    Raises:
        ModelError: there is none, or it can't be imported.
    """
    found = entry_point(name, file_format)
    try:
        module = found.load()
    except Exception as error:  # whatever its import raises, the plug-in can't be used
        text = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON]
        raise ModelError(f"{package(found)} can't be imported: {text}") from error
    if not isinstance(module, ModuleType) or not callable(getattr(module, "load", None)):
        raise ModelError(f"{package(found)}: its entry point {found.value} is no module with `load`")
    return module
