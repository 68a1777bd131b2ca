"""Since when the operations of rules have been enforced as they are, by the versions that were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from septum.control.state import Fate, Version
from septum.control.versions import ENFORCED, Versions
from septum.model.policy import Policy, Rule
from septum.policy.load import Loader
from septum.policy.upkeep.cuts import stem
from septum.verify.coverage import written

# By rule and by the text of an operation.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Entered:
    """When each operation came to be enforced, at the latest; those that are not enforced yet are not there.

    `quarantined` are the workloads that can use nothing now.
    """

    moments: Mapping[Key, float]
    quarantined: frozenset[str] = frozenset()


def entered(versions: Versions, policy: Policy, since: float) -> Entered:
    """Look back until a moment (seconds since 1970), and to the version that was enforced then.

    An operation has been there as long as a rule of the same name and wording had it, for all whom it is for now.
    Raises StateError.
    """
    search = _Search({(rule.id, text): rule for rule in policy.rules for text in written(rule)})
    newest = None
    for version in _back(versions):
        newest = newest or version
        if not search.step(version) or version.applied <= since:
            break
    return Entered(search.moments, newest.quarantined if newest else frozenset())


def _back(versions: Versions) -> Iterator[Version]:
    """The versions that were enforced, the newest first, each read when it is asked for: their files may be large."""
    version = versions.find(ENFORCED)
    if version is None:
        return
    yield version
    for number in range(version.number - 1, 0, -1):
        older = versions.find(f"#{number}")
        if older is not None and not (older.end is not None and older.end.fate is Fate.REFUSED):
            yield older


@dataclass
class _Search:
    """The operations that every version so far had."""

    left: dict[Key, Rule]
    moments: dict[Key, float] = field(default_factory=dict)
    _loader: Loader = field(default_factory=Loader)

    def step(self, version: Version) -> bool:
        """Look at the next older version; False when none of the operations goes further back."""
        policy = self._loader.load(version.files).policy
        had = _had(policy.rules) if policy is not None else {}
        self.left = {
            key: rule for key, rule in self.left.items() if _is_among(rule, had.get(_meaning(rule, key[1]), ()))
        }
        self.moments.update(dict.fromkeys(self.left, version.applied))
        return bool(self.left)


_Meaning = tuple[object, ...]
_Members = tuple[frozenset[str], frozenset[str]]


def _had(rules: Iterable[Rule]) -> Mapping[_Meaning, list[_Members]]:
    found: dict[_Meaning, list[_Members]] = {}
    for rule in rules:
        for text in written(rule):
            found.setdefault(_meaning(rule, text), []).append((frozenset(rule.callers), frozenset(rule.targets)))
    return found


def _meaning(rule: Rule, text: str) -> _Meaning:
    """What an operation of a rule says, whatever the rule's reason and its other operations are."""
    return stem(rule.id), rule.callers_text, rule.targets_text, rule.when, rule.window, text


def _is_among(rule: Rule, members: Iterable[_Members]) -> bool:
    """Whether a rule was there for all whom it is for now: who came to a segment later may not have got to use it."""
    return any(callers.issuperset(rule.callers) and targets.issuperset(rule.targets) for callers, targets in members)
