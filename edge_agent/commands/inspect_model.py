"""`inspect` for a .tflite or .onnx file, or a bundle of such: its facts, and how it would be read."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from edge_agent import settings
from edge_agent.config import loader
from edge_agent.config.loader import NO_LABELS
from edge_agent.errors import ModelError
from edge_agent.modelfile.facts import Compiled, ModelFile, Suppression, Tensor
from edge_agent.models.accelerator_choice import operator_hint
from edge_agent.models.bundle import Evaluated, manifest_beside
from edge_agent.models.io_spec import IOSpec, UnclearError, derive
from edge_agent.models.resolve import ModelSource
from edge_agent.system.terminal import printable
from edge_agent.system.units import format_size

SHOWN_LABELS = 3
SHOWN_OPERATORS = 8
SHOWN_CHARACTERS = 160
MAX_TEXT = 10_000
# Placeholder in the printed configuration for what the user has to state.
BLANK = "???"
_FORMATS = {"tflite": "TFLite", "onnx": "ONNX", "hef": "HEF (Hailo)", "rknn": "RKNN (Rockchip)", "rpk": "RPK (IMX500)"}


def run(source: ModelSource, options: settings.Model, *, as_json: bool) -> int:
    """Prints the facts; returns the exit code.

    Args:
        source: of the model.
        options: that it was resolved with.
        as_json: print one JSON document instead of lines.
    """
    spec: IOSpec | None = None
    missing: Mapping[str, str] = {}
    problem = decoder = way_out = ""
    evidence: list[str] = []
    try:
        spec = derive(source.file, source.stated)
        decoder, evidence = spec.family, spec.evidence
    except UnclearError as error:
        missing, decoder, evidence, way_out = error.missing, error.family, error.evidence, error.way_out
    except ModelError as error:
        problem = str(error)
    configuration = {} if problem else _configuration(options, missing)
    if as_json:
        document = _document(source, spec) | {
            "decoder": decoder or None,
            "evidence": evidence,
            "missing": dict(missing),
            "problem": problem or None,
            "configuration": configuration or None,
        }
        print(json.dumps(document, indent=2))
    else:
        decoder += ", once it is stated what is missing" if missing else ""
        _show(source, spec, f"none: {problem}" if problem else decoder, evidence, [*missing.values(), way_out])
        if configuration:
            print("\nIn a configuration" + (f", with each {BLANK} filled in:\n" if missing else ":\n"))
            print(yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True), end="")
    return 0


def _document(source: ModelSource, spec: IOSpec | None) -> dict[str, Any]:
    file = source.file
    labels = spec.labels if spec else source.stated.labels or file.labels
    return {
        "path": str(file.path),
        "engine": file.format,
        "format_version": file.version,
        "sha256": file.sha256,
        "size": file.size,
        "version": source.version,
        "description": file.description,
        "inputs": [_tensor(tensor) for tensor in file.inputs],
        "outputs": [_tensor(tensor) for tensor in file.outputs],
        "operators": dict(file.operators),
        "custom_operators": list(file.custom_operators),
        "metadata": dict(file.metadata),
        "labels": list(labels) if labels is not None else None,
        "task": spec.task if spec else None,
        "compiled": _compiled(file.compiled) if file.compiled else None,
        "variants": {name: str(one.path) for name, one in source.compiled.items()},
        "unfit": dict(source.unfit),
        "evaluated": [one.model_dump(mode="json", exclude_none=True) for one in evaluated(source.file.path)],
    }


def _compiled(compiled: Compiled) -> dict[str, Any]:
    return {
        "target": compiled.target,
        "chips": list(compiled.chips),
        "compiler": compiled.compiler or None,
        "stored_inputs": [_tensor(tensor) for tensor in compiled.stored_inputs],
        "stored_outputs": [_tensor(tensor) for tensor in compiled.stored_outputs],
        "suppression": asdict(compiled.suppression) if compiled.suppression else None,
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    quantization = None
    if tensor.scale is not None:
        quantization = {"scale": tensor.scale, "zero_point": tensor.zero_point}
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "quantization": quantization,
    }


def _configuration(options: settings.Model, missing: Mapping[str, str]) -> dict[str, Any]:
    """A `models` section for this model with the stated options, and blanks for what is missing."""
    path = loader.resolve(options.path, Path.cwd())
    stated = options.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    stated["path"] = str(path.resolve()) if path.exists() else str(options.path)
    if options.labels not in (None, NO_LABELS):
        stated["labels"] = str(loader.resolve(options.labels, Path.cwd()).resolve())
    for key in missing:
        *sections, last = key.split(".")
        place = stated
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = BLANK
    if not stated.get("preprocess"):
        stated.pop("preprocess", None)
    name = re.sub(r"[/+#$\s]", "-", path.stem if path.exists() else str(options.path))
    return {"models": {name[:64]: stated}}


def _show(
    source: ModelSource,
    spec: IOSpec | None,
    decoder: str,
    evidence: Sequence[str],
    missing: Sequence[str],
) -> None:
    file = source.file
    facts = {key: value for key, value in file.metadata.items() if value not in file.description}
    rows = [
        ("file", f"{file.path}, {format_size(file.size)}, sha256 {file.sha256[:12]}"),
        ("format", f"{_FORMATS[file.format]}, {file.version}"),
        ("description", _cut(file.description)),
        *(("input", _in_words(tensor)) for tensor in file.inputs),
        *(("output", _in_words(tensor)) for tensor in file.outputs),
        *(_rows_of_chip(file.compiled) if file.compiled else ()),
        *(("variant", f"{name}: {one.path.name}, {_made_for(one)}") for name, one in source.compiled.items()),
        *(("variant", f"{name}: {why}") for name, why in source.unfit.items()),
        ("operators", _most_used(file)),
        ("custom", ", ".join(file.custom_operators)),
        ("custom", operator_hint(file)),
        ("labels", _labels(spec.labels if spec else source.stated.labels or file.labels)),
        *(("metadata", _cut(f"{key}: {value}")) for key, value in facts.items()),
        ("decoder", decoder),
        *(("evidence", fact) for fact in evidence),
        *(("evaluated", evaluated_in_words(one, file.sha256)) for one in evaluated(file.path)),
        *(("missing", question) for question in missing),
    ]
    last = ""
    for name, text in rows:
        if text:
            print(f"{name if name != last else '':<12}{printable(text)}")
            last = name


def evaluated(file: Path) -> Sequence[Evaluated]:
    """What the bundle of a model file states of how right it was found to be."""
    manifest = manifest_beside(file)
    return manifest.evaluated if manifest else ()


def evaluated_in_words(one: Evaluated, sha256: str) -> str:
    """`top1 0.874 (0.85 to 0.89); 1000 samples of photos (data 1a2b3c4d5e6f), on cpu of …`.

    Args:
        one: what the bundle states.
        sha256: of the bundle's model file as it is now.
    """
    figures = []
    for key, value in one.metrics.items():
        low_high = one.interval.get(key)
        figures.append(f"{key} {value:.4g}" + (f" ({low_high[0]:.4g} to {low_high[1]:.4g})" if low_high else ""))
    where = f"on {one.accelerator} of {one.machine}, {one.at[:10]}"
    where += "" if one.model_sha256 == sha256 else f"; of another file, sha256 {one.model_sha256[:12]}"
    return f"{', '.join(figures)}; {one.samples} samples of {one.data} (data {one.data_sha256[:12]}), {where}"


def _rows_of_chip(compiled: Compiled) -> list[tuple[str, str]]:
    """What a file that is compiled for a chip states besides."""
    return [
        ("chip", f"{compiled.target}: runs on {', '.join(compiled.chips) or 'no chip that is known here'}"),
        ("compiler", compiled.compiler),
        *(("on the chip", _in_words(tensor)) for tensor in (*compiled.stored_inputs, *compiled.stored_outputs)),
        ("suppression", _suppression(compiled.suppression)),
    ]


def _made_for(file: ModelFile) -> str:
    return f"{_FORMATS[file.format]}" + (f" for {file.compiled.target}" if file.compiled else "")


def _suppression(found: Suppression | None) -> str:
    if found is None:
        return "not in the file"
    facts = {
        "of": found.kind,
        "classes": found.classes or "",
        "at most": found.max_per_class or "",
        "scores above": "" if found.score_threshold is None else f"{found.score_threshold:.3g}",
        "overlap below": "" if found.iou_threshold is None else f"{found.iou_threshold:.3g}",
    }
    return ", ".join(["in the file", *(f"{key} {fact}" for key, fact in facts.items() if fact != "")])


def _cut(text: str) -> str:
    """Text from the file as one line of bounded length."""
    line = " ".join(text[:MAX_TEXT].split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}…"


def _in_words(tensor: Tensor) -> str:
    shape = " x ".join("?" if size < 0 else str(size) for size in tensor.shape) or "one value, or open until it runs,"
    quantised = ""
    if tensor.scale is not None:
        stored = f"(stored {'-' if tensor.zero_point > 0 else '+'} {abs(tensor.zero_point)})"
        quantised = f", real value = {tensor.scale:.6g} * {stored if tensor.zero_point else 'stored'}"
    return f"{tensor.name or '(no name)'}: {shape} {tensor.dtype}{quantised}"


def _most_used(file: ModelFile) -> str:
    ranked = sorted(file.operators.items(), key=lambda item: -item[1])
    more = f" and {len(ranked) - SHOWN_OPERATORS} other kinds" if len(ranked) > SHOWN_OPERATORS else ""
    return ", ".join(f"{count} {name}" for name, count in ranked[:SHOWN_OPERATORS]) + more


def _labels(labels: tuple[str, ...] | None) -> str:
    if labels is None:
        return "none in the file"
    more = f"; …; {labels[-1]}" if len(labels) > SHOWN_LABELS else ""
    return _cut(f"{len(labels)}: {'; '.join(labels[:SHOWN_LABELS])}{more}")
