"""A model serves only if it has passed its self-test on this machine; the result is cached."""

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from edge_agent import __version__, settings
from edge_agent.errors import ModelError
from edge_agent.models.bundle import RUNTIMES, FileFormat
from edge_agent.models.resolve import ModelSource
from edge_agent.models.self_test import try_model
from edge_agent.system import cache


def qualify(
    model: settings.Model,
    folder: Path,
    source: ModelSource,
    batch: int,
    waiting: Callable[[], None] = lambda: None,
    *,
    again: bool = False,
) -> float | None:
    """Sees to it that a model can be loaded here and answers rightly on the first of its accelerators.

    Args:
        model: its settings.
        folder: what relative paths are relative to.
        source: what is found there.
        batch: the largest that it will be run with.
        waiting: see `try_model`.
        again: whether it has passed before or not.

    Returns:
        How many times as fast as on the CPU it is; None on the CPU, and where it can't run there.

    Raises:
        ModelError: it can't be, or does not.
    """
    key = _key(model, source, batch)
    if not again and cache.has_passed(key):
        return cache.noted_speed_up(key)
    proof = try_model(model, folder, batch, waiting=waiting)
    wrong = [check for check in proof.checks if not check.right]
    if wrong:
        raise ModelError(
            f"{source.file.path}: {len(wrong)} of {len(proof.checks)} golden samples come out wrong with "
            f"{proof.runtime} on {proof.accelerator}; {wrong[0].input}: expected {wrong[0].expected}, found "
            f"{wrong[0].found}: `edge-agent models verify` shows all"
        )
    if proof.disagreement:
        raise ModelError(
            f"{source.file.path}: gives other answers than on the CPU: {proof.disagreement}: install another version "
            "of the accelerator's runtime or driver, or use a model that is made for it"
        )
    cache.note_passed(key, proof.speed_up)
    return proof.speed_up


def _key(model: settings.Model, source: ModelSource, batch: int) -> str:
    """Stands for everything on which the outcome of a self-test depends."""
    pictures = [_sha256(source.folder / line.input) for line in source.golden]
    facts = (__version__, model, source, batch, pictures, _installed(source.file.format), cache.processor())
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _installed(file_format: FileFormat) -> list[tuple[str, int]]:
    """The runtimes for a format as they are installed: where, and since when; they are not imported for that."""
    specs = [importlib.util.find_spec(module) for module in RUNTIMES[file_format]]
    return [(spec.origin, Path(spec.origin).stat().st_mtime_ns) for spec in specs if spec and spec.origin]
