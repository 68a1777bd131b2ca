from __future__ import annotations

import pytest

from septum.model.request_path import RefusedPath, canonical_path


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", "/"),
        ("/a?b=/c#".rstrip("#"), "/a"),
        ("/a?", "/a"),
        ("/a/../b", "/b"),
        ("/../../a", "/a"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/./b", "/a/b"),
        ("/%2e%2e/a", "/a"),
        ("//a///b", "/a/b"),
        ("/%61%7E", "/a~"),
        ("/%c3%a9", "/%c3%a9"),
        ("/a\\b", "/a/b"),
        ("/a;b=c", "/a;b=c"),
        ("/a{b}", "/a%7Bb%7D"),
    ],
)
def test_a_path_as_the_policy_sees_it(target: str, expected: str) -> None:
    assert canonical_path(target) == expected
    assert canonical_path(target.encode()) == expected


@pytest.mark.parametrize(
    "target", ["", "a", "*", "http://a/b", "/a#b", "/a b", "/a\n", "/é", "/a%2fb", "/a%5Cb", "/a%00"]
)
def test_a_path_that_is_refused_before_any_policy_is_asked(target: str) -> None:
    with pytest.raises(RefusedPath):
        canonical_path(target)


def test_bytes_that_are_not_ascii_are_refused() -> None:
    with pytest.raises(RefusedPath):
        canonical_path(b"/\xff")
