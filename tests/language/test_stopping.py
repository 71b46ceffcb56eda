import pytest

from edge_agent.language.stopping import StopSequences


@pytest.mark.parametrize(
    ("pieces", "text", "found"),
    [
        (["hello"], "hello", False),
        (["he", "llo END more"], "hello ", True),
        (["hello E", "N", "D more"], "hello ", True),
        (["hello E", "N", "S"], "hello ENS", False),
        (["EEN", "D"], "E", True),
        (["a\n", "\nb"], "a", True),
    ],
)
def test_a_text_ends_before_the_first_stop_wherever_the_pieces_are_cut(
    pieces: list[str], text: str, found: bool
) -> None:
    stops, taken = StopSequences(["END", "\n\n"]), ""
    for piece in pieces:
        taken += stops.feed(piece)
        if stops.found:
            break
    assert (taken + stops.rest(), stops.found) == (text, found)


def test_nothing_is_told_that_may_be_the_beginning_of_a_stop() -> None:
    stops = StopSequences(["END"])
    assert [stops.feed(piece) for piece in ("a", "E", "N", "x")] == ["a", "", "", "ENx"]


def test_without_stops_every_piece_is_told_at_once() -> None:
    assert StopSequences([]).feed("END") == "END"
