from __future__ import annotations

import pytest

from septum.model.operation import (
    METHODS,
    ConnectOperation,
    GrpcOperation,
    HttpOperation,
    HttpPattern,
    PathPattern,
    PatternError,
    RefusedOperation,
)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/b.json", "/a/b.json"),
        ("/{x}", "/a"),
        ("/a/{x}/b", "/a/1/b"),
        ("/a/{x}/", "/a/1/"),
        ("/**", "/"),
        ("/**", "/a"),
        ("/**", "/a/b/"),
        ("/a/**", "/a"),
        ("/a/**", "/a/"),
        ("/a/**", "/a/b/c"),
        ("/a/{x}/**", "/a/1"),
        ("/%C3%A9", "/%C3%A9"),
        ("/a@b:c!$&'()*+,=~-_.".replace("*", ""), "/a@b:c!$&'()+,=~-_."),
    ],
)
def test_a_pattern_matches(pattern: str, path: str) -> None:
    assert PathPattern.parse(pattern).matches(path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/", "/a"),
        ("/a", "/"),
        ("/a", "/a/"),
        ("/a/", "/a"),
        ("/a", "/ab"),
        ("/a", "/A"),
        ("/{x}", "/"),
        ("/{x}", "/a/"),
        ("/{x}", "/a/b"),
        ("/a/{x}", "/a/"),
        ("/a/{x}/**", "/a/"),
        ("/a/{x}/**", "/a"),
        ("/a/**", "/ab"),
        ("/a/**", "/"),
        ("/a/", "/a/b"),
        ("/a.b", "/axb"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, path: str) -> None:
    assert not PathPattern.parse(pattern).matches(path)


def test_case_is_ignored_only_where_it_is_asked_for() -> None:
    assert PathPattern.parse("/Ab/{x}").matches("/aB/Q", ignore_case=True)
    assert not PathPattern.parse("/Ab/{x}").matches("/aB/Q")


@pytest.mark.parametrize(
    ("pattern", "literal", "prefix"),
    [
        ("/", "/", "/"),
        ("/a/b", "/a/b", "/a/b"),
        ("/a/", "/a/", "/a/"),
        ("/a/{x}/b", None, "/a/"),
        ("/a/**", None, "/a"),
        ("/**", None, ""),
        ("/{x}", None, "/"),
    ],
)
def test_what_is_literal_of_a_pattern(pattern: str, literal: str | None, prefix: str) -> None:
    parsed = PathPattern.parse(pattern)
    assert (parsed.literal, parsed.literal_prefix) == (literal, prefix)
    assert str(parsed) == pattern


@pytest.mark.parametrize(
    ("pattern", "wrong"),
    [
        ("", ""),
        ("a/b", "a/b"),
        ("//", "//"),
        ("/a//b", "//"),
        ("/a/../b", ".."),
        ("/a/.", "."),
        ("/a*", "a*"),
        ("/*", "*"),
        ("/**/a", "**"),
        ("/a/***", "***"),
        ("/{}", "{}"),
        ("/{1}", "{1}"),
        ("/a{x}", "a{x}"),
        ("/{x}y", "{x}y"),
        ("/a?x=1", "a?x=1"),
        ("/a#b", "a#b"),
        ("/a;b", "a;b"),
        ("/%41", "%41"),
        ("/a%7Eb", "%7E"),
        ("/a%2Fb", "a%2Fb"),
        ("/a%5cb", "a%5cb"),
        ("/a%c3", "%"),
        ("/a%zz", "%"),
        ("/é", "é"),
        ("/a b", " "),
        ("/a\\b", "\\"),
        ("/a\n", "\n"),
    ],
)
def test_what_no_path_can_match_is_no_pattern_and_the_error_points_at_it(pattern: str, wrong: str) -> None:
    with pytest.raises(PatternError) as caught:
        PathPattern.parse(pattern)
    error = caught.value
    assert pattern[error.offset : error.offset + error.length] == wrong
    assert error.message == str(error)


def test_an_http_pattern_has_methods_and_a_path() -> None:
    pattern = HttpPattern.parse("GET,HEAD /catalog/**")
    assert pattern.methods == ("GET", "HEAD")
    assert pattern.path == PathPattern.parse("/catalog/**")
    assert HttpPattern.parse("GET,GET /a").methods == ("GET",)
    assert HttpPattern.parse("* /a").methods == METHODS
    assert "CONNECT" not in METHODS
    assert "TRACE" not in METHODS


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", ""),
        ("GET", "GET"),
        ("/a", "/a"),
        ("GET /a b", "GET /a b"),
        ("GET  /a", "GET  /a"),
        ("GET\t/a", "GET\t/a"),
        (" /a", " /a"),
        ("get /a", "get"),
        ("GET,post /a", "post"),
        ("GET, /a", " "),
        ("CONNECT /a", "CONNECT"),
        ("TRACE /a", "TRACE"),
        ("GET,* /a", "*"),
        ("GET a", "a"),
        ("GET,HEAD /a/../b", ".."),
    ],
)
def test_what_is_no_http_pattern(text: str, wrong: str) -> None:
    with pytest.raises(PatternError) as caught:
        HttpPattern.parse(text)
    assert text[caught.value.offset : caught.value.offset + caught.value.length] == wrong


