import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.decoders import families
from edge_agent.decoders.families import FAMILIES, OF_PICTURES
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import Tensor
from tests.decoders.scenes import facts, specs


def test_an_unknown_decoder_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(
        ModelError, match=r"decoder: expected one of classification, class_number, .*, regression, found 'yolo99'"
    ):
        families.stated(facts((1, 84, 8400)), "yolo99")


@pytest.mark.parametrize("family", OF_PICTURES)
def test_a_decoder_that_the_file_contradicts_is_answered_with_both_shapes(family: str) -> None:
    with pytest.raises(ModelError, match=rf"decoder: {family} is for .*; this one gives out0 \[1, 7, 7, 7, 7\]"):
        families.stated(facts((1, 7, 7, 7, 7)), family)


def test_labels_of_another_number_are_refused() -> None:
    file = facts((1, 84, 8400), size=(640, 640))
    with pytest.raises(ModelError, match="yolov8: expected 80 labels, found 79"):
        families.build(families.stated(file, "yolov8"), specs(file), ["x"] * 79)


def test_labels_in_the_file_settle_what_its_shape_leaves_open() -> None:
    assert [one.family for one in families.fitting(facts((1, 8400, 84), size=(640, 640), labels=["x"] * 80))] == [
        "yolov8"
    ]


def test_labels_that_fit_no_family_settle_nothing() -> None:
    file = facts((1, 8400, 85), size=(640, 640))
    assert families.fitting(file, 7) == families.fitting(file)


def test_a_classifier_is_none_of_the_families() -> None:
    assert families.fitting(facts((1, 1001), size=(224, 224), operators=("SOFTMAX",))) == []


SHAPES = st.lists(st.lists(st.integers(-1, 9000), max_size=5).map(tuple), max_size=5)


@settings(deadline=None)
@given(
    SHAPES,
    st.lists(st.sampled_from(["", "SOFTMAX", "ARG_MAX", "Concat", "L2_NORMALIZATION"]), min_size=5, max_size=5),
    st.dictionaries(st.sampled_from(["task", "names", "stride", "kpt_shape", "output0.name"]), st.text(max_size=80)),
    st.tuples(st.integers(-1, 2000), st.integers(-1, 2000)),
    st.sampled_from(["float32", "uint8", "int64", "str", "type99"]),
    st.booleans(),
)
def test_no_file_whatever_breaks_recognition(
    shapes: list[tuple[int, ...]],
    operators: list[str],
    metadata: dict[str, str],
    size: tuple[int, int],
    dtype: str,
    stated: bool,
) -> None:
    file = facts(
        *(Tensor("", shape, dtype) for shape in shapes),
        size=size,
        operators=operators,
        metadata=metadata,
        custom=["TFLite_Detection_PostProcess"],
    )
    for name, family in FAMILIES.items():
        recognition = family.recognise(file, stated=stated)
        assert recognition is None or (recognition.family == name and all(recognition.evidence))
