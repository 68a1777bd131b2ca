"""Decision diagrams: sets of requests as questions asked in one order, each answer leading to the next question.

A node asks one variable. `branches` says what follows an answer that it spells out, `otherwise` what follows every
other one; a variable that is not asked does not matter. Equal nodes are one object (hash-consing), and a node whose
answers all lead to one place is that place, so sets stay small and comparing them is cheap.

What an answer that is not spelled out means is the variable's own business (`follow`): a moment belongs to the interval
that began last, a text is also known by its words, and a letter's case may not count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

# What is asked; variables are asked in ascending order.
Variable: TypeAlias = tuple[Any, ...]
Answer: TypeAlias = Any

KIND: Variable = (0,)
PARAMETERS: Variable = (1,)
TIME: Variable = (4,)

# Answers: the path is over; a claim is a list, or a text that is not spelled out; the path has parameters (`;`), or
# such that some servers resolve as dots.
END = ("end",)
LIST, TEXT = ("list",), ("text",)
WITH, WITH_DOTS = ("with",), ("with dots",)


class Folded(NamedTuple):
    """A segment in any case but those that are spelled out."""

    lower: str


def segment(index: int) -> Variable:
    """The path's segment at an index, END after the last one."""
    return (2, index)


def claim(name: str) -> Variable:
    """What a claim's value is: a typed value, LIST, TEXT, or otherwise missing or anything else."""
    return (3, name, 0)


def item(name: str, value: tuple[str, Any]) -> Variable:
    """Whether a claim that is a list holds a typed value."""
    return (3, name, 1, value[0], str(value[1]))


def spoken(name: str, word: str) -> Variable:
    """Whether a claim that is a text holds a word."""
    return (3, name, 2, word)


class Ask:
    """A node: see above. Made by `ask` alone, so that equal ones are identical."""

    __slots__ = ("__weakref__", "branches", "otherwise", "plain", "variable")

    def __init__(self, variable: Variable, branches: Mapping[Answer, Node], otherwise: Node) -> None:
        self.variable, self.branches, self.otherwise = variable, branches, otherwise
        # Whether an answer that is not spelled out always leads to `otherwise`.
        self.plain = not (variable is TIME or TEXT in branches or any(isinstance(key, Folded) for key in branches))


Node: TypeAlias = Ask | bool

_known: WeakValueDictionary[tuple[Variable, frozenset[tuple[Answer, Node]], Node], Ask] = WeakValueDictionary()


def ask(variable: Variable, branches: Mapping[Answer, Node], otherwise: Node) -> Node:
    """The one node that asks so, or where it leads when every answer leads there."""
    kept = _needed(variable, branches, otherwise)
    if not kept:
        return otherwise
    key = (variable, frozenset(kept.items()), otherwise)
    known = _known.get(key)
    if known is None:
        known = _known[key] = Ask(variable, kept, otherwise)
    return known


def follow(node: Ask, answer: Answer) -> Node:
    """Where an answer leads."""
    found = node.branches.get(answer)
    if found is not None:
        return found
    return node.otherwise if node.plain else _unspelled(node.variable, node.branches, node.otherwise, answer)


def both(one: Node, other: Node) -> Node:
    """The intersection."""
    if one is False or other is False:
        return False
    if one is True or one is other:
        return other
    return one if other is True else _both(one, other)


def either(one: Node, other: Node) -> Node:
    """The union."""
    if one is True or other is True:
        return True
    if one is False or one is other:
        return other
    return one if other is False else _either(one, other)


def without(one: Node, other: Node) -> Node:
    """The difference."""
    if one is False or other is True or one is other:
        return False
    return one if other is False else _without(one, other)


# Policies repeat themselves, so what has been combined is looked up.
_KEPT = 1 << 16


@lru_cache(_KEPT)
def _both(one: Node, other: Node) -> Node:
    return _combined(both, one, other)


@lru_cache(_KEPT)
def _either(one: Node, other: Node) -> Node:
    return _combined(either, one, other)


@lru_cache(_KEPT)
def _without(one: Node, other: Node) -> Node:
    return _combined(without, one, other)


def _combined(how: Callable[[Node, Node], Node], one: Node, other: Node) -> Node:
    """Both diagrams asked the first variable of the two, and then what follows combined."""
    variable = min(node.variable for node in (one, other) if isinstance(node, Ask))
    first = one if isinstance(one, Ask) and one.variable == variable else None
    second = other if isinstance(other, Ask) and other.variable == variable else None
    answers = {**(first.branches if first else {}), **(second.branches if second else {})}
    branches = {
        answer: how(follow(first, answer) if first else one, follow(second, answer) if second else other)
        for answer in answers
    }
    otherwise = how(first.otherwise if first else one, second.otherwise if second else other)
    return ask(variable, branches, otherwise)


def _needed(variable: Variable, branches: Mapping[Answer, Node], otherwise: Node) -> dict[Answer, Node]:
    """The branches without those that say what holds without them."""
    if variable is TIME:
        return _changing(branches, otherwise)
    # A class of answers (TEXT, a folded segment) first, since single ones are compared with it.
    kept = {key: to for key, to in branches.items() if to is not otherwise}
    if variable[0] == 2:
        folded = {key: to for key, to in kept.items() if isinstance(key, Folded)}
        if folded:
            exact = {key: to for key, to in branches.items() if not isinstance(key, Folded)}
            return folded | {
                key: to for key, to in exact.items() if to is not _unspelled(variable, folded, otherwise, key)
            }
    elif variable[0] == 3 and TEXT in branches:
        rest = {key: to for key, to in branches.items() if key is not TEXT}
        text = {TEXT: branches[TEXT]}
        different = {key: to for key, to in rest.items() if to is not _unspelled(variable, text, otherwise, key)}
        return different | {key: to for key, to in text.items() if to is not otherwise}
    return kept


def _changing(branches: Mapping[Answer, Node], otherwise: Node) -> dict[Answer, Node]:
    """The moments at which something begins that was not so before."""
    kept, before = {}, otherwise
    for moment in sorted(branches):
        if branches[moment] is not before:
            before = kept[moment] = branches[moment]
    return kept


def _unspelled(variable: Variable, branches: Mapping[Answer, Node], otherwise: Node, answer: Answer) -> Node:
    """Where an answer leads that no branch spells out."""
    if variable is TIME:
        moments = sorted(branches)
        began = bisect_right(moments, answer)
        return branches[moments[began - 1]] if began else otherwise
    if variable[0] == 2 and isinstance(answer, str):
        return branches.get(Folded(answer.lower()), otherwise)
    if TEXT in branches and answer[0] == "text" and answer is not TEXT:
        return _by_words(branches[TEXT], variable[1], answer[1])
    return otherwise


def _by_words(node: Node, name: str, text: str) -> Node:
    """What follows for one text, by the words that it holds."""
    words = text.split(" ")
    while isinstance(node, Ask) and node.variable[:3] == (3, name, 2):
        node = follow(node, node.variable[3] in words)
    return node
