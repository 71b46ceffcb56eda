"""The length of an input that a model file leaves open."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_agent.errors import ModelError
from edge_agent.settings.series import Input
from edge_agent.timeseries.numbers import SeriesPreprocess
from tests.timeseries.small_models import autoencoder

FEATURES = {"kind": "log_mel", "step": "20ms"}


@pytest.mark.parametrize(("length", "rate"), [("50", None), ("2s", 25)])
def test_it_is_stated_in_readings_or_as_a_duration(length: str, rate: float | None, tmp_path: Path) -> None:
    model = autoencoder(tmp_path, "any", length=length, rate=rate)
    assert isinstance(model.preprocess, SeriesPreprocess)
    assert model.preprocess.shape == (50,)


def test_with_features_it_is_one_of_rows() -> None:
    sound = {"kind": "audio", "rate": 16000, "features": FEATURES}
    assert [Input.model_validate(sound | {"length": stated}).readings for stated in ("49", "980ms")] == [49, 49]


def test_where_it_is_not_stated_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"state input\.length"):
        autoencoder(tmp_path, "any")


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"length": "2s"}, "a length in seconds needs a rate"),
        ({"length": "0"}, "from 1 to 10000000 readings"),
        ({"length": "1ms", "rate": 10}, "from 1 to 10000000 readings"),
        ({"length": "1h", "rate": 16000}, "from 1 to 10000000 readings"),
        ({"length": "1s", "rate": 10, "context": 10}, "context must be < length"),
    ],
)
def test_one_that_cannot_be_is_refused(stated: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Input.model_validate({"kind": "series"} | stated)
