"""Classifiers that choose the class themselves: a number alone, or a label beside the probabilities."""

import numpy as np
import pytest

from edge_agent.decoders import Limits, families
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.facts import ModelFile, Tensor
from tests.decoders.scenes import ALL, as_it_is, decoder, facts, floats, specs

LABELS = ("setosa", "versicolor", "virginica")
PROBABILITIES = floats([[0.02, 0.9, 0.08]])


def table(scores: Tensor, operators: tuple[str, str] = ("LinearClassifier", "Normalizer")) -> ModelFile:
    return facts(Tensor("label", (-1,), "int64"), scores, operators=operators)


@pytest.mark.parametrize("shape", [(1,), (1, 1), ()])
def test_the_number_of_a_class_becomes_its_label_without_a_confidence(shape: tuple[int, ...]) -> None:
    file = facts(Tensor("ids", shape, "int64"), operators=("ArgMax",))
    assert [one.family for one in families.fitting(file)] == ["class_number"]
    (found,) = decoder(file, "class_number", LABELS)([np.full(shape, 2)], [as_it_is()], Limits(1, 1.0))
    assert found.as_dict() == {"label": "virginica", "class_id": 2}


def test_whole_numbers_of_which_nothing_is_known_have_to_be_stated() -> None:
    file = facts(Tensor("out", (1, 1), "int32"), operators=("Gather",))
    assert {one.family for one in families.fitting(file)} == {"class_number", "regression"}


def test_a_class_without_a_label_is_refused() -> None:
    file = facts(Tensor("ids", (1,), "int64"), operators=("ArgMax",))
    with pytest.raises(ModelError, match="class 3, and there are 3 labels"):
        decoder(file, "class_number", LABELS)([np.array([3])], [as_it_is()], ALL)


def test_a_map_of_pixels_is_no_class_number() -> None:
    file = facts(Tensor("map", (1, 64, 64), "int64"), operators=("ARG_MAX",))
    assert [one.family for one in families.fitting(file)] == ["segmentation"]


@pytest.mark.parametrize("label_first", [True, False])
def test_probabilities_beside_a_label_are_those_of_the_classes(*, label_first: bool) -> None:
    file = table(Tensor("probabilities", (-1, 3), "float32"))
    outputs = [np.array([1]), PROBABILITIES]
    if not label_first:
        outputs.reverse()
        file = facts(*file.outputs[::-1], operators=file.output_operators[::-1])
    assert [one.family for one in families.fitting(file)] == ["labels_and_scores"]
    found = decoder(file, "labels_and_scores", LABELS)(outputs, [as_it_is()], ALL)
    assert [one.label for one in found] == ["versicolor"]
    assert found[0].confidence == pytest.approx(0.9)


def test_scores_that_are_no_probabilities_are_refused_until_it_is_stated_what_they_are() -> None:
    file = table(Tensor("probabilities", (-1, 3), "float32"))
    (recognition,) = families.fitting(file)
    outputs = [np.array([1]), floats([[-2.0, 3.0, 0.5]])]
    with pytest.raises(InputError, match="state output: logits"):
        families.build(recognition, specs(file), LABELS)(outputs, [as_it_is()], ALL)
    decode = families.build(recognition, specs(file), LABELS, output="logits")
    assert decode(outputs, [as_it_is()], ALL)[0].label == "versicolor"
