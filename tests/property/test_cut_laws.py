"""Laws of taking rules out of files: the policy is the old one without them, and everything else is as it was."""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st
from test_format_laws import FLOWS, commented

import strategies
from render import render
from septum.model.policy import Policy
from septum.policy.load import load
from septum.policy.source import read
from septum.policy.upkeep.alike import alike
from septum.policy.upkeep.comments import comments
from septum.policy.upkeep.cuts import Cuts, after, cut, stem
from septum.policy.upkeep.edit import CannotEdit
from septum.policy.upkeep.patch import patch


@st.composite
def cuts(draw: st.DrawFn, policy: Policy) -> Cuts:
    """Some rules, and some operations of others."""
    chosen = draw(st.lists(st.sampled_from(policy.rules), min_size=1, unique_by=id))
    found: dict[str, frozenset[int] | None] = {}
    for rule in chosen:
        places = st.frozensets(st.integers(0, len(rule.operations or ()) - 1), min_size=1) if rule.operations else None
        found[rule.id] = draw(st.one_of(st.none(), places)) if places is not None else None
    return found


@given(st.data())
def test_what_is_cut_goes_and_everything_else_stays(data: st.DataObject) -> None:
    drawn = data.draw(strategies.policies(data.draw(strategies.wide_meshes())))
    assume(drawn.rules)
    files = dict(render(drawn, flow=data.draw(FLOWS)))
    plain = files["policy/rules.yaml"]
    files["policy/rules.yaml"] = data.draw(commented(plain))
    # A comment that was thrown into a text is a part of it.
    assume(alike(read("f", plain).root, read("f", files["policy/rules.yaml"]).root))
    policy = load(files).policy
    assert policy is not None
    taken = data.draw(cuts(policy))
    changed, why = _cut(files, policy, taken)
    if why:
        # Whose comment it is, between items that share a line, is not guessed.
        assert "comments stand between the items" in why
        assert _words(files["policy/rules.yaml"])
        return
    assert set(changed) == {"policy/rules.yaml"}
    now = load(files | changed).policy
    assert now is not None
    expected = Counter(
        (stem(rule.id), rule.callers, rule.targets, rule.operations) for rule in after(policy.rules, taken)
    )
    assert Counter((stem(rule.id), rule.callers, rule.targets, rule.operations) for rule in now.rules) == expected
    assert not _words(changed["policy/rules.yaml"]) - _words(files["policy/rules.yaml"])
    _git_agrees(files, changed)


def _cut(files: dict[str, bytes], policy: Policy, taken: Cuts) -> tuple[dict[str, bytes], str]:
    try:
        return cut(files, policy, taken), ""
    except CannotEdit as error:
        return {}, str(error)


def _words(content: bytes) -> Counter[str]:
    return Counter(comment.text for comment in comments(content.decode(), read("f", content).root))


def _git_agrees(files: dict[str, bytes], changed: dict[str, bytes]) -> None:
    """`git apply` makes of the old files what the edit made of them."""
    with tempfile.TemporaryDirectory() as place:
        for path, content in files.items():
            file = Path(place, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        text = patch(files, changed)
        subprocess.run(["git", "apply", "-"], cwd=place, input=text.encode(), check=True, capture_output=True)
        for path, content in changed.items():
            assert Path(place, path).read_bytes() == content
