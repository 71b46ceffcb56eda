"""Regression and embeddings: what comes out is what the model says."""

import numpy as np

from edge_agent.decoders import families
from edge_agent.modelfile.facts import Tensor
from edge_agent.preprocess.placement import place
from tests.decoders.scenes import ALL, as_it_is, decoder, facts, floats, quantised

LABELS = ("yaw", "pitch")


def test_each_value_of_a_regression_is_told_with_its_name() -> None:
    decode = decoder(facts((1, 2)), "regression", LABELS)
    found = decode([floats([[12.5, -3.25]])], [as_it_is()], ALL)
    assert [one.as_dict() for one in found] == [
        {"label": "yaw", "class_id": 0, "value": 12.5},
        {"label": "pitch", "class_id": 1, "value": -3.25},
    ]


def test_quantised_values_are_told_as_real_ones_for_each_region() -> None:
    file = facts(Tensor("", (-1, 1), "int8", 0.5, -20), operators=("FULLY_CONNECTED",))
    regions = [place(name, (0, 0), (9, 9), (9, 9), (9, 9), "stretch") for name in ("a", "b")]
    found = decoder(file, "regression")([quantised(floats([[3], [-4.5]]), "int8", 0.5, -20)], regions, ALL)
    assert [(one.region, one.label, one.value) for one in found] == [("a", "0", 3.0), ("b", "0", -4.5)]


def test_an_embedding_is_one_vector() -> None:
    vector = np.random.default_rng(1).normal(size=(1, 1, 1, 128)).astype(np.float32)
    (found,) = decoder(facts((1, 1, 1, 128)), "embedding")([vector], [as_it_is()], ALL)
    assert found.vector is not None
    assert np.allclose(found.vector, vector.ravel(), rtol=1e-6)
    assert set(found.as_dict()) == {"vector"}


def test_what_could_be_a_classifier_has_to_be_stated() -> None:
    assert families.fitting(facts((1, 128), operators=("FULLY_CONNECTED",))) == []
    assert families.fitting(facts((1, 1), operators=("LOGISTIC",))) == []
    assert families.stated(facts((1, 128)), "embedding").task == "embedding"
    assert families.stated(facts((1, 128)), "regression").classes == 128


def test_values_that_a_regressor_computes_are_no_scores() -> None:
    several = facts((-1, 3), operators=("TreeEnsembleRegressor",))
    assert [one.family for one in families.fitting(several)] == ["regression"]


def test_what_a_file_says_of_a_vector_is_believed() -> None:
    normalized = facts((1, 128), operators=("L2_NORMALIZATION",))
    called = facts((1, 1280), metadata={"output0.name": "feature_vector"}, operators=("MEAN",))
    for file in (normalized, called):
        (found,) = families.fitting(file)
        assert (found.family, found.labels) == ("embedding", ())
    (found,) = families.fitting(facts((1, 1), operators=("FULLY_CONNECTED",)))
    assert (found.family, found.classes, found.labels) == ("regression", 1, ())
