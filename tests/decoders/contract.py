"""What every decoder promises, whatever the format of its tensors. `test_contract.py` has a scene for each family."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.decoders import Decoder, Limits
from edge_agent.errors import InputError, ModelError
from edge_agent.preprocess.placement import Placement, place
from edge_agent.samples import Prediction
from tests.decoders.scenes import ALL

Outputs = Sequence[NDArray[Any]]
EVERYTHING = Limits(top_k=100, min_confidence=0)


@dataclass(frozen=True)
class Setup:
    """A decoder, and outputs of its model.

    Attributes:
        decode: the decoder, with labels.
        size: height, width of the model's input.
        scene: outputs for a batch of one, in which something is found; at least two things where there can be several.
        empty: outputs for an input in which there is nothing; None: the family always has an answer.
        labels: one for each class; () where predictions have none.
        task: as in results.
        batched: whether outputs have an axis of the batch.
        limited: whether `top_k` applies.
        shaped: whether outputs have to be of the shape that the model declares.
        item: what the decoder has to know of an item that is no picture; None: it is one, and has a `Placement`.
    """

    decode: Decoder
    size: tuple[int, int]
    scene: Outputs
    empty: Outputs | None = None
    labels: Sequence[str] = ()
    task: str = "detection"
    batched: bool = True
    limited: bool = True
    shaped: bool = True
    item: Callable[[], Any] | None = None

    def placement(
        self, region: str | None = None, *, offset: tuple[int, int] = (0, 0), scale: int = 1, margin: int = 0
    ) -> Any:
        """A crop that the model sees whole, `scale` pixels of the picture for each of the input."""
        if self.item is not None:
            return self.item()
        height, width = self.size
        crop = width * scale, height * scale
        picture = offset[0] + crop[0] + margin, offset[1] + crop[1] + margin
        return place(region, offset, crop, picture, (width, height), "stretch")

    def found(self, limits: Limits = ALL, placement: Any = None, outputs: Outputs | None = None) -> list[Prediction]:
        """The predictions of one item, by default the scene's."""
        return self.decode(self.scene if outputs is None else outputs, [placement or self.placement()], limits)


def points_of(prediction: Prediction) -> NDArray[Any]:
    """All coordinates of a prediction: (N, 2) x, y."""
    points = [point[:2] for point in prediction.keypoints or ()]
    points += [point for part in prediction.polygons or () for point in part]
    points += [prediction.box[:2], prediction.box[2:]] if prediction.box else []
    return np.array(points, np.float64).reshape(-1, 2)


