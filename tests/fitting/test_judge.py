"""Scores tell good from better, and accuracies right from wrong."""

import numpy as np

from edge_agent.evaluation.labelled import LabelledObject
from edge_agent.fitting.judge import certainty, of_class, of_objects
from edge_agent.samples import Prediction

BOX = (10.0, 10.0, 50.0, 50.0)
CLASSES = {"cat": 0, "dog": 1}


def found(confidence: float, class_id: int = 0, box: tuple[float, float, float, float] = BOX) -> Prediction:
    return Prediction(str(class_id), class_id, confidence, box=box)


def test_a_classifier_that_is_surer_of_the_right_class_scores_higher() -> None:
    sure, unsure, wrong = (of_class(np.array([one, 1 - one], np.float32), 0) for one in (0.9, 0.6, 0.0))
    assert sure[0] > unsure[0] > wrong[0] == 0
    assert (sure[1], unsure[1], wrong[1]) == (1, 1, 0)
    assert max(of_class(np.zeros(2, np.float32), 0)) == 0


def test_a_detector_loses_by_what_it_misses_invents_and_misplaces() -> None:
    cat = [LabelledObject("cat", BOX)]
    assert min(of_objects([found(1.0)], cat, CLASSES)) == 1
    for worse in ([], [found(1.0, 1)], [found(1.0), found(0.9, 1)], [found(1.0, box=(60, 60, 90, 90))], [found(0.3)]):
        score, accuracy = of_objects(worse, cat, CLASSES)
        assert score < 1
        assert accuracy < 1
    assert min(of_objects([], [], CLASSES)) == 1
    assert of_objects([found(0.9)], [], CLASSES)[0] < 1


def test_crowds_do_not_have_to_be_found() -> None:
    assert min(of_objects([], [LabelledObject("cat", BOX, crowd=True)], CLASSES)) == 1


def test_a_classifier_is_sure_of_itself_if_it_says_one_thing_and_keeps_to_it() -> None:
    one, other, flat = (np.array(values, np.float32) for values in ([1, 0], [0, 1], [0.5, 0.5]))
    assert certainty(one, [one]) == 1
    assert certainty(one, [other]) == 0
    assert certainty(flat, [flat]) < 0.01
