"""Patches, as git takes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from septum.policy.upkeep.patch import patch


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a\nb\nc\n", b"a\nc\n"),
        (b"a\nb", b"a\nb\n"),
        (b"a\nb\n", b"a\nb"),
        (b"a", b"b"),
        (b"a\r\nb\r\n", b"a\r\n"),
        (b"a\x0cb\xc2\x85c\nd\n", b"a\x0cb\xc2\x85c\n"),
        (b"", b"a\n"),
        (None, b"a\nb\n"),
    ],
)
@pytest.mark.parametrize("name", ["policy/a.yaml", "policy/with space.yaml", 'policy/"q".yaml', "policy/ü.yaml"])
def test_git_makes_the_new_of_the_old(tmp_path: Path, name: str, before: bytes | None, after: bytes) -> None:
    for path, content in ((name, before), ("policy/b.yaml", b"1\n2\n")):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        if content is not None:
            (tmp_path / path).write_bytes(content)
    old = {"policy/b.yaml": b"1\n2\n"} | ({} if before is None else {name: before})
    text = patch(old, {name: after, "policy/b.yaml": b"2\n"})
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=text.encode(), check=True, capture_output=True)
    assert (tmp_path / name).read_bytes() == after
    assert (tmp_path / "policy/b.yaml").read_bytes() == b"2\n"


def test_what_did_not_change_is_not_in_it() -> None:
    assert patch({"a": b"x\n"}, {"a": b"x\n"}) == ""
    assert patch({"a": b"x\n"}, {"a": b"y\n"}, "shop/").splitlines()[:3] == [
        "diff --git a/shop/a b/shop/a",
        "--- a/shop/a",
        "+++ b/shop/a",
    ]
