"""The message for outputs that no family explains: what was seen, the nearest families, and what to state."""

import re
from collections.abc import Collection
from typing import NamedTuple

from edge_agent.decoders.families import FAMILIES
from edge_agent.decoders.recognition import picture_size, sole_output
from edge_agent.modelfile.facts import ModelFile

SHOWN_FAMILIES = 3
SHOWN_OUTPUTS = 12


class _Expected(NamedTuple):
    """One form of a family's outputs: the number of axes of each, smallest first."""

    family: str
    ranks: tuple[int, ...]


def unknown_outputs(file: ModelFile, known: Collection[str]) -> str:
    """The message.

    Args:
        file: of the model.
        known: names of the families that the model's input allows.
    """
    listed = [f"{tensor.name or '(no name)'} {list(tensor.shape)} {tensor.dtype}" for tensor in file.outputs]
    more = f" and {len(listed) - SHOWN_OUTPUTS} more" if len(listed) > SHOWN_OUTPUTS else ""
    seen = ", ".join(listed[:SHOWN_OUTPUTS]) + more
    if cause := _cause(file):
        return f"what its outputs mean is not known ({seen}): {cause}"
    ranks = tuple(sorted(len(tensor.shape) for tensor in file.outputs))
    forms = sorted((form for name in known for form in _forms(name)), key=lambda form: _distance(form.ranks, ranks))
    fitting = [name for name in known if FAMILIES[name].recognise(file, stated=True)]
    nearest = dict.fromkeys(fitting[:SHOWN_FAMILIES], "which fits, if that is what it is")
    for form in forms:
        if len(nearest) < SHOWN_FAMILIES:
            nearest.setdefault(form.family, _why_not(file, form, ranks))
    families = "; ".join(f"{name} gives {FAMILIES[name].outputs} ({why})" for name, why in nearest.items())
    vector = " decoder: embedding for one vector," if "embedding" in known else ""
    return (
        f"what its outputs mean is not known ({seen or 'none'}): the nearest families: {families}: state decoder: "
        f"FAMILY if it is one of them,{vector} or decoder: raw for the tensors themselves"
    )


def _cause(file: ModelFile) -> str:
    """What keeps outputs from being recognised, whatever their family, and what to state; empty if nothing does."""
    if (picture := picture_size(file)) and (output := sole_output(file)) and len(output.shape) in (3, 4):
        channels = [size for size in (*output.shape[1:], 1) if size not in picture]
        sides = [size for size in output.shape[1:] if size in picture]
        if len(sides) == len(picture) and max(channels) in (1, 3):
            return (
                f"it is a map as large as its input, {max(channels)} value(s) for each pixel: state decoder: "
                "segmentation for the mask of one class, decoder: text_detection for PP-OCR, or decoder: "
                "raw for depth, or for an image, which is published as a tensor"
            )
    if any(size < 0 for tensor in file.outputs for size in tensor.shape[1:]):
        fixed = "export it with fixed sizes (Ultralytics: dynamic=False), or state decoder: raw"
        return f"the file leaves sizes of its outputs open (-1): {fixed}"
    return ""


def _forms(name: str) -> list[_Expected]:
    """The forms in the table's words: alternatives with "or", each a list of shapes in brackets."""
    forms = (re.findall(r"\[([^\[\]]*)\]", form) for form in re.split(r"\bor\b", FAMILIES[name].outputs))
    return [_Expected(name, tuple(sorted(shape.count(",") + 1 for shape in shapes))) for shapes in forms if shapes]


def _distance(expected: tuple[int, ...], found: tuple[int, ...]) -> int:
    """How far two lists of axes are apart: outputs that are missing count most."""
    return 4 * abs(len(expected) - len(found)) + sum(abs(a - b) for a, b in zip(expected, found, strict=False))


def _why_not(file: ModelFile, form: _Expected, ranks: tuple[int, ...]) -> str:
    if len(form.ranks) != len(ranks):
        return f"there are {len(ranks)} outputs here"
    if form.ranks != ranks:
        return f"the outputs here have {', '.join(map(str, ranks))} axes"
    sizes = ", ".join(str(list(tensor.shape)) for tensor in file.inputs)
    return f"the sizes here do not fit its pattern for the input {sizes}"
