"""Chains of calls over sets of workloads.

A set is the bits of a number: a step over all callers of a target is one operation, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Chains:
    """What can be reached by chains of calls. `callers` says who calls a workload, by its index."""

    callers: Callable[[int], int]
    _closed: dict[int, int] = field(default_factory=dict)

    def reaching(self, ends: int) -> int:
        """Who reaches a member of the set by any number of calls; its members do, by none."""
        seen, todo = 0, ends
        while todo:
            closed = self._closure(todo.bit_length() - 1)
            seen, todo = seen | closed, todo & ~closed
        return seen

    def _closure(self, end: int) -> int:
        """Who reaches one workload, and itself. What is known of those on the way is not looked for again."""
        if end in self._closed:
            return self._closed[end]
        seen = todo = 1 << end
        while todo:
            index = todo.bit_length() - 1
            todo ^= 1 << index
            closed = self._closed.get(index)
            if closed is None:
                new = self.callers(index) & ~seen
                seen, todo = seen | new, todo | new
            else:
                seen, todo = seen | closed, todo & ~closed
        self._closed[end] = seen
        return seen

    def shortest(self, starts: int, ends: Mapping[str, int]) -> tuple[tuple[int, ...], str] | None:
        """A shortest chain from one of `starts` to a target, whose last step is made by one of the target's `ends`.

        The callers in it by their indices, and the target; None when there is no chain. Of several as short, the one
        whose callers come first.
        """
        levels = self._levels(starts, ends)
        if not levels[-1] & starts:
            return None
        at = next(members(levels.pop() & starts))
        chain = [at]
        for level in reversed(levels):
            at = next(index for index in members(level) if self.callers(index) >> at & 1)
            chain.append(at)
        return tuple(chain), next(target for target, last in ends.items() if last >> at & 1)

    def _levels(self, starts: int, ends: Mapping[str, int]) -> list[int]:
        """Who makes the last step, who the one before, and so on, each as late as can be, until some start is met."""
        levels = [0]
        for callers in ends.values():
            levels[0] |= callers
        seen = levels[0]
        while levels[-1] and not levels[-1] & starts:
            before = 0
            for index in members(levels[-1]):
                before |= self.callers(index)
            levels.append(before & ~seen)
            seen |= before
        return levels


def members(of: int) -> Iterator[int]:
    """The indices in a set, in ascending order."""
    while of:
        lowest = of & -of
        yield lowest.bit_length() - 1
        of ^= lowest
