"""Taking rules, and single operations of rules, out of the files that they stand in; nothing else changes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from septum.model.policy import Policy, Rule
from septum.policy.load import load
from septum.policy.named_files import Files
from septum.policy.source import Node, Sequence, child, first, read
from septum.policy.upkeep.edit import CannotEdit, Change, Remove, edited

# Rule id → which of its operations go, by their place in the rule; None: the whole rule.
Cuts = Mapping[str, frozenset[int] | None]

# The number that loading gives to an unnamed rule; it changes when another of its name goes.
_NUMBER = re.compile(r"#[0-9]+$")


def stem(rule_id: str) -> str:
    """A rule's id without the number that tells unnamed rules of the same selectors apart."""
    return _NUMBER.sub("", rule_id) if "->" in rule_id else rule_id


def after(rules: tuple[Rule, ...], cuts: Cuts) -> tuple[Rule, ...]:
    """The rules without what is cut. A rule of which every operation goes, goes."""
    return tuple(kept for rule in rules if (kept := _kept(rule, cuts)) is not None)


def cut(files: Files, policy: Policy, cuts: Cuts) -> dict[str, bytes]:
    """The files that change, edited; `policy` is what `files` load to. Raises CannotEdit."""
    changed: dict[str, bytes] = {}
    for path, rules in _by_file(policy, cuts).items():
        content = files[path]
        assert isinstance(content, bytes)  # rules came of it
        root = read(path, content).root
        changed[path] = edited(path, content, _changes(root, rules, cuts))
    _prove(policy, load({**files, **changed}).policy, cuts)
    return changed


def _kept(rule: Rule, cuts: Cuts) -> Rule | None:
    if rule.id not in cuts:
        return rule
    gone, operations = cuts[rule.id], rule.operations or ()
    kept = tuple(one for index, one in enumerate(operations) if gone is not None and index not in gone)
    return replace(rule, operations=kept) if kept else None


def _by_file(policy: Policy, cuts: Cuts) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in policy.rules:
        if rule.id in cuts:
            assert rule.span is not None  # it was read from a file
            found.setdefault(rule.span.file, []).append(rule)
    return found


def _changes(root: Node | None, rules: list[Rule], cuts: Cuts) -> Iterator[Change]:
    allow = child(root, "allow")
    assert isinstance(allow, Sequence)  # rules came of it
    places = {first(item): index for index, item in enumerate(allow.items)}
    whole = []
    for rule in rules:
        assert rule.span is not None
        index, gone = places[rule.span], cuts[rule.id]
        if gone is None or len(gone) == len(rule.operations or ()):
            whole.append(index)
        else:
            key = next(key for key in ("http", "grpc") if child(allow.items[index], key) is not None)
            yield Remove(("allow", index, key), gone)
    if whole:
        yield Remove(("allow",), frozenset(whole))


def _prove(before: Policy, now: Policy | None, cuts: Cuts) -> None:
    """Raise CannotEdit unless the one policy is the other without what is cut."""
    if now is None or _said(after(before.rules, cuts)) != _said(now.rules):
        raise CannotEdit("the edited files would not say what is intended; edit them by hand")
    if before.mesh != now.mesh or Counter(before.guarantees) != Counter(now.guarantees):
        raise CannotEdit("the edited files would change more than rules; edit them by hand")


def _said(rules: tuple[Rule, ...]) -> Counter[bytes]:
    """What rules say, whatever their numbers are."""
    return Counter(replace(rule, id=stem(rule.id)).canonical for rule in rules)
