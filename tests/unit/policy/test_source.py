from __future__ import annotations

from typing import Any

import pytest
import yaml

from septum.model.diagnostic import Diagnostic, Span
from septum.policy import source
from septum.policy.source import Mapping, Node, Scalar, Sequence, part, read
from septum.policy.text import MAX_BYTES


def words(node: Node | None) -> Any:
    """The tree without its places."""
    match node:
        case Scalar():
            return node.text
        case Sequence():
            return [words(item) for item in node.items]
        case Mapping():
            return {key.text: words(value) for key, value in node.entries}
        case _:
            return None


def tree(text: str) -> Any:
    found = read("f", text.encode())
    assert found.diagnostics == ()
    return words(found.root)


def refused(content: str | bytes) -> list[str]:
    found = read("f", content.encode() if isinstance(content, str) else content)
    return [line(diagnostic) for diagnostic in found.diagnostics]


def line(diagnostic: Diagnostic) -> str:
    span = diagnostic.span
    return f"{diagnostic.code} {span.line}:{span.column}-{span.end_line}:{span.end_column} {diagnostic.message}"


def value(text: str) -> Scalar:
    """The value of `a`."""
    root = read("f", text.encode()).root
    assert isinstance(root, Mapping)
    node = root.get("a")
    assert isinstance(node, Scalar)
    return node


def columns(span: Span) -> tuple[int, int]:
    return span.column, span.end_column


@pytest.mark.parametrize("word", ["no", "on", "1e3", "0x10", "~", "null", "2027-01-31", "1_000", ".inf", "true"])
def test_words_stay_what_was_written(word: str) -> None:
    assert tree(f"a: {word}") == {"a": word}


def test_quotes_are_told_from_plain_words() -> None:
    assert value("a: true").plain
    assert not value("a: 'true'").plain
    assert not value('a: "true"').plain


@pytest.mark.parametrize("text", ["", "\n", "# a comment\n", "---\n", "---\n# a comment\n"])
def test_a_file_in_which_nothing_stands_has_no_tree(text: str) -> None:
    assert read("f", text.encode()) == source.Source(None, ())


def test_a_placeholder_needs_no_quotes_in_a_list() -> None:
    assert tree("a: [GET /orders/{id}, POST /a/{b}/{c_1}]") == {"a": ["GET /orders/{id}", "POST /a/{b}/{c_1}"]}
    assert tree("a: {b: GET /orders/{id}}") == {"a": {"b": "GET /orders/{id}"}}
    assert tree("a: \"GET /{id}\"\nb: 'GET /{id}'\n") == {"a": "GET /{id}", "b": "GET /{id}"}


def test_places_are_exact() -> None:
    root = read("f", b'a:\n  - b\n  - [c, "d"]\n').root
    assert isinstance(root, Mapping)
    items = root.get("a")
    assert isinstance(items, Sequence)
    inner = items.items[1]
    assert isinstance(inner, Sequence)
    assert [item.span for item in inner.items] == [Span("f", 3, 6, 3, 7), Span("f", 3, 9, 3, 12)]
    assert items.items[0].span == Span("f", 2, 5, 2, 6)


def test_columns_count_characters_and_not_bytes() -> None:
    assert value("é: 1\na: [x]".replace("[x]", "x")).span == Span("f", 2, 4, 2, 5)
    root = read("f", "{é: 1, ü: x}".encode()).root
    assert isinstance(root, Mapping)
    assert root.entries[1][0].span == Span("f", 1, 8, 1, 9)


def test_a_byte_order_mark_takes_no_column() -> None:
    assert value("\ufeffa: x").span == Span("f", 1, 4, 1, 5)


@pytest.mark.parametrize(
    ("text", "offset", "length", "expected"),
    [
        ("a: GET /x*", 5, 2, (9, 11)),
        ('a: "GET /x*"', 5, 2, (10, 12)),
        ("a: 'GET /x*'", 5, 2, (10, 12)),
        ("a: 'it''s*'", 4, 1, (10, 11)),
        ("a: 'it''s*'", 2, 1, (7, 9)),
        (r'a: "\u0061\x62\\c"', 1, 1, (11, 15)),
        (r'a: "\u0061\x62\\c"', 2, 1, (15, 17)),
        (r'a: "\u0061\x62\\c"', 3, 1, (17, 18)),
        ("a: x", 0, 9, (4, 5)),
        ("a: xy", 2, 1, (6, 7)),
    ],
)
def test_a_part_of_a_word_is_found_also_behind_quotes_and_escapes(
    text: str, offset: int, length: int, expected: tuple[int, int]
) -> None:
    assert columns(part(value(text), offset, length)) == expected


