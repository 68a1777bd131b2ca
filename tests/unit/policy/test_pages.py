from __future__ import annotations

import pytest

from septum.policy.pages import blocks

CASE = b"- {from: orders, to: ledger, expect: deny}\n"


def test_a_block_stays_on_its_lines() -> None:
    page = b"# Orders\n\nSome words\n```yaml septum-test\n" + CASE + b"```\nand more\n"
    assert list(blocks(page)) == [b"\n\n\n\n" + CASE]


@pytest.mark.parametrize(
    "fenced",
    [
        b"```yaml septum-test\n" + CASE + b"```\n",
        b"~~~septum-test\n" + CASE + b"~~~\n",
        b"````yaml septum-test\n" + CASE + b"````\n",
        b"```  yaml  septum-test  more\n" + CASE + b"`````\n",
        b"   ```yaml septum-test\n" + CASE + b"   ```\n",
        b"```yaml septum-test\r\n" + CASE + b"```\r\n",
        b"~~~ yaml septum-test\n" + CASE + b"~~~",
        b"```yaml septum-test\n" + CASE,  # nothing closes it
    ],
)
def test_a_block_of_tests(fenced: bytes) -> None:
    [block] = blocks(fenced)
    assert block.strip(b"\n") == CASE.strip(b"\n")


@pytest.mark.parametrize(
    "page",
    [
        b"septum-test\n",
        b"```yaml\n" + CASE + b"```\nseptum-test\n",
        b"```yaml septum-tests\n" + CASE + b"```\n",
        b"``yaml septum-test``\n",
        b"``` a ` b septum-test\n" + CASE + b"```\n",
        b"````markdown\n```yaml septum-test\n" + CASE + b"```\n````\n",
        b"~~~\n```yaml septum-test\n" + CASE + b"```\n~~~\n",
    ],
)
def test_no_block_of_tests(page: bytes) -> None:
    assert list(blocks(page)) == []


def test_several_blocks_are_each_read_by_themselves() -> None:
    fenced = b"```yaml septum-test\n" + CASE + b"```\n"
    first, second = blocks(fenced + b"text\n```yaml\na: b\n```\n" + fenced)
    assert first.count(b"\n") == 2
    assert second.count(b"\n") == 9
    assert first.strip() == second.strip() == CASE.strip()


def test_what_stands_outside_a_block_need_not_be_text() -> None:
    assert list(blocks(b"\xff\ttab\n```yaml septum-test\n" + CASE + b"```\n\x00")) == [b"\n\n" + CASE]
