from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.engines.pool import Pool
from edge_agent.models.model import Model
from tests.sources.stage import DIGITS, Stage, digits_model

GOLDEN = sorted((DIGITS / "golden").iterdir())


@pytest.fixture
def model() -> Model:
    """The bundled model, one for each test: some of them break it."""
    return digits_model()


@pytest.fixture
def golden(model: Model, tmp_path: Path) -> Stage:
    """A stage over the bundle's golden samples."""
    return Stage({"type": "images", "path": str(DIGITS / "golden")}, model, tmp_path)


@contextmanager
def no_engine_is_free(model: Model) -> Iterator[None]:
    """A model whose inferences wait until the end of the `with` block."""
    pool = model.engine.engine.engine
    assert isinstance(pool, Pool)
    with pool._changed:
        yield
