"""The section `evaluated` of a bundle: how right its model was found to be, on which data and on what."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent import __version__
from edge_agent.errors import ConfigError, ModelError
from edge_agent.evaluation.labelled import Dataset, LabelledSample
from edge_agent.evaluation.run import Run
from edge_agent.models.bundle import MANIFEST, MAX_EVALUATED, MAX_MANIFEST_SIZE, Evaluated, read_manifest
from edge_agent.samples import Series, timestamp
from edge_agent.system import atomic_file
from edge_agent.system.hardware import machine_name
from edge_agent.system.text import read_text

SECTION = "evaluated"


def check_folder(folder: Path) -> None:
    """Raises where a bundle's `evaluated` can't be written, so that this is known before the evaluation.

    Raises:
        ModelError: it is no folder, or no valid bundle.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: figures are recorded in the folder of a bundle: name that, or unpack the archive")
    read_manifest(folder)


def data_sha256(dataset: Dataset) -> str:
    """Hash of all samples of a data set and of what is right for each; where the files lie makes no difference.

    Raises:
        ConfigError: a file can't be read.
    """
    whole = hashlib.sha256()
    for one in sorted(map(_sample_hash, dataset)):
        whole.update(one)
    return whole.hexdigest()


def _sample_hash(sample: LabelledSample) -> bytes:
    found = hashlib.sha256()
    for path in filter(None, (sample.path, sample.mask)):
        try:
            with path.open("rb") as content:
                found.update(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            raise ConfigError([f"{path}: can't be read: {error.strerror}"]) from None
    if isinstance(sample.series, Series):
        found.update(np.ascontiguousarray(sample.series.values).tobytes())
    objects = None if sample.objects is None else [astuple(one) for one in sample.objects]
    expected = [sample.label, objects, sample.relative, sample.expected]
    found.update(json.dumps(expected, sort_keys=True).encode())
    found.update(sample.request or b"")
    if sample.stored is not None:
        found.update(sample.stored.read().data)
    return found.digest()


def record(folder: Path, run: Run, dataset: Dataset, figures: Mapping[str, Any]) -> Evaluated:
    """Writes what was found into a bundle's `model.yaml`, in place of what is there of the same data and machine.

    Args:
        folder: of the bundle.
        run: not ended early.
        dataset: that it ran on.
        figures: see `report.document`.

    Raises:
        ConfigError: a file of the data can't be read.
        ModelError: not all samples were judged, or the bundle can't be written.
    """
    if run.failures or not run.judge.outcomes:
        raise ModelError(f"{folder / MANIFEST}: nothing is recorded: {len(run.failures)} samples could not be used")
    found = Evaluated(
        data=dataset.path.resolve().name[:200],
        data_sha256=data_sha256(dataset),
        samples=figures["samples"],
        metrics={key: value for key, value in figures["metrics"].items() if value is not None},
        interval={key: (low, high) for key, (low, high) in figures["interval"].items() if None not in (low, high)},
        model_sha256=run.model_sha256,
        accelerator=run.accelerator,
        machine=machine_name()[:200],
        latency_ms=figures["latency_ms"]["p50"],
        agent=__version__,
        at=timestamp(time.time()),
    )
    others = [one for one in read_manifest(folder).evaluated if _place(one) != _place(found)]
    _write(folder, [*others, found][-MAX_EVALUATED:])
    return found


def _place(one: Evaluated) -> tuple[str, str, str]:
    return one.data_sha256, one.accelerator, one.machine


def _write(folder: Path, all_: list[Evaluated]) -> None:
    """Replaces the section, and leaves every other line as it is, with its comments."""
    path = folder / MANIFEST
    try:
        kept, inside = [], False
        for line in read_text(path, MAX_MANIFEST_SIZE).splitlines(keepends=True):
            # A section ends at the next line that is not indented, is no item of a list, and is not empty.
            inside = line.startswith(f"{SECTION}:") or (inside and line.startswith((" ", "-", "\n", "\r")))
            if not inside:
                kept.append(line)
        text = "".join(kept)
        text += "" if text.endswith("\n") or not text else "\n"
        # JSON is YAML: a line for each.
        lines = [f"  - {json.dumps(one.model_dump(mode='json', exclude_none=True))}\n" for one in all_]
        atomic_file.write(path, f"{text}{SECTION}:\n{''.join(lines)}".encode())
    except OSError as error:
        raise ModelError(f"{path}: can't be written: {error.strerror}") from None
    read_manifest(folder)
