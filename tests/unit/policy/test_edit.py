"""Edits by place: what goes, what stays, and what is left alone."""

from __future__ import annotations

import pytest

from septum.policy.upkeep.edit import Append, CannotEdit, Change, Put, Remove, edited


def edit(text: str, *changes: Change) -> str:
    return edited("policy/a.yaml", text.encode(), changes).decode()


def drop(*indexes: int, at: tuple[str | int, ...] = ("allow",)) -> Remove:
    return Remove(at, frozenset(indexes))


RULES = """\
# of the orders team
allow:
  # the first
  - name: one  # beside
    from: a
    # inside
    to: b
    # at its end

  # of the second
  # in two lines
  - {name: two, from: a, to: b}

  - name: three
    from: a

# what must hold
guarantees: []
"""


def test_an_item_goes_with_the_comments_above_beside_and_inside_it() -> None:
    assert edit(RULES, drop(0)) == RULES.replace(
        RULES[RULES.index("  # the first") : RULES.index("  # of the second")], ""
    )


def test_what_is_between_goes_with_one_of_its_blank_lines() -> None:
    assert edit(RULES, drop(1)) == RULES.replace(
        RULES[RULES.index("  # of the second") : RULES.index("  - name: three")], ""
    )


def test_the_last_item_leaves_what_follows_the_list() -> None:
    assert edit(RULES, drop(2)) == RULES.replace("  - name: three\n    from: a\n\n", "")


def test_several_go_together() -> None:
    assert edit(RULES, drop(0, 2)) == (
        "# of the orders team\nallow:\n  # of the second\n  # in two lines\n  - {name: two, from: a, to: b}\n\n"
        "# what must hold\nguarantees: []\n"
    )


def test_where_nothing_is_left_an_empty_list_says_so() -> None:
    assert edit(RULES, drop(0, 1, 2)) == "# of the orders team\nallow: []\n\n# what must hold\nguarantees: []\n"
    assert edit("allow:  # none\n- {from: a}\n", drop(0)) == "allow: []  # none\n"
    assert edit("allow: [{from: a}]  # x\n", drop(0)) == "allow: []  # x\n"


def test_at_the_end_of_a_file_no_blank_lines_are_left() -> None:
    assert edit("allow:\n  - a\n\n  - b\n", drop(1)) == "allow:\n  - a\n"
    assert edit("allow:\n  - a\n\n  - b", drop(0)) == "allow:\n  - b"


def test_a_comment_at_the_end_of_the_one_before_stays() -> None:
    text = "allow:\n  - from: a\n    # of a\n  # of b\n  - from: b\n"
    assert edit(text, drop(1)) == "allow:\n  - from: a\n    # of a\n"
    assert edit(text, drop(0)) == "allow:\n  # of b\n  - from: b\n"


def test_a_dash_may_stand_above_its_item() -> None:
    assert edit("allow:\n  -\n    from: a\n  - # b\n    from: b\n", drop(1)) == "allow:\n  -\n    from: a\n"


@pytest.mark.parametrize(
    ("indexes", "left"),
    [
        ((0,), '["GET,HEAD /b", GET /c/{id}]'),
        ((1,), "[GET /a, GET /c/{id}]"),
        ((2,), '[GET /a, "GET,HEAD /b"]'),
        ((0, 1), "[GET /c/{id}]"),
        ((1, 2), "[GET /a]"),
        ((0, 2), '["GET,HEAD /b"]'),
    ],
)
def test_items_on_one_line(indexes: tuple[int, ...], left: str) -> None:
    text = 'allow:\n  - {from: a, http: [GET /a, "GET,HEAD /b", GET /c/{id}], to: b}  # x\n'
    expected = f"allow:\n  - {{from: a, http: {left}, to: b}}  # x\n"
    assert edit(text, drop(*indexes, at=("allow", 0, "http"))) == expected


def test_items_of_a_list_in_brackets_with_lines_of_their_own() -> None:
    text = "http: [\n  GET /a, # of a\n  # above b\n  GET /b, # of b\n  GET /c # of c\n]\n"
    assert edit(text, drop(1, at=("http",))) == "http: [\n  GET /a, # of a\n  GET /c # of c\n]\n"
    assert edit(text, drop(2, at=("http",))) == "http: [\n  GET /a, # of a\n  # above b\n  GET /b, # of b\n]\n"


