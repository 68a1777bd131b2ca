"""JSON Schema (2020-12) of the kinds of file, made from the shapes that the checker walks."""

from __future__ import annotations

from typing import Any, assert_never

from septum.policy.shape import CASES, MESH, POLICY, Data, Either, Flag, Keys, Many, Named, Number, Shape, Text, Value

KINDS: dict[str, Shape] = {"mesh": MESH, "policy": POLICY, "test": CASES}


def schema(kind: str) -> dict[str, Any]:
    """The schema of `mesh` (septum.yaml), `policy` (policy/*.yaml) or `test` (policy/*_test.yaml).

    Raises KeyError for another kind.
    """
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"Septum {kind}"}
    body = _of(KINDS[kind])
    if kind != "mesh":
        body["type"] = [body["type"], "null"]  # a file with nothing but comments allows nothing, and tests nothing
    return head | body


def _of(shape: Shape) -> dict[str, Any]:
    described = {"description": shape.doc} if shape.doc else {}
    match shape:
        case Text():
            return described | _text(shape)
        case Flag():
            return described | {"type": "boolean"}
        case Number(least=least, most=most):
            return described | {"type": "integer", "minimum": least, "maximum": most}
        case Value() | Data():
            further = ["array", "object"] if isinstance(shape, Data) else []
            return described | {"type": ["string", "integer", "boolean", *further]}
        case Named(of=of, required=required):
            body: dict[str, Any] = {"type": "object", "additionalProperties": _of(of)}
            return described | body | ({"required": list(required)} if required else {})
        case Either(value=value, one_of=one_of):
            one = _of(one_of) | {"minProperties": 1, "maxProperties": 1}
            return described | {"oneOf": [_of(value), one]}
        case Many():
            return described | _many(shape)
        case Keys(keys=keys, required=required):
            properties = {name: _of(value) for name, value in keys.items()}
            body = {"type": "object", "properties": properties, "additionalProperties": False}
            return described | body | ({"required": list(required)} if required else {})
        case _:
            assert_never(shape)


def _many(shape: Many) -> dict[str, Any]:
    items: dict[str, Any] = {"type": "array", "items": _of(shape.of)}
    if shape.empty:
        items["minItems"] = 1
    return {"oneOf": [_of(shape.of), items]} if shape.or_one else items


def _text(shape: Text) -> dict[str, Any]:
    body: dict[str, Any] = {"type": "string"}
    if shape.or_nothing:
        body["type"] = ["string", "null"]
    else:
        body["minLength"] = 1
    if shape.choices:
        body["enum"] = list(shape.choices)
    if shape.pattern:
        body["pattern"] = f"^(?:{shape.pattern.regex})$"
    if shape.example:
        body["examples"] = [shape.example]
    return {"anyOf": [body, {"const": 0}]} if shape.or_zero else body
