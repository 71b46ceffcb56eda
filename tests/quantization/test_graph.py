"""Which operators are near the ends of a graph."""

from edge_agent.quantization.graph import Operator, blocks, head, tail

# in -> first -> act -> second -> split(third, fourth -> softmax) -> out
GRAPH = [
    Operator("first", ("in", "w1"), ("a",), weighted=True),
    Operator("act", ("a",), ("b",), weighted=False),
    Operator("second", ("b", "w2"), ("c",), weighted=True),
    Operator("third", ("c", "w3"), ("boxes",), weighted=True),
    Operator("fourth", ("c", "w4"), ("d",), weighted=True),
    Operator("softmax", ("d",), ("scores",), weighted=False),
]
OUTPUTS = ("boxes", "scores")


def test_what_follows_the_last_layers_is_told_from_the_layers_before() -> None:
    assert tail(GRAPH, OUTPUTS, 0) == {"softmax"}
    assert tail(GRAPH, OUTPUTS, 1) == {"softmax", "third", "fourth"}
    assert tail(GRAPH, OUTPUTS, 2) == {"softmax", "third", "fourth", "second", "act"}
    assert tail(GRAPH, OUTPUTS, 9) == {operator.name for operator in GRAPH}


def test_the_first_layers_come_with_what_follows_them() -> None:
    assert head(GRAPH, ("in",), 1) == {"first", "act"}
    assert head(GRAPH, ("in",), 2) == {"first", "act", "second"}


def test_a_graph_is_cut_into_parts_that_share_its_layers() -> None:
    parts = blocks(GRAPH, 2)
    assert [sum(one.weighted for one in GRAPH if one.name in part) for part in parts] == [2, 2]
    assert frozenset().union(*parts) == {operator.name for operator in GRAPH}
    assert len(blocks(GRAPH, 8)) == 4
    assert blocks([], 8) == []
