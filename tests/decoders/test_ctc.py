"""Text recognition: repeated characters count once, blanks not at all."""

import numpy as np
import pytest

from edge_agent.decoders import Decoder, families
from edge_agent.decoders.ctc import LPRNET, characters_of
from edge_agent.errors import InputError, ModelError
from edge_agent.modelfile.facts import Tensor
from tests.decoders.scenes import ALL, Floats, as_it_is, decoder, facts, specs

CHARACTERS = ("s", "e", "1")
LINE, PLATE = (32, 96), (24, 94)
STEPS = 24
LINES = facts(Tensor("out", (-1, STEPS, 5), "float32"), size=LINE, operators=("Softmax",), file_format="onnx")
WIDE = facts(Tensor("out", (-1, STEPS, 97), "float32"), size=LINE, operators=("Softmax",), file_format="onnx")
PLATES = facts(Tensor("out", (68, 18), "float32"), size=PLATE, operators=("ReduceMean",), file_format="onnx")


def path(text: str, alphabet: str, blank: int, length: int) -> list[int]:
    """The class of each step: each character twice, then a blank."""
    found = [step for character in text for step in (*[alphabet.index(character)] * 2, blank)]
    return found + [blank] * (length - len(found))


def steps(text: str) -> Floats:
    """Probabilities (steps, classes) of a PP-OCR model: blank, characters, space."""
    chosen = path(text, "\0se1 ", 0, STEPS)
    scores = np.full((STEPS, 5), 0.05, np.float32)
    scores[np.arange(STEPS), chosen] = 0.8
    return scores


def plate(text: str) -> Floats:
    """Logits (classes, steps) of LPRNet: the blank is the last class."""
    chosen = path(text, "".join(LPRNET), 67, 18)
    scores = np.zeros((68, 18), np.float32)
    scores[chosen, np.arange(18)] = 12
    return scores


def of_lines() -> Decoder:
    return families.build(families.stated(LINES, "ctc"), specs(LINES), CHARACTERS, output="probabilities")


def of_plates() -> Decoder:
    return decoder(PLATES, "ctc", LPRNET)


def test_the_text_of_a_line_keeps_its_doubled_characters_and_its_space() -> None:
    (found,) = of_lines()([steps("see 11")[None]], [as_it_is()], ALL)
    assert found.as_dict() == {"label": "see 11", "confidence": 0.8}


def test_a_number_plate_is_read_without_an_axis_of_the_batch() -> None:
    (found,) = of_plates()([plate("\u4eacA12")], [as_it_is()], ALL)
    assert found.label == "\u4eacA12"
    assert found.confidence == pytest.approx(1, abs=0.01)


def test_the_families_are_known_by_the_size_of_their_input() -> None:
    (lines,), (plates,) = families.fitting(WIDE), families.fitting(PLATES)
    assert (lines.family, lines.resize, lines.color, lines.labels) == ("ctc", "letterbox", "bgr", None)
    assert (plates.family, plates.resize, plates.labels) == ("ctc", "stretch", LPRNET)


def test_time_may_be_the_first_axis() -> None:
    file = facts((STEPS, 1, 9), size=LINE)
    labels = tuple("abcdefgh")
    scores = np.zeros((STEPS, 1, 9), np.float32)
    scores[:, 0, 0] = 9
    scores[3, 0] = np.eye(9)[2] * 9
    (found,) = families.build(families.stated(file, "ctc"), specs(file), labels)([scores], [as_it_is()], ALL)
    assert found.label == "b"


def test_the_blank_is_where_it_is_written_and_lines_without_a_text_are_spaces() -> None:
    assert characters_of(("a", "b"), 3, blank_last=False) == (("", "a", "b"), 0)
    assert characters_of(("a", "b"), 4, blank_last=False) == (("", "a", "b", " "), 0)
    assert characters_of(("a", "", "b", "blank"), 4, blank_last=False) == (("a", " ", "b", "blank"), 3)
    with pytest.raises(ModelError, match="write `blank` into its line"):
        characters_of(("a", "b", "c"), 3, blank_last=False)


def test_scores_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(InputError, match="state output: logits"):
        of_lines()([steps("see")[None] * 5], [as_it_is()], ALL)
