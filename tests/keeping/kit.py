"""Keepers over a real pipeline with the bundled model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.keeping.keep import Keeper
from edge_agent.publish.publisher import Device
from edge_agent.sample_store.segment import Entry
from edge_agent.sample_store.store import read_store
from edge_agent.system.clock import Clock

DEVICE = Device("bench", "edge/bench", "b00t", Clock())
SOURCE = {"type": "images", "path": "."}


@contextmanager
def keeper(folder: Path, **options: Any) -> Iterator[Keeper]:
    """A keeper, until everything is written."""
    keep = settings.Keep.model_validate(options)
    pipeline = settings.Pipeline.model_validate({"source": SOURCE, "model": "digits", "keep": options})
    one = Keeper("stage", pipeline, keep, DEVICE, folder)
    one.start()
    try:
        yield one
    finally:
        one.close(10)


def entries(folder: Path) -> list[Entry]:
    """What has been written."""
    return [stored.read() for stored in read_store(folder)]
