"""The shape of the two kinds of file, as one declaration: the checker walks it, and the JSON Schema is made from it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, field

from septum.model.diagnostic import Diagnostic, Span
from septum.policy.codes import LATER, MISSING_KEY, UNKNOWN_KEY, WRONG_SHAPE, WRONG_VALUE
from septum.policy.source import Mapping, Node, Scalar, Sequence


@dataclass(frozen=True, slots=True)
class Text:
    """One word. `choices` are all its values, where they are known; `pattern` and `example` serve editors."""

    doc: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    example: str = ""
    may_be_empty: bool = False


@dataclass(frozen=True, slots=True)
class Flag:
    """`true` or `false`."""

    doc: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from `least` up."""

    doc: str = ""
    least: int = 1


@dataclass(frozen=True, slots=True)
class Many:
    """A list; with `or_one`, a single item may stand for a list of one."""

    of: Shape
    doc: str = ""
    or_one: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping from names that the author chooses."""

    of: Shape
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Keys:
    """A mapping with the keys listed here and no others. `later` holds keys of a later version, and what they would do."""

    keys: MappingOf[str, Shape]
    required: tuple[str, ...] = ()
    later: MappingOf[str, str] = field(default_factory=dict)
    doc: str = ""


Shape = Text | Flag | Number | Many | Named | Keys

_DURATION = Text(
    "a duration: `250ms`, `5s`, `2m`, `1h`, or `0` for no limit",
    pattern=r"^(0|[0-9]+(\.[0-9]+)?(ms|s|m|h))$",
    example="5s",
)
_ADDRESS = Text("IP:PORT", example="127.0.0.1:9101")

WORKLOAD = Keys(
    {
        "segment": Text("the one segment the workload is in"),
        "at": Text("where the workload listens, as IP:PORT", example="127.0.0.1:9101"),
        "protocol": Text("what it speaks; declared, never guessed", choices=("http", "grpc", "tcp")),
        "health": Text(
            "a path (for gRPC: `grpc`) that the node probes; callers need a rule that spells it out", example="/healthz"
        ),
        "websocket": Flag("whether WebSocket upgrades reach it; off by default"),
        "path_parameters": Flag("whether it takes `;` in paths; otherwise such requests are denied"),
        "ignore_case": Flag("whether it treats paths that differ in case alike; patterns then do so too"),
        "mode": Text("its own mode, over that of its segment", choices=("observe", "enforce")),
        "outbound": Text("where its own outbound listener opens, as IP:PORT; chosen and kept by Septum otherwise"),
        "dials": Named(_ADDRESS, "TCP workload → the raw TCP address at which this workload finds it"),
        "timeouts": Keys({"connect": _DURATION, "request": _DURATION, "idle": _DURATION}, doc="time limits towards it"),
        "limits": Keys(
            {
                "connections": Number("open connections"),
                "pending": Number("waiting requests"),
                "requests": Number("open requests"),
            },
            doc="what one proxy may hold open towards it",
        ),
    },
    required=("segment", "at", "protocol"),
    doc="a service",
)

MESH = Keys(
    {
        "mesh": Text("the name of the mesh"),
        "trust_domain": Text("the SPIFFE trust domain of its identities", example="shop.test"),
        "segments": Named(Text("what the segment is for", may_be_empty=True), "segment → what it is for"),
        "workloads": Named(WORKLOAD, "workload → where it is and what it speaks"),
        "enforce": Many(
            Text("a segment"),
            "the segments whose denials are carried out; the others are observed. Left out: all are enforced",
        ),
    },
    required=("mesh", "trust_domain", "segments", "workloads"),
    doc="septum.yaml: what exists",
)

RULE = Keys(
    {
        "name": Text("the rule's name, in records and messages", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        "from": Many(Text("a workload, or `segment:NAME`"), "who may call", or_one=True),
        "to": Many(Text("a workload, or `segment:NAME`"), "whom", or_one=True),
        "http": Many(Text("METHODS PATH", example="GET,HEAD /catalog/**"), "operations of HTTP targets", or_one=True),
        "grpc": Many(
            Text("package.Service/Method", example="shop.Payments/Authorize"), "methods of gRPC targets", or_one=True
        ),
        "because": Text("why the rule is there"),
    },
    required=("from", "to"),
    later={
        "when": "conditions on an end user's claims",
        "until": "rules that expire",
        "from_time": "rules that begin later",
    },
    doc="an allow rule; what no rule allows is denied",
)

POLICY = Keys(
    {"allow": Many(RULE, "allow rules; there are no others")},
    later={"guarantees": "statements about the policy that must hold"},
    doc="policy/*.yaml: what may happen",
)


class Checker:
    """Walks a tree along its shape and collects everything that does not fit."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []

    def check(self, node: Node, shape: Shape, what: str) -> None:
        """Compare one node; `what` is how a message calls it."""
        match shape:
            case Keys():
                self._keys(node, shape, what)
            case Named():
                if isinstance(node, Mapping):
                    for key, value in node.entries:
                        self.check(value, shape.of, f"`{key.text}`")
                else:
                    self._wrong(node, f"{what} is a mapping of names", "write `name: value` lines below it")
            case Many():
                self._many(node, shape, what)
            case Text() | Flag() | Number():
                self._scalar(node, shape, what)

    def _keys(self, node: Node, shape: Keys, what: str) -> None:
        if not isinstance(node, Mapping):
            self._wrong(node, f"{what} is a mapping", f"with the keys {', '.join(shape.keys)}")
            return
        for key, value in node.entries:
            if key.text in shape.keys:
                self.check(value, shape.keys[key.text], f"`{key.text}`")
            elif key.text in shape.later:
                message = f"`{key.text}` ({shape.later[key.text]}) is not in this version of Septum"
                self._add(LATER, message, key.span, help="leave it out; ignoring it would widen what is allowed")
            else:
                self._add(UNKNOWN_KEY, f"unknown key `{key.text}`", key.span, help=suggestion(key.text, shape.keys))
        for required in shape.required:
            if node.get(required) is None:
                at = Span(node.span.file, node.span.line, node.span.column, node.span.line, node.span.column + 1)
                self._add(MISSING_KEY, f"{what} has no `{required}`", at)

    def _many(self, node: Node, shape: Many, what: str) -> None:
        if isinstance(node, Sequence):
            for item in node.items:
                self.check(item, shape.of, f"an item of {what}")
        elif shape.or_one and isinstance(node, Scalar):
            self.check(node, shape.of, what)
        else:
            self._wrong(node, f"{what} is a list", "write `- item` lines below it, or [a, b]")

    def _scalar(self, node: Node, shape: Text | Flag | Number, what: str) -> None:
        if not isinstance(node, Scalar):
            self._wrong(node, f"{what} is a single value", "")
            return
        match shape:
            case Text(choices=choices) if choices and node.text not in choices:
                self._add(
                    WRONG_VALUE,
                    f"{what} is one of {', '.join(choices)}",
                    node.span,
                    f"`{node.text}`",
                    suggestion(node.text, choices),
                )
            case Text(may_be_empty=False) if node.text == "":
                self._add(WRONG_VALUE, f"{what} is empty", node.span)
            case Flag() if not node.plain or node.text not in ("true", "false"):
                self._add(WRONG_VALUE, f"{what} is `true` or `false`", node.span, f"`{node.text}`")
            case Number(least=least) if not node.text.isascii() or not node.text.isdigit() or int(node.text) < least:
                self._add(WRONG_VALUE, f"{what} is a whole number from {least} up", node.span, f"`{node.text}`")
            case _:
                pass

    def _wrong(self, node: Node, message: str, help: str) -> None:
        first = Span(node.span.file, node.span.line, node.span.column, node.span.line, node.span.column + 1)
        self._add(WRONG_SHAPE, message, node.span if isinstance(node, Scalar) else first, help=help)

    def _add(self, code: str, message: str, span: Span, label: str = "", help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, span, label, help))


def suggestion(word: str, known: MappingOf[str, object] | tuple[str, ...], where: str = "") -> str:
    """A did-you-mean for a word, or the list of what there is when it is short."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?{where}"
    return f"known are {', '.join(f'`{name}`' for name in known)}" if 0 < len(known) <= 12 else ""
