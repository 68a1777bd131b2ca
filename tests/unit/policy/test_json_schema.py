from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import meshes
from literate import Case, cases
from septum.policy.cases_file import read_cases
from septum.policy.load import load
from septum.policy.roles import Role, role
from septum.policy.schema import KINDS, schema
from septum.policy.source import Mapping, Node, Scalar, Sequence, read

SHOP = Path(__file__).parents[3] / "examples" / "shop"
CASES = list(cases())
# What a schema can see: keys, shapes, and values of a form that is known.
SHAPE = {"SEP201", "SEP202", "SEP204", "SEP207"}


def value(node: Node | None) -> Any:
    """The tree as an editor's YAML reader gives it to a JSON Schema validator."""
    match node:
        case Scalar():
            return _scalar(node)
        case Sequence():
            return [value(item) for item in node.items]
        case Mapping():
            return {key.text: value(item) for key, item in node.entries}
        case _:
            return None


def _scalar(node: Scalar) -> Any:
    known = {"true": True, "false": False, "null": None, "~": None, "": None}
    if not node.plain:
        return node.text
    return int(node.text) if node.text.isascii() and node.text.isdigit() else known.get(node.text, node.text)


_KINDS = {Role.MESH: "mesh", Role.POLICY: "policy", Role.TEST: "test"}


def problems(path: str, content: bytes) -> list[str]:
    kind = _KINDS.get(role(path))
    if kind is None:
        return []
    found = Draft202012Validator(schema(kind)).iter_errors(value(read(path, content).root))
    return [f"{path}: {error.json_path}: {error.message}" for error in found]


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_schema_is_a_schema(kind: str) -> None:
    Draft202012Validator.check_schema(schema(kind))


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_key_is_described(kind: str) -> None:
    def undescribed(node: Any, at: str = "") -> list[str]:
        properties = node.get("properties", {}) if isinstance(node, dict) else {}
        below = [
            x
            for key, item in (node.items() if isinstance(node, dict) else ())
            for x in undescribed(item, f"{at}.{key}")
        ]
        return [f"{at}.{key}" for key, item in properties.items() if "description" not in item] + below

    assert undescribed(schema(kind)) == []


def test_the_shop_fits() -> None:
    files = {path.relative_to(SHOP).as_posix(): path.read_bytes() for path in SHOP.rglob("*.yaml")}
    assert len(files) > 1
    assert [problem for path, content in files.items() for problem in problems(path, content)] == []
    assert problems("septum.yaml", meshes.SHOP.encode()) == []
    assert problems("policy/a.yaml", meshes.SHOP_RULES.encode()) == []
    assert problems("policy/a.yaml", b"# nothing yet\n") == []


@pytest.mark.parametrize("case", [case for case in CASES if case.asked], ids=str)
def test_what_the_checker_takes_fits(case: Case) -> None:
    assert [problem for path, content in case.files.items() for problem in problems(path, content)] == []


@pytest.mark.parametrize("case", [case for case in CASES if case.findings is not None], ids=str)
def test_what_has_not_the_shape_does_not_fit(case: Case) -> None:
    loaded = load(case.files)
    found = (*loaded.diagnostics, *read_cases(case.files, loaded.partial).diagnostics)
    for path in {diagnostic.span.file for diagnostic in found if diagnostic.code in SHAPE}:
        assert problems(path, case.files[path]) != [], path


@pytest.mark.parametrize(
    "workload",
    [
        "{segment: a, at: 127.0.0.1:1, protocol: http, websocket: yes}",
        "{segment: a, at: 127.0.0.1:1, protocol: http, timeouts: {idle: 5}}",
        "{segment: a, at: 127.0.0.1:1, protocol: http, timeouts: {idle: 5 s}}",
        "{segment: a, at: 127.0.0.1:1, protocol: http, limits: {pending: 0}}",
        "{segment: a, at: 127.0.0.1:1, protocol: htp}",
        "{segment: a, at: 127.0.0.1:1, protocol: http, mode: off}",
        "{at: 127.0.0.1:1, protocol: http}",
        "[]",
    ],
)
def test_a_value_that_the_checker_refuses_by_its_form_does_not_fit(workload: str) -> None:
    mesh = f"mesh: m\ntrust_domain: m.test\nsegments: {{a: null}}\nworkloads:\n  w: {workload}\n"
    assert meshes.read(mesh=mesh).policy is None
    assert problems("septum.yaml", mesh.encode()) != []


def test_a_bare_zero_is_a_duration() -> None:
    mesh = meshes.SHOP.replace("protocol: tcp", "protocol: tcp, timeouts: {idle: 0, request: 1.5s}")
    assert meshes.read(mesh=mesh).errors == ()
    assert problems("septum.yaml", mesh.encode()) == []
