"""One request of a set: the plainest that the diagram leads to and that can be asked at all.

Not every row of answers is a request: a path's empty segment is its last one (slashes are merged), a path that is said
to have parameters has a segment to carry them, and a letter has two cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, product
from typing import Any, TypeAlias

from septum.model.claims import Claims
from septum.model.mesh import Protocol, Target
from septum.model.operation import METHODS, ConnectOperation, GrpcOperation, HttpOperation, Operation
from septum.verify.diagram import (
    END,
    KIND,
    LIST,
    PARAMETERS,
    TEXT,
    TIME,
    WITH,
    Answer,
    Ask,
    Folded,
    Node,
    Variable,
    follow,
)

# The answer for a segment of which nothing is asked but that it is none of those spelled out.
_FRESH = ("fresh",)
_OTHER = ("other",)
_PARAMETERS = ";v=1"

_Picks: TypeAlias = dict[Variable, tuple[Answer, frozenset[Answer]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked, with which verified claims, and when: None where any time will do."""

    operation: Operation
    claims: Claims
    time: float | None


def search(node: Node, target: Target | None = None) -> Asked | None:
    """A request that the diagram leads to, or None. Without a target, it may be one of any protocol."""
    return next(_found(node, {}, target), None)


def _found(node: Node, picks: _Picks, target: Target | None) -> Iterator[Asked]:
    if isinstance(node, Ask):
        for answer, following in _ways(node, picks, target):
            if following is not False:
                spelled = frozenset(node.branches)
                yield from _found(following, {**picks, node.variable: (answer, spelled)}, target)
    elif node:
        yield from _asked(picks, target)


def _ways(node: Ask, picks: _Picks, target: Target | None) -> Iterator[tuple[Answer, Node]]:
    """The answers that can be given here, plain ones first, and where they lead."""
    match node.variable[0]:
        case 0:
            yield from ((kind, follow(node, kind)) for kind in _kinds(node, target))
        case 1:
            yield from ((answer, follow(node, answer)) for answer in (_OTHER, WITH))
        case 2:
            possible = (answer for answer in _segments(node) if _may_follow(node.variable[1], answer, picks))
            yield from ((answer, node.otherwise if answer is _FRESH else follow(node, answer)) for answer in possible)
        case 4:
            yield from ((moment, follow(node, moment)) for moment in _moments(node))
        case _:
            yield _OTHER, node.otherwise
            yield from node.branches.items()


def _kinds(node: Ask, target: Target | None) -> Iterator[Answer]:
    spelled = [kind for kind in node.branches if target is None or kind in _kinds_of(target)]
    yield from sorted(spelled, key=_plainness)
    yield from (kind for kind in (_kinds_of(target) if target else [_OTHER]) if kind not in node.branches)


def _plainness(kind: Answer) -> tuple[bool, int]:
    """Methods in the order in which they are listed, WebSockets last."""
    return (kind[1], METHODS.index(kind[0])) if len(kind) == 2 else (False, 0)


def _kinds_of(target: Target) -> list[Answer]:
    """The kinds of operations that can be asked of a target."""
    match target.protocol:
        case Protocol.TCP:
            return [("connect",)]
        case Protocol.GRPC:
            return [("POST", False)]
        case _:
            plain: list[Answer] = [(method, False) for method in METHODS]
            return plain + ([(method, True) for method in METHODS] if target.websocket else [])


def _segments(node: Ask) -> Iterator[Answer]:
    """What can stand here: the end, a segment of which nothing is said, those that are spelled out."""
    last = {"": 2, END: 0}
    yield from sorted((answer for answer in node.branches if answer in last), key=lambda answer: last[answer])
    yield _FRESH
    yield from (answer for answer in node.branches if answer not in last and _has_a_text(answer, node.branches))
    yield from (answer for answer in (END, "") if answer not in node.branches)


def _has_a_text(answer: Answer, spelled: Mapping[Answer, Node]) -> bool:
    return not isinstance(answer, Folded) or _variant(answer, spelled) is not None


def _variant(folded: Folded, spelled: Mapping[Answer, Any] | frozenset[Answer]) -> str | None:
    """The segment in a case in which it is not spelled out, or None when there is none."""
    cases = (sorted({letter.lower(), letter.upper()}, reverse=True) for letter in folded.lower)
    return next((text for text in map("".join, product(*cases)) if text not in spelled), None)


