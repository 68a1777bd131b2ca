"""Whether two trees say the same, wherever and however it is written."""

from __future__ import annotations

from septum.policy.fit import value_of
from septum.policy.source import Mapping, Node, Scalar, Sequence

_Typed = tuple[type, object]


def alike(one: Node | None, other: Node | None) -> bool:
    """Whether two trees say the same; the order of a mapping's keys plays no part."""
    match one, other:
        case Scalar(), Scalar():
            return one.text == other.text and _typed(one) == _typed(other)
        case Sequence(), Sequence():
            return len(one.items) == len(other.items) and all(map(alike, one.items, other.items))
        case Mapping(), Mapping():
            mine, theirs = _values(one), _values(other)
            return mine.keys() == theirs.keys() and all(alike(value, theirs[key]) for key, value in mine.items())
        case _:
            return one is None and other is None


def _typed(scalar: Scalar) -> _Typed:
    """`1` and `"1"` are two values where the type counts."""
    return type(value_of(scalar)), value_of(scalar)


def _values(node: Mapping) -> dict[tuple[str, _Typed], Node]:
    return {(key.text, _typed(key)): value for key, value in node.entries}
