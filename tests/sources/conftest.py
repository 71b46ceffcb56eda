import pytest

from edge_agent.models.model import Model
from tests.sources.stage import digits_model


@pytest.fixture(scope="session")
def digits() -> Model:
    """The bundled model, loaded once."""
    return digits_model()
