"""Engines of chips, on the stand-ins of their libraries."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edge_agent import settings
from edge_agent.engines import load_engine
from edge_agent.engines.isolated import IsolatedEngine
from edge_agent.modelfile.identity import FileIdentity
from edge_agent.testing.engine_contract import hashed
from tests.stand_ins import interpreter

Load = Callable[..., IsolatedEngine]


@contextmanager
def loading(path: Path, chip: Literal["hailo", "rknn"], file_format: Literal["hef", "rknn"]) -> Iterator[Load]:
    """Loads engines of a file, with options of the chip; they are closed at the end."""
    loaded = list[IsolatedEngine]()
    file = FileIdentity(path, file_format, hashed(path), path.stat().st_size)

    def load_one(**options: str) -> IsolatedEngine:
        python = {"python": str(interpreter.make(path.parent / "system"))}
        engine = load_engine(file, settings.Chip(chip=chip, options=python | options), 1)
        assert isinstance(engine, IsolatedEngine)
        loaded.append(engine)
        return engine

    yield load_one
    for engine in loaded:
        engine.close()


def blank(engine: IsolatedEngine) -> list[Any]:
    """Inputs of zeros."""
    return [np.zeros(one.shape, one.dtype) for one in engine.inputs]