def test_a_part_of_a_word_over_lines_is_the_whole_word() -> None:
    word = value("a: b\n  c\n")
    assert word.text == "b c"
    assert part(word, 2, 1) == word.span == Span("f", 1, 4, 2, 4)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: &x 1\nb: *x\n", ["SEP103 1:4-1:8 anchors are not read", "SEP103 2:4-2:6 aliases are not read"]),
        ("a: {<<: {b: 1}}", ["SEP103 1:5-1:7 merge keys are not read"]),
        ("a: !!int 1", ["SEP104 1:4-1:11 the tag `!!int` is not read"]),
        ("a: !x {b: 1}", ["SEP104 1:4-1:8 the tag `!x` is not read"]),
        ("%YAML 1.1\n---\na: 1", ["SEP104 1:1-2:4 directives are not read"]),
        ("a: 1\n---\nb: 1\n---\nc: 1", ["SEP105 2:1-2:4 a file holds one document"]),
        ("a: 1\nb: 2\na: 3", ["SEP102 3:1-3:2 `a` stands here twice"]),
        ("a: {b: 1, 'b': 2}", ["SEP102 1:11-1:14 `b` stands here twice"]),
        ("[a]: 1", ["SEP101 1:1-1:2 a key is a word"]),
        ("{a: 1}: 1", ["SEP101 1:2-1:3 a key is a word"]),
        ("a: b: c", ["SEP101 1:5-1:6 this is not YAML: mapping values are not allowed in this context"]),
        ("a: [1, 2", ["SEP101 1:9-1:10 this is not YAML: did not find expected ',' or ']'"]),
        ("a: {b: 1\n\n\n", ["SEP101 1:9-1:10 this is not YAML: did not find expected ',' or '}'"]),
        ('a: "x', ["SEP101 1:6-1:7 this is not YAML: found unexpected end of stream"]),
        ("a:\n\tb: 1\n\tc: 1", ["SEP106 2:1-2:2 a tab stands here"]),
        ("a: 1\rb: 2", ["SEP106 1:5-1:6 the character U+000D is not read"]),
        ("# \u2028- from: edge", ["SEP106 1:3-1:4 the character U+2028 is not read"]),
        ("a: \u202e1", ["SEP106 1:4-1:5 the character U+202E is not read"]),
        ("a: 1\nb: \0", ["SEP106 2:4-2:5 the character U+0000 is not read"]),
        ("a: \ue000", ["SEP106 1:4-1:5 the character U+E000 is not read"]),
        (r'a: "/\ue000id\ue001"', [
            r"SEP106 1:6-1:12 the character \ue000 is not read",
            r"SEP106 1:14-1:20 the character \ue001 is not read",
        ]),
        (r'a: "\t"', ["SEP106 1:4-1:8 an escape makes the character U+0009, which is not read"]),
        (r'a: "\N"', ["SEP106 1:4-1:8 an escape makes the character U+0085, which is not read"]),
        ("é: é".encode() + b"\xff", ["SEP106 1:5-1:6 the file is not UTF-8"]),
        (b"a: 1\n\xc3", ["SEP106 2:1-2:2 the file is not UTF-8"]),
        ("a: 1".encode("utf-16"), ["SEP106 1:1-1:2 the file is not UTF-8"]),
        ("[" * 40, ["SEP107 1:33-1:34 nested more than 32 levels deep"]),
        (b"#" * (MAX_BYTES + 1), ["SEP108 1:1-1:1 the file is larger than 4 MiB"]),
    ],
)  # fmt: skip
def test_what_is_refused_is_said_with_its_place(content: str | bytes, expected: list[str]) -> None:
    assert refused(content) == expected


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "a:\n" * 10_000])
def test_a_file_that_nests_without_end_is_refused_and_not_a_crash(text: str) -> None:
    assert refused(text)


def test_every_kind_of_hidden_character_is_shown_once() -> None:
    assert refused("\t\t\ta\u2028b\u2028\t") == [
        "SEP106 1:1-1:2 a tab stands here",
        "SEP106 1:5-1:6 the character U+2028 is not read",
    ]


def test_windows_line_ends_are_line_ends() -> None:
    assert tree("a: 1\r\nb:\r\n  - c\r\n") == {"a": "1", "b": ["c"]}


def test_the_pure_parser_gives_the_same_tree_and_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"a: [GET /x/{id}, 'it''s', \"\\u0061b\"]\nb: {c: true, d: ~}\ne: |\n  text\n"
    fast = read("f", content)
    monkeypatch.setattr(source, "_Loader", yaml.SafeLoader)
    assert read("f", content) == fast
    assert fast.diagnostics == ()