def refusal(setup: Setup, outputs: Outputs, placements: Sequence[Any]) -> str:
    """What a decoder says to outputs that it has to refuse."""
    with pytest.raises((InputError, ModelError)) as caught:
        setup.decode(outputs, placements, EVERYTHING)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class DecoderContract:
    """Of every decoder. A subclass has a fixture `setup`."""

    def test_predictions_are_documents_of_the_task(self, setup: Setup) -> None:
        found = setup.found()
        assert setup.decode.task == setup.task
        assert found
        for one in found:
            json.dumps(one.as_dict(), allow_nan=False)
            if setup.labels:
                assert one.class_id is not None
                assert one.label == setup.labels[one.class_id]

    def test_coordinates_are_pixels_of_the_picture(self, setup: Setup) -> None:
        here = setup.found(ALL)
        there = setup.found(ALL, setup.placement("yard", offset=(50, 40), scale=2, margin=30))
        assert len(there) == len(here)
        for one, other in zip(here, there, strict=True):
            assert (one.label, one.confidence) == (other.label, other.confidence)
            assert points_of(other) == pytest.approx(points_of(one) * 2 + (50, 40), abs=0.01)
            assert other.area == (None if one.area is None else one.area * 4)

    @pytest.mark.parametrize("offset", [(0, 0), (30, 20)])
    def test_coordinates_end_at_the_edge_of_the_crop(self, offset: tuple[int, int], setup: Setup) -> None:
        if setup.item is not None:
            pytest.skip("its input is no picture")
        height, width = setup.size
        # The input's upper part shows the crop, the rest of it is padding.
        crop = width, height * 2 // 3
        picture = crop[0] + offset[0] + 10, crop[1] + offset[1] + 10
        placement = place(None, offset, crop, picture, (width, height), "letterbox")
        assert isinstance(placement, Placement)
        for one in setup.found(EVERYTHING, placement):
            inside = points_of(one) - offset
            assert (inside >= 0).all()
            assert (inside <= crop).all()

    def test_the_most_confident_come_first_and_none_is_below_the_least(self, setup: Setup) -> None:
        for one in EVERYTHING, ALL:
            confidences = [found.confidence for found in setup.found(one) if found.confidence is not None]
            assert confidences == sorted(confidences, reverse=True)
            assert all(one.min_confidence <= confidence <= 1 for confidence in confidences)
        found = setup.found()
        if best := found[0].confidence:
            assert len(confidences) == len(found)
            assert setup.found(Limits(100, best)) == [one for one in found if one.confidence == best]
            assert setup.found(Limits(100, (best + 1) / 2)) == []
        else:
            assert setup.found(Limits(100, 1)) == found

    @pytest.mark.parametrize("top_k", [1, 2])
    def test_no_more_come_than_asked_for(self, top_k: int, setup: Setup) -> None:
        found = setup.found()
        assert setup.found(Limits(top_k, ALL.min_confidence)) == (found[:top_k] if setup.limited else found)

    def test_where_nothing_is_nothing_is_found(self, setup: Setup) -> None:
        if setup.empty is None:
            pytest.skip("it always has an answer")
        assert setup.found(ALL, outputs=setup.empty) == []

    def test_outputs_are_not_modified_and_may_be_read_only(self, setup: Setup) -> None:
        outputs = [one.copy() for one in setup.scene]
        for one in outputs:
            one.flags.writeable = False
        first = setup.found(outputs=outputs)
        for one, before in zip(outputs, setup.scene, strict=True):
            assert np.array_equal(one, before, equal_nan=one.dtype.kind == "f")
        assert setup.found(outputs=outputs) == first

    def test_each_item_of_a_batch_keeps_its_placement_and_its_predictions(self, setup: Setup) -> None:
        if not setup.batched:
            pytest.skip("its outputs have no axis of the batch")
        items = [setup.scene, setup.empty or setup.scene, setup.scene]
        placements = [
            setup.placement("left"),
            setup.placement("middle", offset=(20, 10)),
            setup.placement("right", offset=(40, 30), scale=2),
        ]
        together = [np.concatenate(parts) for parts in zip(*items, strict=True)]
        found = setup.decode(together, placements, ALL)
        apart = [setup.found(ALL, placement, item) for placement, item in zip(placements, items, strict=True)]
        assert found == [one for part in apart for one in part]
        if setup.item is None:
            assert {one.region for one in apart[2]} == {"right"}

    def test_outputs_of_another_number_of_items_are_refused(self, setup: Setup) -> None:
        said = refusal(setup, setup.scene, [setup.placement("left"), setup.placement("right")])
        assert "can't be used with several regions" in said

    def test_outputs_of_another_shape_are_refused(self, setup: Setup) -> None:
        if not setup.shaped:
            pytest.skip("it takes outputs of any shape")
        refusal(setup, [np.zeros((1, 2, 3, 5, 7), one.dtype) for one in setup.scene], [setup.placement()])

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_numbers_are_refused(self, value: float, setup: Setup) -> None:
        for number, one in enumerate(setup.scene):
            if one.dtype.kind == "f":
                outputs = [*setup.scene]
                outputs[number] = np.full_like(one, value)
                assert "number" in refusal(setup, outputs, [setup.placement()]), number
