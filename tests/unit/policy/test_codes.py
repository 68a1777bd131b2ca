from __future__ import annotations

import re
from pathlib import Path

from septum.policy import codes

DOCS = Path(__file__).parents[3] / "docs"
SOURCES = Path(codes.__file__).parents[1]
PAGES = Path(__file__).parents[2] / "policy"


def names() -> set[str]:
    """The names of the codes: constants whose value is a code."""
    return {name for name, value in vars(codes).items() if isinstance(value, str) and re.fullmatch(r"SEP\d{3}", value)}


def test_the_page_is_current() -> None:
    hint = "run: septum check --explain all > docs/codes.md"
    assert (DOCS / "codes.md").read_text(encoding="utf-8") == codes.page(), hint


def test_every_code_has_a_meaning_and_no_meaning_is_left_over() -> None:
    assert {getattr(codes, name) for name in names()} == codes.CODES.keys()
    assert len(names()) == len(codes.CODES)
    assert list(codes.CODES) == sorted(codes.CODES)


def test_every_code_is_used() -> None:
    sources = (path for part in ("policy", "verify", "plan") for path in (SOURCES / part).glob("*.py"))
    text = "".join(path.read_text(encoding="utf-8") for path in sources if path.name != "codes.py")
    assert [name for name in sorted(names()) if not re.search(rf"\b{name}\b", text)] == []


def test_every_code_has_a_case_that_shows_it() -> None:
    """The literate cases show each code, but for those that Markdown cannot hold or that compare two policies.

    Unit tests show these.
    """
    of_plans = {codes.NEWLY_ALLOWED, codes.NEWLY_DENIED, codes.PASSES_OTHERWISE, codes.DENIED_ON_RECORD}
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES.glob("*.md"))
    elsewhere = {codes.TOO_DEEP, codes.TOO_LARGE, codes.UNREADABLE, codes.NO_MESH, *of_plans}
    assert {code for code in codes.CODES if f"[{code}]" not in shown} == elsewhere


def test_titles_are_one_line_and_paragraphs_end() -> None:
    for code in codes.CODES.values():
        assert 0 < len(code.title) < 40
        assert code.text.endswith((".", "one.")), code
        assert "\n" not in code.text
