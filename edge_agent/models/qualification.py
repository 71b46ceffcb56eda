"""A model serves only if it has passed its self-test on this machine; the result is cached."""

import hashlib
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent import __version__
from edge_agent.engines.accelerators import CPU
from edge_agent.engines.tuning import Tuning
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import Format
from edge_agent.models.bundle import RUNTIMES
from edge_agent.models.resolve import ModelSource
from edge_agent.system import cache

log = logging.getLogger(__name__)

# Libraries and drivers that come with the system, below its root.
_OF_THE_SYSTEM: dict[Format, tuple[str, ...]] = {
    "hef": ("usr/lib/libhailort.so.*", "usr/lib/*/libhailort.so.*", "usr/local/lib/libhailort.so.*"),
    "rknn": ("usr/lib/librknnrt.so", "sys/module/rknpu/version"),
}


@dataclass(frozen=True, slots=True)
class Qualification:
    """What a passed self-test has found out besides.

    Attributes:
        speed_up: how many times as fast as on the CPU it is; None on the CPU, and where it can't run there.
        tuning: how it is best run on the CPU; None where that was not measured.
    """

    speed_up: float | None = None
    tuning: Tuning | None = None

    def as_json(self) -> dict[str, Any]:
        """For the cache."""
        facts = {"speed_up": self.speed_up, "tuning": self.tuning and self.tuning.as_json()}
        return {key: value for key, value in facts.items() if value is not None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Qualification":
        """What `as_json` has returned."""
        tuning = value.get("tuning")
        return cls(value.get("speed_up"), tuning and Tuning.from_json(tuning))


def qualify(
    source: ModelSource, batch: int, waiting: Callable[[], None] = lambda: None, *, again: bool = False
) -> Qualification:
    """Checks that a model can be loaded on the first of its accelerators and gives the right answers there.

    Args:
        source: the model, resolved.
        batch: the largest that it will be run with.
        waiting: see `run_self_test`.
        again: test it even if it has passed before.

    Raises:
        ModelError: it can't be loaded, or gives wrong answers.
    """
    if source.file.format == "rpk":
        return Qualification()  # it runs in a camera, which proves it by its results
    key = _key(source, batch)
    if not again and (known := _known(key)) is not None:
        log.debug("%s: has passed its self-test before", source.file.path)
        return known
    from edge_agent.models.self_test import run_self_test  # not needed once a model has passed

    outcome = run_self_test(source, batch, waiting=waiting)
    wrong = [check for check in outcome.checks if not check.right]
    if wrong:
        raise ModelError(
            f"{source.file.path}: {len(wrong)} of {len(outcome.checks)} golden samples come out wrong with "
            f"{outcome.runtime} on {outcome.accelerator}; {wrong[0].input}: expected {wrong[0].expected}, found "
            f"{wrong[0].found}: `edge-agent models verify` shows all"
        )
    if outcome.disagreement:
        raise ModelError(
            f"{source.file.path}: gives other answers than on the CPU: {outcome.disagreement}: install another version "
            "of the accelerator's runtime or driver, or use a model that is made for it"
        )
    tuning = outcome.tuning
    if (
        tuning is not None
        and source.options.tune == "auto"
        and source.file_for(CPU) == source.file
        and source.file.format == "tflite"
    ):
        from edge_agent.models.int8_file import try_int8

        tuning = try_int8(source, batch, waiting, tuning)
    found = Qualification(outcome.speed_up, tuning)
    cache.note_passed(key, found.as_json())
    return found


def _known(key: str) -> Qualification | None:
    """What is in the cache; None if it is not there, or names a file that is not there any more."""
    noted = cache.noted(key)
    try:
        known = None if noted is None else Qualification.from_json(noted)
        if known is not None and known.tuning is not None and known.tuning.int8 is not None:
            known.tuning.int8.check()
    except (ModelError, KeyError, TypeError):
        return None
    return known


def _key(source: ModelSource, batch: int) -> str:
    """Identifies everything on which the outcome of a self-test depends."""
    pictures = [_sha256(source.folder / line.input) for line in source.golden]
    facts = (
        __version__,
        source,
        batch,
        pictures,
        _installed(source.file_for(source.options.accelerators[0]).format),
        cache.processor(),
    )
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _installed(file_format: Format, root: Path = Path("/")) -> list[tuple[str, int]]:
    """The installed runtimes for a format: path and modification time of each; they are not imported for this."""
    specs = [importlib.util.find_spec(module) for module in RUNTIMES[file_format]]
    files = [Path(spec.origin) for spec in specs if spec and spec.origin]
    files += sorted(file for pattern in _OF_THE_SYSTEM.get(file_format, ()) for file in root.glob(pattern))
    return [(str(file), file.stat().st_mtime_ns) for file in files if file.exists()]
