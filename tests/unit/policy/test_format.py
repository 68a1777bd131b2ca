"""The layout, by examples; the laws are in tests/property/test_format_laws.py."""

from __future__ import annotations

import pytest

from septum.policy.shape import CASES, MESH, POLICY
from septum.policy.upkeep.format import NotFormatted, formatted
from septum.policy.upkeep.quoting import as_written, plain_fits


def laid_out(text: str) -> str:
    return formatted("policy/a.yaml", text.encode(), POLICY).decode()


WILD = """\


# top of the file
allow:

- because:   "it's fine"   # why
  # about to
  to:     orders
  from:
   # callers
   - storefront


   - "reports"
  http: [
     GET /a,  # reading
     "POST /orders/{id}", # writing

     # more
     PUT /c,
  ] # ops
  # end of the first
# about the second
- {from: segment:core, http: [ GET /orders/{id} ], to: payments,
   because: x}     # beside the second
# - {from: taken out}
- # above the name
  name: third
  because: |  # as it is
     hello

       more
  to: b
  from: a

- because: one
       two # beside two
      # deep
  from: a
  to: b


guarantees: []
# end"""
TAME = """\
# top of the file
allow:
  - from:
      # callers
      - storefront

      - reports
    # about to
    to: orders
    http:  # ops
      - GET /a  # reading
      - POST /orders/{id}  # writing

      # more
      - PUT /c
    because: it's fine  # why
    # end of the first
  # about the second
  - {from: segment:core, to: payments, http: ["GET /orders/{id}"], because: x}  # beside the second
  # - {from: taken out}
  # above the name
  - name: third
    from: a
    to: b
    because: |  # as it is
      hello

        more

  # deep
  - from: a
    to: b
    because: one
      two  # beside two

guarantees: []
# end
"""


def test_everything_has_its_place() -> None:
    assert laid_out(WILD) == TAME
    assert laid_out(TAME) == TAME


def test_comments_that_stood_in_one_column_stay_so() -> None:
    text = "allow:\n- from: a            # who\n  to: somebody else  # whom\n  because: x # why\n"
    assert laid_out(text) == (
        "allow:\n  - from: a            # who\n    to: somebody else  # whom\n    because: x  # why\n"
    )


def test_what_does_not_fit_on_a_line_gets_lines() -> None:
    names = [f"workload-{number}" for number in range(9)]
    fits = f"allow:\n  - {{from: [{', '.join(names[:6])}], to: x}}\n"
    assert laid_out(fits) == fits
    assert laid_out(f"allow: [{{from: [{', '.join(names[:7])}], because: {'x' * 20}, to: x}}]") == (
        f"allow:\n  - from: [{', '.join(names[:7])}]\n    to: x\n    because: {'x' * 20}\n"
    )
    over = [f"workload-{number}" for number in range(12)]
    assert laid_out(f"allow: [{{from: [{', '.join(over)}], to: x}}]  # c") == (
        "allow:  # c\n  - from:\n" + "".join(f"      - {name}\n" for name in over) + "    to: x\n"
    )


@pytest.mark.parametrize(
    ("written", "best"),
    [
        ('"orders"', "orders"),
        ("'orders'", "orders"),
        ('"no"', '"no"'),
        ("'1'", '"1"'),
        ('"1.5"', '"1.5"'),
        ('"true"', '"true"'),
        ('"2027-01-31T00:00:00Z"', '"2027-01-31T00:00:00Z"'),
        ("2027-01-31T00:00:00Z", "2027-01-31T00:00:00Z"),
        ("'* /**'", '"* /**"'),
        ('"a: b"', '"a: b"'),
        ('"a # b"', '"a # b"'),
        ("'say \"hi\"'", 'say "hi"'),
        ("'\"so\" it''s'", "'\"so\" it''s'"),
        ('"\\"so\\": it\'s"', "'\"so\": it''s'"),
        ('"https://a.test/x?y"', "https://a.test/x?y"),
        ('"a\\nb"', '"a\\nb"'),
        ('""', '""'),
        ("", ""),
    ],
)
def test_quotes_stand_where_they_are_needed(written: str, best: str) -> None:
    assert laid_out(f"a:   {written}\n") == f"a: {best}".rstrip() + "\n"


@pytest.mark.parametrize(
    ("written", "best"),
    [("GET /a", "GET /a"), ("GET /{id}", '"GET /{id}"'), ('"GET,HEAD /a"', '"GET,HEAD /a"'), ('"a:b"', "a:b")],
)
def test_in_brackets_more_is_quoted(written: str, best: str) -> None:
    """`{id}` without quotes is for Septum's reader alone; with them, every reader of YAML takes it."""
    assert laid_out(f"a: [{written}]\n") == f"a: [{best}]\n"


def test_the_mark_of_a_document_stays() -> None:
    assert laid_out("# c\n---\nallow: []\n") == "# c\n---\nallow: []\n"


def test_a_file_of_comments_or_of_nothing() -> None:
    assert laid_out("") == ""
    assert laid_out("\n\n") == ""
    assert laid_out("  # a\n\n\n# b") == "# a\n\n# b\n"


def test_keys_of_the_mesh_stay_in_their_order() -> None:
    text = "workloads:\n  b: {protocol: http, segment: s, at: 127.0.0.1:1}\nmesh: m\n"
    assert formatted("septum.yaml", text.encode(), MESH).decode() == text


def test_keys_of_tests_and_guarantees_have_one() -> None:
    text = "- {expect: allow, to: b, http: GET /a, from: a}\n"
    assert formatted("policy/a_test.yaml", text.encode(), CASES) == b"- {from: a, to: b, http: GET /a, expect: allow}\n"
    assert laid_out("guarantees:\n- never: {to: b, from: a}\n  name: n\n") == (
        "guarantees:\n  - name: n\n    never: {from: a, to: b}\n"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [\n", "cannot be read"),
        ("- - a\n", "a list in a list"),
        ("--- {a: b}\n", "a document's mark"),
        ("a: |2\n   b\n", "has no layout"),
        ("word\n", "a file is a mapping or a list"),
        ('? "a\n  b"\n: c\n', "a key stands on one line"),
    ],
)
def test_what_has_no_safe_layout_is_left_alone(text: str, why: str) -> None:
    with pytest.raises(NotFormatted, match=why):
        laid_out(text)


def test_new_words_are_written_so_that_every_reader_takes_them_for_text() -> None:
    assert [as_written(word, flow=False) for word in ("a", "no", "1", "a: b", "* /**")] == [
        "a", '"no"', '"1"', '"a: b"', '"* /**"',
    ]  # fmt: skip
    assert plain_fits("a, b", flow=False)
    assert not plain_fits("a, b", flow=True)