@pytest.mark.parametrize(
    ("text", "path", "others"),
    [
        ("a.v1.B/C", "/a.v1.B/C", ("/a.v1.B/D", "/a.v1.B", "/a.v1.B/C/", "/axv1.B/C")),
        ("a.v1.B/*", "/a.v1.B/Any", ("/a.v1.C/Any", "/a.v1.B/", "/a.v1.B/x/y")),
        ("*", "/a.B/C", ("/", "/a", "/a/b/c")),
    ],
)
def test_a_grpc_pattern_is_a_post_to_a_path_of_two_segments(text: str, path: str, others: tuple[str, ...]) -> None:
    pattern = HttpPattern.parse_grpc(text)
    assert pattern.methods == ("POST",)
    assert pattern.text == text
    assert pattern.path.matches(path)
    assert [other for other in others if pattern.path.matches(other)] == []


@pytest.mark.parametrize(
    "text", ["", "a.B", "a.B/", "/C", "/a.B/C", "a.B/C/D", "a-b.C/D", "a..B/C", "a.B/**", "*/C", "1a/B"]
)
def test_what_is_no_grpc_pattern(text: str) -> None:
    with pytest.raises(PatternError, match="a gRPC operation is"):
        HttpPattern.parse_grpc(text)


def test_operations_are_shown_as_they_are_written() -> None:
    assert str(HttpOperation("GET", "/a")) == "GET /a"
    assert str(HttpOperation("GET", "/a", websocket=True)) == "GET /a (websocket)"
    assert str(GrpcOperation("a.B", "C")) == "a.B/C"
    assert str(ConnectOperation()) == "connect"
    assert str(RefusedOperation("GET /a%2Fb", "why")) == "GET /a%2Fb"


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("/a", "/a", True),
        ("/a", "/A", False),
        ("/a", "/a/", False),
        ("/{x}", "/a", True),
        ("/{x}", "/{y}", True),
        ("/{x}", "/", False),
        ("/{x}", "/a/b", False),
        ("/a", "/{x}", False),
        ("/**", "/", True),
        ("/**", "/a/{x}/**", True),
        ("/a/**", "/a", True),
        ("/a/**", "/a/", True),
        ("/a/**", "/ab", False),
        ("/a/**", "/**", False),
        ("/a/{x}/**", "/a/b/**", True),
        ("/a/{x}/**", "/a/**", False),
        ("/a/{x}", "/a/**", False),
        ("/a/{x}/**", "/a/{y}", True),
        ("/a/b/**", "/a/{x}/**", False),
    ],
)
def test_what_one_pattern_covers_of_another(wide: str, narrow: str, expected: bool) -> None:
    assert PathPattern.parse(wide).covers(PathPattern.parse(narrow)) is expected


def test_case_counts_in_what_a_pattern_covers_where_it_counts() -> None:
    assert PathPattern.parse("/A/**").covers(PathPattern.parse("/a/B"), ignore_case=True)
