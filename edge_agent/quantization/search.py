"""Finds by trying which operators of a model stay in float."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from edge_agent.quantization import Converter
from edge_agent.quantization.agreement import Agreement
from edge_agent.quantization.graph import blocks, head, tail

# How many layers at the ends: these often lose most, and cost least time.
ENDS = (1, 2, 4)
# Then single parts of the graph, and the best of them together.
BLOCKS, TOGETHER = 8, 3
# With more layers in float, hardly any time would be saved.
MOST_IN_FLOAT = 0.5


@dataclass(frozen=True, slots=True)
class Attempt:
    """A conversion that was tried.

    Attributes:
        kept: what stays in float, in words.
        in_float: the operators that do, by their names.
        agreement: with the original, on the samples by which is chosen.
        content: of the file.
    """

    kept: str
    in_float: frozenset[str]
    agreement: Agreement
    content: bytes


def search(
    converter: Converter,
    judge: Callable[[bytes], Agreement],
    enough: float,
    report: Callable[[Attempt], None],
) -> Attempt:
    """Tries to leave nothing in float, then what is near the ends, then other parts.

    Args:
        converter: calibrated.
        judge: compares the content of a converted file with the original.
        enough: the share of agreement that is needed. The search ends half-way from there to 1: of many attempts the
            best one on a few samples does a little worse on others.
        report: is called with each attempt.

    Returns:
        The first one that agrees so far, else the one that agrees most.

    Raises:
        ModelError: the tool fails.
    """
    best: Attempt | None = None
    tried: dict[frozenset[str], Attempt] = {}
    most = MOST_IN_FLOAT * sum(one.weighted for one in converter.operators)
    for kept, in_float in _candidates(converter, tried):
        if in_float in tried or sum(one.weighted for one in converter.operators if one.name in in_float) > most:
            continue
        content = converter.convert(in_float)
        made = tried[in_float] = Attempt(kept, in_float, judge(content), content)
        report(made)
        if best is None or made.agreement.share > best.agreement.share:
            best = made
        if made.agreement.share >= (1 + enough) / 2:
            break
    assert best is not None, "leaving nothing in float is always tried"  # noqa: S101 - for the type checker
    return best


def _candidates(converter: Converter, tried: Mapping[frozenset[str], Attempt]) -> Iterator[tuple[str, frozenset[str]]]:
    """What to leave in float, in words and by name; the last ones depend on how those before have done."""
    yield "nothing", frozenset()
    operators = converter.operators
    if not operators:
        return
    yield "what follows the last layers", tail(operators, converter.outputs, 0)
    ends = tail(operators, converter.outputs, 1)
    yield "the last layer", ends
    for layers in ENDS:
        first = head(operators, converter.inputs, layers)
        yield f"the first {_layers(layers)} and the last one", first | ends
    for layers in ENDS[1:]:
        yield f"the last {_layers(layers)}", tail(operators, converter.outputs, layers)
    parts = [part | ends for part in blocks(operators, BLOCKS)]
    for number, part in enumerate(parts, 1):
        yield f"part {number} of {len(parts)} and the last layer", part
    ranked = sorted((part for part in parts if part in tried), key=lambda part: -tried[part].agreement.share)
    for count in range(2, TOGETHER + 1):
        yield f"the best {count} parts and the last layer", frozenset().union(*ranked[:count])


def _layers(count: int) -> str:
    return "layer" if count == 1 else f"{count} layers"
