import json

from edge_agent.samples import Prediction


def test_what_a_task_does_not_give_is_not_published() -> None:
    assert Prediction("cat", 3, 0.98765).as_dict() == {"label": "cat", "class_id": 3, "confidence": 0.9877}
    assert Prediction(None, None, None, vector=(0.5, 1.0)).as_dict() == {"vector": [0.5, 1.0]}
    assert Prediction("age", 0, None, value=0.0).as_dict() == {"label": "age", "class_id": 0, "value": 0.0}


def test_nothing_that_is_zero_is_lost() -> None:
    found = Prediction("cat", 0, 0.0, "door", box=(0, 0, 0, 0), area=0).as_dict()
    assert found == {
        "label": "cat",
        "class_id": 0,
        "confidence": 0.0,
        "region": "door",
        "box": [0, 0, 0, 0],
        "area": 0,
    }


def test_pixels_have_one_decimal_and_confidences_four() -> None:
    found = Prediction(
        "person",
        0,
        0.5,
        box=(1.26, 2.34, 3.21, 4.56),
        keypoints=((10.04, 20.06, 0.123456), (1.0, 2.0)),
        polygons=(((1.26, 2.34), (3.21, 4.56), (5.0, 6.0)),),
    ).as_dict()
    assert found["box"] == [1.3, 2.3, 3.2, 4.6]
    assert found["keypoints"] == [[10.0, 20.1, 0.1235], [1.0, 2.0]]
    assert found["polygons"] == [[[1.3, 2.3], [3.2, 4.6], [5.0, 6.0]]]
    assert json.loads(json.dumps(found)) == found
