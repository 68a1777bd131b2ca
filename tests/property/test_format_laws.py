"""Laws of the layout, over generated policies with comments thrown in: it says the same, and is its own layout."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

import strategies
from literate import cases
from render import render
from septum.policy.load import load
from septum.policy.roles import Role, role
from septum.policy.shape import CASES, MESH, POLICY
from septum.policy.source import read
from septum.policy.upkeep.comments import comments
from septum.policy.upkeep.format import NotFormatted, alike, formatted

ROOT = Path(__file__).parents[2]
FLOWS = st.sampled_from((False, True, None))


def laid_out(path: str, content: bytes) -> bytes:
    shape = CASES if role(path) is Role.TEST else MESH if path.endswith("septum.yaml") else POLICY
    return formatted(path, content, shape)


@st.composite
def commented(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with comments and blank lines thrown in, and its lists of lists further out or in."""
    lines = content.decode().splitlines()
    for number in range(draw(st.integers(0, 8))):
        at = draw(st.integers(0, len(lines)))
        match draw(st.integers(0, 3)):
            case 0:
                lines.insert(at, "")
            case 1:
                lines.insert(at, " " * draw(st.integers(0, 8)) + f"# alone {number}")
            case 2 if at < len(lines) and lines[at]:
                lines[at] += " " * draw(st.integers(1, 4)) + f"# beside {number}"
            case _ if at < len(lines):
                # Inside `[...]` and `{...}` a line may end after each comma.
                lines[at] = lines[at].replace(", ", f",  # inside {number}\n        ", 1)
            case _:
                lines.append("# end")
    text = "\n".join(lines) + draw(st.sampled_from(("", "\n", "\n\n\n")))
    return text.replace("\n", draw(st.sampled_from(("\n", "\r\n")))).encode()


def words(path: str, content: bytes) -> Counter[str]:
    text = content.decode()
    return Counter(comment.text for comment in comments(text, read(path, content).root))


@given(st.data())
def test_the_layout_keeps_the_version_and_every_comment_and_is_its_own(data: st.DataObject) -> None:
    policy = data.draw(strategies.policies(data.draw(strategies.wide_meshes())))
    files = render(policy, flow=data.draw(FLOWS))
    written = {
        path: data.draw(commented(content)) if path.endswith(".yaml") else content for path, content in files.items()
    }
    # A comment that was thrown into a text is a part of it.
    assume(all(alike(read(path, files[path]).root, read(path, content).root) for path, content in written.items()))
    after = {path: laid_out(path, content) if path.endswith(".yaml") else content for path, content in written.items()}
    loaded = load(after)
    assert loaded.policy is not None, loaded.errors
    assert loaded.policy.version == policy.version
    for path in (path for path in after if path.endswith(".yaml")):
        assert words(path, after[path]) == words(path, written[path])
        assert laid_out(path, after[path]) == after[path]


def _written_somewhere() -> list[tuple[str, bytes]]:
    """Every file of a mesh that the tests and the examples hold."""
    found = [
        (path, content)
        for case in cases()
        for path, content in case.files.items()
        if path.endswith(".yaml") and not read(path, content).diagnostics
    ]
    examples = (ROOT / "examples").rglob("*.yaml")
    return [*found, *((path.relative_to(ROOT).as_posix(), path.read_bytes()) for path in examples)]


def test_whatever_the_tests_and_the_examples_hold_has_a_layout() -> None:
    files = _written_somewhere()
    assert len(files) > 60
    refused = []
    for path, content in files:
        try:
            after = laid_out(path, content)
        except NotFormatted as error:
            refused.append(str(error))
            continue
        assert laid_out(path, after) == after
        assert words(path, after) == words(path, content)
        assert alike(read(path, content).root, read(path, after).root)
    assert refused == []