def test_comments_between_items_that_share_lines_are_not_guessed_about() -> None:
    with pytest.raises(CannotEdit, match=r"policy/a.yaml:1: comments stand between the items"):
        edit("http: [GET /a, GET /b, # of b\n  GET /c]\n", drop(1, at=("http",)))


def test_lines_keep_their_ends() -> None:
    assert edit("allow:\r\n  - a\r\n  - b\r\n", drop(0)) == "allow:\r\n  - b\r\n"
    assert edit("allow:\r\n  - a\r\n", Append(("allow",), "from: b\nto: c")) == (
        "allow:\r\n  - a\r\n  - from: b\r\n    to: c\r\n"
    )


def test_a_text_over_lines_goes_whole() -> None:
    text = "allow:\n  - because: |\n      # not a comment\n\n      two\n\n  - because: one\n     two\n  - c\n"
    assert edit(text, drop(0)) == "allow:\n  - because: one\n     two\n  - c\n"
    assert edit(text, drop(1)) == text.replace("  - because: one\n     two\n", "")


def test_changes_inside_and_around_fit_together() -> None:
    text = "allow:\n  - http: [a, b]\n  - c\n  - http:\n      - d\n      - e\n"
    changes = (drop(1), drop(0, at=("allow", 0, "http")), drop(1, at=("allow", 2, "http")))
    assert edit(text, *changes) == "allow:\n  - http: [b]\n  - http:\n      - d\n"


def test_two_changes_of_one_place_are_refused() -> None:
    with pytest.raises(CannotEdit, match="two changes are about one place"):
        edit("allow:\n  - http: [a, b]\n  - c\n", drop(0), drop(0, at=("allow", 0, "http")))


# --- adding and replacing


def test_an_item_is_added_after_the_last_one_and_its_comments() -> None:
    text = "allow:\n  - a\n\n  - b  # x\n    # of b\n\nguarantees: []\n"
    assert edit(text, Append(("allow",), "from: c  # new\nto: d")) == (
        "allow:\n  - a\n\n  - b  # x\n    # of b\n\n  - from: c  # new\n    to: d\n\nguarantees: []\n"
    )


def test_an_item_is_added_where_nothing_was() -> None:
    assert edit("# none yet", Append(("allow",), "from: a")) == "# none yet\nallow:\n  - from: a\n"
    assert edit("allow: []  # x\n", Append(("allow",), "from: a")) == "allow:  # x\n  - from: a\n"
    assert edit("guarantees: []\n", Append(("allow",), "from: a")) == "guarantees: []\nallow:\n  - from: a\n"
    assert edit("", Append(("allow",), "from: a\nto: b")) == "allow:\n  - from: a\n    to: b\n"


def test_an_item_is_added_on_the_line() -> None:
    assert edit("http: [a, b]  # x\n", Append(("http",), '"c, d"')) == 'http: [a, b, "c, d"]  # x\n'
    with pytest.raises(CannotEdit, match="the list is on one line"):
        edit("allow: [{from: a}]\n", Append(("allow",), "from: b\nto: c"))


def test_a_value_is_replaced() -> None:
    assert edit("until: 2027-01-31T00:00:00Z  # soon\nb: c\n", Put(("until",), '"x"')) == 'until: "x"  # soon\nb: c\n'
    assert edit("a:\nb: c\n", Put(("a",), "x")) == "a: x\nb: c\n"


# --- what is refused


@pytest.mark.parametrize(
    ("text", "change", "why"),
    [
        ("allow: [\n", drop(0), "cannot be read"),
        ("allow: {a: b}\n", drop(0), "nothing of that kind at allow"),
        ("allow: [a]\n", drop(1), "no such item"),
        ("a: [b]\n", Put(("a",), "c"), "nothing of that kind at a"),
        ("a: |\n  b\n", Put(("a",), "c"), "this is not one line"),
        ("a: b\n", Append(("a",), "c"), "a is not a list"),
        ("a: b\n", Put(("a",), "c: d"), "cannot be read"),
        ("- a\n", drop(0, at=()), "the file would be empty"),
    ],
)
def test_what_cannot_be_is_refused(text: str, change: Change, why: str) -> None:
    with pytest.raises(CannotEdit, match=why):
        edit(text, change)
