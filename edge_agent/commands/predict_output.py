"""What `predict` prints for a person."""

import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_agent.system.terminal import printable
from edge_agent.system.units import counted

# Where the time of an input went, by the keys of `time_ms`.
STEPS = ("read", "decode", "prepare", "infer", "decode_outputs")
MAX_SHOWN = 200
# Keypoints that are shown of each prediction: all of a person, not all 468 of a face.
MAX_POINTS = 33
# Stretches of windows with the same top label that are shown of a recording.
MAX_STRETCHES = 20


def show(document: Mapping[str, Any]) -> None:
    """Prints one document; an error to standard error."""
    path = document["input"].get("path", "")
    if "error" in document:
        text = document["error"]
        print(printable(text if text.startswith(path) else f"{path}: {text}"), file=sys.stderr)
        return
    print(printable(path) + _place(document))
    for tensor in document.get("tensors", ()):
        print(f"  {_tensor_in_words(tensor)}")
    if "tensors" not in document:
        # What would be 0.00 % says nothing.
        listed = [one for one in document["predictions"] if one.get("confidence") != 0 or one.get("most")]
        for prediction in listed:
            print(f"  {_in_words(prediction)}")
        if not listed:
            print("  nothing")
        for line in _stretches(document.get("windows", ())):
            print(f"  {line}")
    if "time_ms" in document:
        print(f"  {_time(document['time_ms'])}")


def show_median(times: Sequence[Mapping[str, float]]) -> None:
    """Prints the median of each step over several inputs."""
    medians = {step: statistics.median(time[step] for time in times) for step in STEPS}
    print(f"median of {len(times)}: {_time(medians)}")


def _place(document: Mapping[str, Any]) -> str:
    windows = document.get("windows")
    if windows:
        return f": {counted(len(windows), 'window')}, the mean of each, and the most in one"
    if "frame" in document["input"]:
        return f" at {document['input']['position_s']:.1f} s"
    return ""


def _time(times: Mapping[str, float]) -> str:
    steps = ", ".join(f"{step.replace('_', ' ')} {times[step]:.1f}" for step in STEPS)
    return f"time: {steps}; {sum(times[step] for step in STEPS):.1f} ms in all"


def _stretches(windows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The windows in order, neighbours with the same top label as one: `3.9 s  Speech`."""
    found: list[tuple[str, str]] = []
    for number, window in enumerate(windows, 1):
        name = _top(window["predictions"])
        if name and (not found or found[-1][1] != name):
            begins = f"{window['position_s']:.1f} s" if "position_s" in window else f"window {number}"
            found.append((begins, name))
    if len(found) > 1:
        yield from (printable(f"from {begins}: {name}") for begins, name in found[:MAX_STRETCHES])
        if len(found) > MAX_STRETCHES:
            yield f"… and {len(found) - MAX_STRETCHES} more: --json has all"


def _top(predictions: Sequence[Mapping[str, Any]]) -> str:
    """The label of the first prediction; `-` where there is none, "" where predictions have no labels."""
    if not predictions:
        return "-"
    return str(predictions[0].get("label", ""))


def _tensor_in_words(tensor: Mapping[str, Any]) -> str:
    shape = " x ".join(map(str, tensor["shape"])) or "one value"
    values = json.dumps(tensor["values"])
    shown = values if len(values) <= MAX_SHOWN else f"{values[:MAX_SHOWN]}…"
    return printable(f"{tensor['name'] or '(no name)'}: {shape} {tensor['dtype']} {shown}")


def _in_words(prediction: Mapping[str, Any]) -> str:
    parts = []
    if "confidence" in prediction:
        parts.append(f"{prediction['confidence']:7.2%}")
    if "label" in prediction:
        parts.append(printable(prediction["label"]))
    if "value" in prediction:
        parts.append(f"{prediction['value']:.6g}")
    if "most" in prediction:
        most = f"{prediction['most']:.2%}" if "confidence" in prediction else f"{prediction['most']:.6g}"
        at = f" at {prediction['most_at_s']:.1f} s" if "most_at_s" in prediction else ""
        parts.append(f"up to {most}{at}")
    if "region" in prediction:
        parts.append(f"in {printable(prediction['region'])}")
    if "box" in prediction:
        x1, y1, x2, y2 = prediction["box"]
        parts.append(f"from ({x1:.0f}, {y1:.0f}) to ({x2:.0f}, {y2:.0f})")
    if "area" in prediction:
        parts.append(f"{prediction['area']} pixels")
    if points := prediction.get("keypoints"):
        more = f" … ({len(points)} points)" if len(points) > MAX_POINTS else ""
        parts.append("at " + " ".join(f"({point[0]:.0f}, {point[1]:.0f})" for point in points[:MAX_POINTS]) + more)
    if "vector" in prediction:
        parts.append(f"vector of {counted(len(prediction['vector']), 'number')}")
    return "  ".join(parts)
