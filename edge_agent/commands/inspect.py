"""`inspect`: what a model file is, and how it would be read, with the evidence; or what is missing to read it."""

import json
from pathlib import Path
from typing import Any

from edge_agent import settings
from edge_agent.errors import ModelError
from edge_agent.models import model as models
from edge_agent.models.model_file import ModelFile, Tensor
from edge_agent.models.reading import Reading, UnclearError, read_classifier
from edge_agent.units import format_size

SHOWN_LABELS = 3
SHOWN_OPERATORS = 8


def run(options: settings.Model, *, as_json: bool) -> int:
    """Prints the facts; returns the exit code.

    Raises:
        ModelError: the file can't be read.
    """
    source = models.find(options, Path.cwd())
    reading: Reading | None = None
    missing: tuple[str, ...] = ()
    try:
        reading = read_classifier(source.file, source.stated)
    except UnclearError as error:
        missing = error.missing
    except ModelError as error:
        missing = (str(error),)
    if as_json:
        print(json.dumps(_document(source, reading, missing), indent=2))
    else:
        _show(source.file, options, reading, missing)
    return 0


def _document(source: models.ModelSource, reading: Reading | None, missing: tuple[str, ...]) -> dict[str, Any]:
    file = source.file
    labels = reading.labels if reading else file.labels
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
        "task": "classification" if reading else None,
        "decoder": "classification" if reading else None,
        "evidence": reading.evidence if reading else [],
        "missing": list(missing),
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


def _show(file: ModelFile, options: settings.Model, reading: Reading | None, missing: tuple[str, ...]) -> None:
    rows = [
        ("file", f"{file.path}, {format_size(file.size)}, sha256 {file.sha256[:12]}"),
        ("engine", f"{file.format}, {file.version}"),
        ("description", file.description),
        *(("input", _in_words(tensor)) for tensor in file.inputs),
        *(("output", _in_words(tensor)) for tensor in file.outputs),
        ("operators", _most_used(file)),
        ("custom", ", ".join(file.custom_operators)),
        ("labels", _labels(reading.labels if reading else file.labels)),
        *(("metadata", f"{key}: {' '.join(value.split())[:100]}") for key, value in file.metadata.items()),
        *(("read as", fact) for fact in (["classification", *reading.evidence] if reading else [])),
        *(("missing", fact) for fact in missing),
    ]
    last = ""
    for name, text in rows:
        if text:
            print(f"{name if name != last else '':<12} {text}")
            last = name
    if reading:
        print("\nmodels:\n  NAME:\n    path:", options.path)
        if options.labels:
            print("    labels:", options.labels)
        if options.preprocess.normalize:
            print(f"    preprocess: {{normalize: {options.preprocess.normalize}}}")


def _in_words(tensor: Tensor) -> str:
    shape = " x ".join("?" if size < 0 else str(size) for size in tensor.shape) or "scalar, or open until it runs"
    quantised = f", real = {tensor.scale:.6g} * (stored - {tensor.zero_point})" if tensor.scale else ""
    return f"{tensor.name or '(no name)'}: {shape}, {tensor.dtype}{quantised}"


def _most_used(file: ModelFile) -> str:
    ranked = sorted(file.operators.items(), key=lambda item: -item[1])
    more = f" and {len(ranked) - SHOWN_OPERATORS} more kinds" if len(ranked) > SHOWN_OPERATORS else ""
    return ", ".join(f"{count} {name}" for name, count in ranked[:SHOWN_OPERATORS]) + more


def _labels(labels: tuple[str, ...] | None) -> str:
    if labels is None:
        return "none in the file"
    more = f", … {labels[-1]}" if len(labels) > SHOWN_LABELS else ""
    return f"{len(labels)}: {', '.join(labels[:SHOWN_LABELS])}{more}"
