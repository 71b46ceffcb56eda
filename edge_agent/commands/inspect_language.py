"""`inspect` for a language model: what it is, and what memory it takes."""

import json
from pathlib import Path
from typing import Any

from edge_agent.language.genai_config import read_sizes
from edge_agent.models.language import LanguageSource
from edge_agent.settings.text import Language
from edge_agent.system.units import format_size

_FORMATS = {"genai": "ONNX Runtime GenAI", "gguf": "GGUF (llama.cpp)"}


def run(model: LanguageSource, *, as_json: bool) -> int:
    """Prints the facts; returns the exit code.

    Raises:
        ModelError: its configuration can't be read.
    """
    document = _facts(model)
    if as_json:
        print(json.dumps(document, indent=2))
        return 0
    print(f"file        {model.path}, {format_size(model.size)}, sha256 {model.sha256[:12]}")
    print(f"format      {_FORMATS[model.format]}")
    print("task        text: see the documentation of language models")
    if model.format == "genai":
        context = min(document["context"], Language().context)
        print(f"context     {document['context']} tokens")
        print(f"vocabulary  {document['vocabulary']} tokens")
        print(f"cache       {format_size(document['session_size'])} for each conversation of {context} tokens")
    return 0


def _facts(model: LanguageSource) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "path": str(model.path),
        "engine": model.format,
        "sha256": model.sha256,
        "size": model.size,
        "version": model.version,
        "task": "text",
    }
    if model.format == "genai":
        sizes = read_sizes(Path(model.path))
        facts |= {"context": sizes.context, "vocabulary": sizes.vocabulary}
        facts["session_size"] = sizes.session(Language().context)
    return facts