def _may_follow(index: int, answer: Answer, picks: _Picks) -> bool:
    """Whether a path can go on so: it has a segment, and none follows an empty one but in `//`."""
    if index == 0:
        return answer is not END
    before = picks[(2, index - 1)][0] if (2, index - 1) in picks else _FRESH
    if before is END:
        return answer is END
    return before != "" or answer is END or (index == 1 and answer == "")


def _moments(node: Ask) -> Iterator[float]:
    begins = sorted(node.branches)
    yield begins[0] - 1
    yield from begins


def _asked(picks: _Picks, target: Target | None) -> Iterator[Asked]:
    """The request, when there is one."""
    kind = picks[KIND][0] if KIND in picks else next(iter(_kinds_of(target)), None) if target else ("GET", False)
    path = _path(picks)
    if path is None:
        return
    claims = dict(_claims(picks))
    time = picks[TIME][0] if TIME in picks else None
    yield Asked(_operation(kind, path, target), claims, time)


def _operation(kind: Answer, path: str, target: Target | None) -> Operation:
    if len(kind) == 1:
        return ConnectOperation()
    method, websocket = kind
    service, slash, called = path[1:].partition("/")
    if target is not None and target.protocol is Protocol.GRPC and service and slash and called and "/" not in called:
        return GrpcOperation(service, called)
    return HttpOperation(method, path, websocket)


def _path(picks: _Picks) -> str | None:
    """The path, or None where it has to have parameters and nothing can carry them."""
    answers = [picks[(2, index)] for index in range(_length(picks))]
    with_parameters = PARAMETERS in picks and picks[PARAMETERS][0] is WITH
    parts = [_text(answer, spelled, with_parameters) for answer, spelled in answers if answer is not END]
    if with_parameters and not any(answer is _FRESH for answer, _ in answers):
        if (answers and answers[-1][0] is END) or (parts and parts[-1] == ""):
            return None
        parts.append(f"x{_PARAMETERS}")
    return "/" + "/".join(parts)


def _length(picks: _Picks) -> int:
    return next(index for index in count() if (2, index) not in picks)


def _text(answer: Answer, spelled: frozenset[Answer], with_parameters: bool) -> str:
    if isinstance(answer, Folded):
        return _variant(answer, spelled) or answer.lower
    if answer is _FRESH:
        taken = {key.lower() for key in spelled if isinstance(key, str)}
        taken |= {key.lower for key in spelled if isinstance(key, Folded)}
        fresh = next(text for text in ("1", "x", *(f"x{n}" for n in range(len(taken) + 1))) if text not in taken)
        return fresh + (_PARAMETERS if with_parameters else "")
    return str(answer)


def _claims(picks: _Picks) -> Iterator[tuple[str, object]]:
    for variable, (answer, spelled) in picks.items():
        if variable[0] == 3 and variable[2] == 0 and answer is not _OTHER:
            name = variable[1]
            if answer is LIST:
                yield name, [_value(key[3:]) for key in _yes(picks, name, 1)]
            elif answer is TEXT:
                yield name, _words([key[3] for key in _yes(picks, name, 2)], _no(picks, name), spelled)
            else:
                yield name, answer[1]


def _yes(picks: _Picks, name: str, what: int) -> list[Variable]:
    return [key for key, (answer, _) in picks.items() if key[:3] == (3, name, what) and answer is True]


def _no(picks: _Picks, name: str) -> set[str]:
    return {key[3] for key, (answer, _) in picks.items() if key[:3] == (3, name, 2) and answer is not True}


def _words(words: list[str], not_these: set[str], spelled: frozenset[Answer]) -> str:
    """A text that holds words, and is none of those spelled out."""
    texts = {key[1] for key in spelled if len(key) == 2 and key[0] == "text"}
    fillers = (f"x{n}" for n in count())
    text = " ".join(words) or "x"
    while text in texts or not_these.intersection(text.split(" ")):
        text = " ".join([*words, next(fillers)])
    return text


def _value(typed: tuple[str, str]) -> object:
    kind, text = typed
    return text if kind == "text" else text == "True" if kind == "bool" else int(text)
