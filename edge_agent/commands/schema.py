"""`schema`: the JSON Schema of the configuration, for editors, with the documentation of each key."""

import ast
import inspect
import json
import textwrap
from itertools import pairwise

from edge_agent.settings import Settings
from edge_agent.settings.base import Frozen


def run() -> int:
    """Prints it; returns the exit code."""
    # Reading the sources for it takes a tenth of a second on a small device: the daemon has no use for it.
    for model in _all(Frozen):
        for name, text in _documentation(model).items():
            if name in model.model_fields:
                model.model_fields[name].description = text
        model.model_rebuild(force=True)
    document = Settings.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    print(json.dumps(document, indent=2))
    return 0


def _all(base: type[Frozen]) -> list[type[Frozen]]:
    """The settings of every part, each after those that it is made of."""
    return [model for child in base.__subclasses__() for model in (child, *_all(child))]


def _documentation(model: type[Frozen]) -> dict[str, str]:
    """What stands under each field."""
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
