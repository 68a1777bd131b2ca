"""Who can reach what, and through whom, by the calls that a policy's rules allow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from septum.model.policy import Policy, Rule
from septum.verify.calls import Calls


@dataclass(frozen=True, slots=True)
class Edge:
    """A caller may ask something of a target, by these rules (in policy order)."""

    caller: str
    target: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of a tree: what is reached, by which call; the lines below it follow, one deeper.

    A root has no edge. `last` says that no sibling follows. What is `again` is shown with all below it elsewhere.
    """

    name: str
    edge: Edge | None
    depth: int
    last: bool
    again: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """What was asked, and the calls that lead there.

    Without targets the trees are of all that the callers reach, without callers of all who reach the targets (then the
    callers of a name stand below it), with both of the shortest chains from each caller to each target. Trees stand one
    after another, in the order in which they are read.
    """

    callers: tuple[str, ...]
    targets: tuple[str, ...]
    tree: tuple[Branch, ...]

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Every call in it, once."""
        found = {(branch.edge.caller, branch.edge.target): branch.edge for branch in self.tree if branch.edge}
        return tuple(found.values())

    @property
    def found(self) -> bool:
        """Whether anything is reached."""
        return any(branch.edge for branch in self.tree)


def reach(
    policy: Policy, now: float, callers: Iterable[str] = (), targets: Iterable[str] = (), *, direct: bool = False
) -> Reach:
    """What the callers reach, who reaches the targets, or the shortest chains from the ones to the others.

    It is about what rules allow at any moment from `now` on (seconds since 1970) and with any token. `direct` leaves
    out what is reached through others.
    """
    starts, ends = tuple(callers), tuple(targets)
    calls = _Calls(Calls(policy, now))
    if not ends:
        tree = _trees(starts, calls.targets_of, calls.edge, direct)
    elif not starts:
        tree = _trees(ends, calls.callers_of, lambda name, caller: calls.edge(caller, name), direct)
    else:
        tree = (branch for start in starts for branch in _chains(start, ends, calls, direct))
    return Reach(starts, ends, tuple(tree))


class _Calls:
    """The calls from a workload and to a target, each found once."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._edges: dict[tuple[str, str], Edge] = {}
        self._targets: dict[str, tuple[str, ...]] = {}

    def targets_of(self, name: str) -> tuple[str, ...]:
        """Whom a workload may call; a place outside calls nobody."""
        if name not in self._targets:
            one = self._calls.set_of((name,))
            self._targets[name] = tuple(to for to in self._calls.policy.mesh.targets if self._calls.callers(to) & one)
        return self._targets[name]

    def callers_of(self, name: str) -> tuple[str, ...]:
        """Who may call a target."""
        return tuple(self._calls.names(self._calls.callers(name)))

    def edge(self, caller: str, target: str) -> Edge:
        """One call, with the rules that allow it."""
        key = (caller, target)
        if key not in self._edges:
            self._edges[key] = Edge(caller, target, self._calls.between(caller, target))
        return self._edges[key]


_Next = Callable[[str], tuple[str, ...]]
_Made = Callable[[str, str], Edge]


def _trees(roots: tuple[str, ...], following: _Next, edge: _Made, direct: bool) -> Iterator[Branch]:
    """All that follows the roots: each name with what is below it once, as near to a root as it is."""
    distance = _distances(roots, following, direct)
    shown: set[str] = set()
    for root in roots:
        yield from _tree(
            root, distance, (lambda name: () if direct and distance[name] else following(name)), edge, shown
        )


def _chains(start: str, ends: Iterable[str], calls: _Calls, direct: bool) -> Iterator[Branch]:
    """The shortest chains from a workload to each of the ends. What it may ask of itself is a chain too."""
    distance = _distances((start,), calls.targets_of, direct)
    leading = _leading([end for end in ends if end in distance and end != start], distance, calls)
    if start in ends and start in calls.targets_of(start):
        leading.add((start, start))

    def onward(name: str) -> tuple[str, ...]:
        return tuple(to for to in calls.targets_of(name) if (name, to) in leading)

    if leading:
        yield from _tree(start, distance, onward, calls.edge, set())


def _leading(ends: list[str], distance: Mapping[str, int], calls: _Calls) -> set[tuple[str, str]]:
    """The calls on the shortest chains to the ends, found from the ends back."""
    found: set[tuple[str, str]] = set()
    todo, seen = list(ends), set(ends)
    while todo:
        name = todo.pop()
        before = [one for one in calls.callers_of(name) if distance.get(one, -2) + 1 == distance[name]]
        found.update((caller, name) for caller in before)
        todo += [caller for caller in before if caller not in seen]
        seen.update(before)
    return found


def _distances(roots: tuple[str, ...], following: _Next, direct: bool) -> Mapping[str, int]:
    """How many calls each name is away from the nearest root."""
    distance = dict.fromkeys(roots, 0)
    todo = deque(roots)
    while todo:
        name = todo.popleft()
        for to in () if direct and distance[name] else following(name):
            if to not in distance:
                distance[to] = distance[name] + 1
                todo.append(to)
    return distance


def _tree(root: str, distance: Mapping[str, int], following: _Next, edge: _Made, shown: set[str]) -> Iterator[Branch]:
    """A tree as lines. A name's branches stand where it is nearest to a root, and the first time that it is."""
    todo: list[tuple[str, Edge | None, int, bool]] = [(root, None, 0, True)]
    while todo:
        name, made, depth, last = todo.pop()
        below = following(name)
        here = distance[name] == depth and name not in shown
        yield Branch(name, made, depth, last, again=bool(below) and not here)
        if here:
            shown.add(name)
            further = [(to, edge(name, to), depth + 1, to is below[-1]) for to in below]
            todo += reversed(further)
