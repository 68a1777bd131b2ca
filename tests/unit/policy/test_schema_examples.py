"""The JSON Schemas take every file that the documentation, the examples and the tests show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from test_json_schema import problems, value

from septum.policy.schema import schema
from septum.policy.shape import MESH, POLICY
from septum.policy.source import Mapping, Node, Sequence, read

ROOT = Path(__file__).parents[3]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "examples").rglob("*.md")])
_BLOCK = re.compile(r"^```yaml([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, Node | None]]:
    """Every YAML block of every page, and where it stands."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            source = read(page.name, match[2].encode())
            assert source.diagnostics == (), page
            found.append((f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}", source.root))
    return found


def kind_of(root: Node | None) -> str | None:
    """Which kind of file a block is, or a part of."""
    if isinstance(root, Sequence):
        return "test"
    keys = {key.text for key, _ in root.entries} if isinstance(root, Mapping) else set()
    if keys <= POLICY.keys.keys():
        return "policy"
    return "mesh" if keys <= MESH.keys.keys() else None


BLOCKS = blocks()


@pytest.mark.parametrize(("place", "root"), BLOCKS, ids=[place for place, _ in BLOCKS])
def test_an_example_of_the_documentation_fits(place: str, root: Node | None) -> None:
    kind = kind_of(root)
    if kind is None:
        assert isinstance(root, Mapping)
        assert [key.text for key, _ in root.entries] == ["repos"], place  # what pre-commit reads
        return
    whole = schema(kind)
    whole.pop("required", None)  # an example may be a part of a file
    assert [error.message for error in Draft202012Validator(whole).iter_errors(value(root))] == [], place


def test_there_are_examples_of_each_kind() -> None:
    assert {kind_of(root) for _, root in BLOCKS} == {"mesh", "policy", "test", None}


def test_every_example_file_fits() -> None:
    files = [path for path in (ROOT / "examples").rglob("*.yaml") if (path.parent / "septum.yaml").exists()]
    files += list((ROOT / "examples").rglob("policy/**/*.yaml"))
    assert len(files) > 4
    for path in files:
        name = "septum.yaml" if path.name == "septum.yaml" else f"policy/{path.name}"
        assert problems(name, path.read_bytes()) == [], path


FULL: dict[str, Any] = {
    "septum.yaml": "septum: 1\nmesh: m\ntrust_domain: m.test\nsegments: {s: null}\nworkloads: {}\n",
    "policy/a.yaml": (
        "allow:\n  - {name: g, from: a, to: b, from_time: 2027-01-01T00:00:00Z, until: 2027-01-31T00:00:00Z}\n"
        "guarantees:\n  - name: n\n    never: {from: a, to: b, through: any, http: [* /x]}\n"
        "    override: {name: x, because: y, until: 2027-01-31T00:00:00Z}\n"
        "  - only: {from: a, to: b}\n  - always: {from: [a], to: [b], grpc: p.S/M}\n"
    ).replace("[* /x]", '["* /x"]'),
}


@pytest.mark.parametrize("path", FULL)
def test_every_key_of_grants_and_guarantees_fits(path: str) -> None:
    assert problems(path, FULL[path].encode()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "allow:\n  - {from: a, to: b, untl: 2027-01-31T00:00:00Z}\n",
        "allow:\n  - {from: a, to: b, until: [2027-01-31T00:00:00Z]}\n",
        "guarantees:\n  - never: {from: a}\n",
        "guarantees:\n  - never: {from: a, to: b, through: some}\n",
        "guarantees:\n  - {name: n, override: {name: x, until: 2027-01-31T00:00:00Z}}\n",
    ],
)
def test_what_is_misspelt_in_them_does_not(wrong: str) -> None:
    assert problems("policy/a.yaml", wrong.encode()) != []
