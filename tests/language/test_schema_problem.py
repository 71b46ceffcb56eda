"""A schema that can't be used: the place in it, and what is not supported there."""

import time
from typing import Any

import pytest

from edge_agent.language.constraint import schema_problem
from tests.broker import PATIENCE

NUMBERS = {"oneOf": [{"type": "integer"}, {"type": "number"}]}
OK: dict[str, Any] = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "place", "meaning"),
    [
        ({"not": OK}, "", "`not` is not supported"),
        ({"if": OK, "then": OK}, "", "`if` and `then` are not supported"),
        (NUMBERS, "", "`oneOf` is not supported where several may fit: use `anyOf`"),
        ({"type": "object", "properties": {"a": OK, "b/~": NUMBERS}}, "/properties/b~1~0", "use `anyOf`"),
        (
            {"type": "array", "items": {"anyOf": [OK, {"type": "string", "format": "x"}]}},
            "/items/anyOf/1",
            "`format` 'x'",
        ),
        ({"type": "string", "pattern": "("}, "", "`pattern` can't be used: unclosed group"),
        ({"prefixItems": [OK, {"type": "string", "pattern": "(?=a)"}]}, "/prefixItems/1", "look-around"),
        ({"additionalProperties": {"type": "lamp"}}, "/additionalProperties", "Invalid type: lamp"),
        ({"$ref": "#/$defs/a", "$defs": {"b": OK}}, "", "a `$ref` leads to '/$defs/a', which is not there"),
        ({"$ref": "https://x.example/y"}, "", "a `$ref` to another document"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"uniqueItems": True}}}}, "/$defs/a/items", "`uniqueItems`"),
        ({"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": NUMBERS}}, "/$defs/n", "use `anyOf`"),
        (
            {"type": "integer", "minimum": 3, "maximum": 1},
            "",
            "nothing can fit: minimum (3) is greater than maximum (1)",
        ),
        ({"type": "string", "pattern": "^a$", "minLength": 3}, "", "nothing can fit: `pattern`"),
        ({"properties": 3}, "", "properties must be an object"),
    ],
)
def test_the_place_and_the_rule_are_named(schema: Any, place: str, meaning: str) -> None:
    said = schema_problem(schema)
    assert meaning in said
    assert said.startswith(f"at {place}: ") if place else not said.startswith("at ")
    assert "\n" not in said


@pytest.mark.parametrize(
    "schema", [{}, OK, {"properties": {"a": {"$ref": "#"}}}, {"$ref": "#/$defs/a", "$defs": {"a": OK}}]
)
def test_a_schema_that_can_be_used_has_no_problem(schema: Any) -> None:
    assert schema_problem(schema) == ""


def test_the_search_for_the_place_is_bounded() -> None:
    schema = {"properties": {f"p{number}": {"anyOf": [OK] * 5} for number in range(300)} | {"last": NUMBERS}}
    began = time.monotonic()
    assert "use `anyOf`" in schema_problem(schema)
    assert time.monotonic() - began < 5 * PATIENCE
