"""The JSON Schema of the configuration, with the documentation of each key."""

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from edge_agent.settings import Settings
from edge_agent.settings.base import Frozen


def json_schema() -> dict[str, Any]:
    """The schema as a document.

    The description of a key is the text below its field in the source file. Reading the sources takes a tenth of a
    second on a small device, so this is not done when the settings are imported.
    """
    for model in _all(Frozen):
        for name, text in _documentation(model).items():
            if name in model.model_fields:
                model.model_fields[name].description = text
        model.model_rebuild(force=True)
    return Settings.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def _all(base: type[Frozen]) -> list[type[Frozen]]:
    """All classes of settings, base classes first."""
    return [model for child in base.__subclasses__() for model in (child, *_all(child))]


def _documentation(model: type[Frozen]) -> dict[str, str]:
    inherited = [_documentation(base) for base in model.__bases__ if issubclass(base, Frozen) and base is not Frozen]
    return {name: text for texts in inherited for name, text in texts.items()} | _own_documentation(model)


def _own_documentation(model: type[Frozen]) -> dict[str, str]:
    """The text below each field."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef), "of a class the source is a class"  # noqa: S101 - for the type checker
    return {
        field.target.id: inspect.cleandoc(below.value.value)
        for field, below in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
