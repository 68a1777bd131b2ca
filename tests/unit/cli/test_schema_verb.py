from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import septum
from septum.policy.schema import schema


@pytest.mark.parametrize("kind", ["mesh", "policy", "test"])
def test_a_schema_is_printed_as_json(kind: str, tmp_path: Path) -> None:
    ran = septum("schema", kind, cwd=tmp_path)
    assert ran.status == 0
    assert json.loads(ran.out) == schema(kind)
    assert json.loads(ran.out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_there_are_three_kinds(tmp_path: Path) -> None:
    ran = septum("schema", "rules", cwd=tmp_path)
    assert ran.status == 2
    assert "'mesh', 'policy', 'test'" in ran.err
