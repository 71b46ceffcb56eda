import itertools

import numpy as np
import pytest

from edge_agent.decoders import Limits, families
from edge_agent.decoders.ssd import OPERATOR, ROLES
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.facts import ModelFile, Tensor
from tests.decoders.scenes import ALL, Floats, Thing, as_it_is, assert_same, decoder, facts, floats

SIZE = (100, 200)
LABELS = ("person", "bicycle", "car", "dog")
THINGS = (Thing((10, 12, 50, 60), 1, 0.9), Thing((80, 20, 150, 90), 3, 0.75), Thing((60, 5, 75, 15), 0, 0.5))
ORDERS = list(itertools.permutations(ROLES))


def outputs(things: tuple[Thing, ...] = THINGS, count: int | None = None) -> dict[str, Floats]:
    """What the operator gives; behind the count stands whatever was in memory."""
    boxes = np.full((1, 10, 4), np.nan, np.float32)
    classes, scores = np.full((1, 10), 1e9, np.float32), np.full((1, 10), 7.5, np.float32)
    for row, thing in enumerate(things):
        x1, y1, x2, y2 = thing.box
        boxes[0, row] = [y1 / SIZE[0], x1 / SIZE[1], y2 / SIZE[0], x2 / SIZE[1]]
        classes[0, row], scores[0, row] = thing.class_id, thing.score
    told = floats([len(things) if count is None else count])
    return {"boxes": boxes, "classes": classes, "scores": scores, "count": told}


def file(names: list[str], **more: dict[str, str]) -> ModelFile:
    """Shapes are open before the first inference."""
    return facts(*(Tensor(name, (), "float32") for name in names), size=SIZE, custom=[OPERATOR], **more)  # type: ignore[arg-type]  # the metadata alone is passed on


NAMES = {
    "the operator's own tensors": {role: OPERATOR + (f":{n}" if n else "") for n, role in enumerate(ROLES)},
    "those of a TF 2 function": {role: f"StatefulPartitionedCall:{3 - n}" for n, role in enumerate(ROLES)},
    "nothing that tells": {role: f"Identity_{ord(role[0])}" for role in ROLES},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_outputs_are_found_in_whatever_order_they_come(order: tuple[str, ...], names: dict[str, str]) -> None:
    decode = decoder(file([names[role] for role in order]), "ssd", LABELS)
    found = decode([outputs()[role] for role in order], [as_it_is(SIZE)], ALL)
    assert_same(found, THINGS, score=1e-5, iou=0.999)


@pytest.mark.parametrize("order", ORDERS[::5])
def test_the_metadata_and_the_signature_tell_outputs_too(order: tuple[str, ...]) -> None:
    in_metadata = {"boxes": "location", "classes": "category", "scores": "score", "count": "number of detections"}
    for facts_of_it in (
        {f"output{n}.name": in_metadata[role] for n, role in enumerate(order)},
        {f"output{n}.signature": f"output_{3 - ROLES.index(role)}" for n, role in enumerate(order)},
    ):
        one = file(["a", "b", "c", "d"], metadata=facts_of_it)
        (recognition,) = families.fitting(one)
        assert any(sentence.startswith(f"outputs: {', '.join(order)}") for sentence in recognition.evidence)
        found = decoder(one, "ssd", LABELS)([outputs()[role] for role in order], [as_it_is(SIZE)], ALL)
        assert_same(found, THINGS, score=1e-5, iou=0.999)


UNNAMED = file(["a", "b", "c", "d"])


def test_a_single_sure_detection_of_class_1_cannot_be_told_by_values() -> None:
    sure = outputs((Thing((0, 0, 50, 50), 1, 1.0),))
    with pytest.raises(InputError, match="does not show which of its outputs"):
        decoder(UNNAMED, "ssd", LABELS)(list(sure.values()), [as_it_is(SIZE)], ALL)
    assert (
        len(
            decoder(UNNAMED, "ssd", LABELS)(
                list(outputs((Thing((0, 0, 50, 50), 2, 1.0),)).values()), [as_it_is(SIZE)], ALL
            )
        )
        == 1
    )


def test_nothing_found_is_nothing_told() -> None:
    assert decoder(UNNAMED, "ssd", LABELS)(list(outputs(()).values()), [as_it_is(SIZE)], Limits(9, 0)) == []


@pytest.mark.parametrize("count", [-1, 1000, 2.6])
def test_a_count_that_cannot_be_is_kept_within_the_rows(count: float) -> None:
    named = decoder(file(list(NAMES["the operator's own tensors"].values())), "ssd", LABELS)
    values = outputs()
    values["count"][:] = count
    if count == 1000:
        values["boxes"][:], values["scores"][:] = (
            np.nan_to_num(values["boxes"]),
            np.where(values["scores"] > 1, 0, values["scores"]),
        )
    found = named(list(values.values()), [as_it_is(SIZE)], ALL)
    assert len(found) == (0 if count == -1 else 3)


def test_an_answer_of_no_numbers_is_refused() -> None:
    named = decoder(file(list(NAMES["the operator's own tensors"].values())), "ssd", LABELS)
    for role in ROLES:
        values = outputs()
        values[role].reshape(-1)[0] = np.nan
        with pytest.raises(InputError, match="not numbers"):
            named(list(values.values()), [as_it_is(SIZE)], ALL)


def test_outputs_of_other_shapes_are_refused() -> None:
    values = list(outputs().values())
    with pytest.raises(ModelError, match="expected boxes, classes, scores and their count"):
        decoder(UNNAMED, "ssd", LABELS)([values[0]] * 4, [as_it_is(SIZE)], ALL)
    named = decoder(file(list(NAMES["the operator's own tensors"].values())), "ssd", LABELS)
    with pytest.raises(ModelError, match="expected an output of shape"):
        named([values[0], values[1][:, :3], *values[2:]], [as_it_is(SIZE)], ALL)


@pytest.mark.parametrize("first", ["???", "background"])
def test_a_label_of_the_background_is_not_that_of_class_0(first: str) -> None:
    labelled = file(list(NAMES["the operator's own tensors"].values()))
    found = decoder(labelled, "ssd", [first, *LABELS])(list(outputs().values()), [as_it_is(SIZE)], ALL)
    assert [(one.label, one.class_id) for one in found] == [("bicycle", 1), ("dog", 3), ("person", 0)]


def test_the_operator_names_the_family() -> None:
    (found,) = families.fitting(UNNAMED)
    assert (found.family, found.named, found.classes, found.resize) == ("ssd", True, None, "stretch")
    assert families.fitting(facts((), (), (), (), size=SIZE)) == []
