"""Policy tests (`policy/*_test.yaml`, and blocks in `policy/*.md`) to cases over a policy. Pure: paths and bytes in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from septum.model.case import Call, Case
from septum.model.claims import NO_TOKEN, Claims
from septum.model.decision import Effect
from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.mesh import Protocol
from septum.model.operation import METHODS, ConnectOperation, GrpcOperation, HttpPattern, Operation, PatternError
from septum.model.policy import Policy
from septum.policy import source
from septum.policy.ask import http_operation
from septum.policy.codes import EMPTY_SEGMENT, NOT_A_REQUEST, PROTOCOL, UNREADABLE, WRONG_VALUE
from septum.policy.conditions import ISSUER, unknown_issuer
from septum.policy.fit import fit, value_of
from septum.policy.named_files import Files
from septum.policy.names import unknown_name
from septum.policy.pages import blocks
from septum.policy.roles import Role, role
from septum.policy.rules_file import RulesReader
from septum.policy.shape import CASES
from septum.policy.source import Mapping, Node, Scalar, Sequence, child, children, first, key_span, part, word, words
from septum.policy.text import MAX_BYTES, whole
from septum.policy.windows import read_time

# A method is a token (RFC 9110, section 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PATTERN = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}|(?<=/)\*\*?$")
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f]")
_ASKS = ("http", "grpc", "connect")
# What a proxy looks at before there are claims: the claims of a case are those of a token that it took.
_OF_VALIDITY = ("exp", "nbf")


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases of a mesh in the order of its files, and what is wrong with those of files that are left out."""

    cases: tuple[Case, ...]
    diagnostics: tuple[Diagnostic, ...]

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics for which the cases of a file are left out."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.ERROR)


def read_cases(files: Files, policy: Policy | None) -> Cases:
    """Every case of the files that hold tests; the others play no part.

    `policy` may be one that could only be read in part (`Loaded.partial`): names are looked up in it, and nothing is
    decided. Without one, only the shape of the cases is checked.
    """
    cases: list[Case] = []
    diagnostics: list[Diagnostic] = []
    for path in sorted(files):
        for read in _trees(path, files[path]):
            diagnostics += read.diagnostics
            if read.root is None or read.diagnostics:
                continue
            found = list(fit(read.root, CASES, "a test file"))
            written = _cases(read.root, policy, found) if policy is not None else []
            cases += written if _sound(found) else []
            diagnostics += found
    return Cases(tuple(cases), tuple(sorted(set(diagnostics), key=lambda d: d.order)))


def _trees(path: str, content: bytes | OSError) -> Iterator[source.Source]:
    """What is read as tests of one file: all of it, or of a page each block that says so."""
    kind = role(path)
    if kind not in (Role.TEST, Role.PAGE):
        return
    if isinstance(content, OSError):
        reason = content.strerror or str(content) or type(content).__name__
        yield source.Source(None, (Diagnostic(UNREADABLE, f"this cannot be read: {reason}", whole(path)),))
    elif kind is Role.TEST or len(content) > MAX_BYTES:
        yield source.read(path, content)
    else:
        yield from (source.read(path, block) for block in blocks(content))


def _cases(root: Node, policy: Policy, found: list[Diagnostic]) -> list[Case]:
    """The cases of one tree. What is wrong with them is added to `found`."""
    reader = _Reader(policy, found)
    items = root.items if isinstance(root, Sequence) else ()
    return [reader.case(item) for item in items if isinstance(item, Mapping)]


def _sound(found: Iterable[Diagnostic]) -> bool:
    return all(diagnostic.severity is not Severity.ERROR for diagnostic in found)


class _Reader:
    """Reads cases over a policy, and adds to `diagnostics` what is wrong with them."""

    def __init__(self, policy: Policy, diagnostics: list[Diagnostic]) -> None:
        self.diagnostics = diagnostics
        self._policy, self._mesh = policy, policy.mesh
        self._selectors = RulesReader(policy.mesh, diagnostics)

    def case(self, node: Mapping) -> Case:
        """One case, as far as it can be read."""
        callers, callers_text = self._members(node, "from", self._selectors.callers)
        targets, targets_text = self._members(node, "to", self._selectors.targets)
        asked = self._operations(node, targets)
        expect = Effect.ALLOW if word(node.get("expect")) == Effect.ALLOW else Effect.DENY
        at, out_of_time = read_time(node.get("at"))
        self.diagnostics += out_of_time
        what = ", ".join(sent for _, sent in asked)
        return Case(
            calls=tuple(
                Call(caller, target, operation, sent)
                for caller in callers
                for target in targets
                for operation, sent in asked
            ),
            expect=expect,
            by=self._by(node, expect),
            claims=self._claims(node),
            at=at,
            name=word(node.get("name")),
            because=word(node.get("because")),
            text=f"{callers_text} -> {targets_text} {what}",
            span=first(node),
        )

    def _members(
        self, node: Mapping, key: str, select: Callable[[Node | None], tuple[tuple[str, ...], str]]
    ) -> tuple[tuple[str, ...], str]:
        """Those whom a selector names. One that names nobody would make a test that nothing can fail."""
        before = len(self.diagnostics)
        members, text = select(node.get(key))
        if not members and text and len(self.diagnostics) == before:
            message = f"no workload is in `{text}`, so this tests nothing"
            self._add(EMPTY_SEGMENT, message, key_span(node, key))
        return members, text

    def _operations(self, node: Mapping, targets: tuple[str, ...]) -> list[tuple[Operation, str]]:
        """What is asked, each with how it is sent."""
        stated = [(key, value) for key, value in node.entries if key.text in _ASKS]
        if len(stated) > 1:
            message = f"a test asks in one way, and this in {' and '.join(f'`{key.text}:`' for key, _ in stated)}"
            self._add(NOT_A_REQUEST, message, stated[1][0].span, help="write two tests")
            return []
        key, value = stated[0] if stated else (None, None)
        if (key is None or key.text == "connect") and node.get("claims") is not None:
            self._add(PROTOCOL, "a TCP session carries no token", key_span(node, "claims"), help="leave `claims` out")
        self._protocols(node, key, targets)
        websocket = self._websocket(node)
        match key.text if key is not None else "connect":
            case "http":
                asked = [self._http(one, websocket) for one in words(value)]
            case "grpc":
                asked = [self._grpc(one) for one in words(value)]
            case _:
                asked = [self._connect(value)]
        return [one for one in asked if one is not None]

    def _protocols(self, node: Mapping, key: Scalar | None, targets: tuple[str, ...]) -> None:
        for name in targets:
            protocol = self._mesh.targets[name].protocol
            if key is None and protocol is not Protocol.TCP:
                message = f"`{name}` speaks {protocol}, and the test names no `{protocol}:` request"
                self._add(NOT_A_REQUEST, message, key_span(node, "to"), help=f"such as `{_SUCH[protocol]}`")
            elif key is not None and _SPOKEN[key.text] is not protocol:
                message = f"`{name}` speaks {protocol}, not {_SPOKEN[key.text]}, so this is denied whatever rules say"
                help = f"ask it for `{_SUCH[protocol]}`, or name other targets"
                self._add(PROTOCOL, message, key.span, help=help)

    def _connect(self, value: Node | None) -> tuple[Operation, str] | None:
        if isinstance(value, Scalar) and value.text == "false":
            self._add(NOT_A_REQUEST, "a test that does not connect asks for nothing", value.span, help="write `true`")
            return None
        return ConnectOperation(), "connect"

    def _websocket(self, node: Mapping) -> bool:
        if word(node.get("websocket")) != "true":
            return False
        requests = words(node.get("http"))
        for one in requests:
            if not one.text.startswith("GET "):
                self._add(NOT_A_REQUEST, "a WebSocket is asked for by GET (RFC 6455, 4.1)", one.span)
        if not requests:
            message = "a WebSocket is asked for by an `http:` request"
            self._add(NOT_A_REQUEST, message, key_span(node, "websocket"))
        return True

    def _http(self, one: Scalar, websocket: bool) -> tuple[Operation, str] | None:
        method, _, target = one.text.partition(" ")
        wrong = no_request(method, target)
        if wrong is None:
            return http_operation(method, target, websocket=websocket), one.text
        self._not_a_request(one, wrong)
        return None

    def _grpc(self, one: Scalar) -> tuple[Operation, str] | None:
        try:
            HttpPattern.parse_grpc(one.text)
        except PatternError as error:
            self._not_a_request(one, PatternError(*_NO_CALL, 0, error.length))
            return None
        service, _, method = one.text.partition("/")
        if "*" in one.text:
            help = "name one of the methods; a list of calls makes a test of each"
            self._not_a_request(one, PatternError(f"`{one.text}` is a pattern, not a call", help, 0, len(one.text)))
            return None
        return GrpcOperation(service, method), one.text

    def _not_a_request(self, one: Scalar, wrong: PatternError) -> None:
        if one.text:  # what is empty has been said by the shape check
            self._add(NOT_A_REQUEST, wrong.message, part(one, wrong.offset, wrong.length), help=wrong.help)

    def _by(self, node: Mapping, expect: Effect) -> str:
        by = node.get("by")
        if not isinstance(by, Scalar) or not by.text:
            return ""
        if expect is Effect.DENY:
            message = "`by` names the rule that allows, and a denial has none"
            self._add(WRONG_VALUE, message, key_span(node, "by"), help="leave it out, or expect: allow")
        elif by.text not in self._rules:
            self.diagnostics.append(unknown_name("rule", by.text, by.span, self._rules))
        return by.text

    def _claims(self, node: Mapping) -> Claims:
        entries = children(node, "claims")
        issuer = word(child(node.get("claims"), ISSUER))
        for name, value in entries:
            if name.text in _OF_VALIDITY:
                message = f"`{name.text}` says whether a token is valid, and these are the claims of one that is"
                help = "leave it out; without `claims` there is no valid token"
                self._add(WRONG_VALUE, message, name.span, help=help)
            elif name.text == ISSUER:
                self._issuer(value)
            elif name.text == "aud":
                self._audience(value, issuer)
        return {name.text: _data(value) for name, value in entries} or NO_TOKEN

    def _issuer(self, value: Node) -> None:
        if not isinstance(value, Scalar) or not isinstance(value_of(value), str):
            self._add(WRONG_VALUE, "a token has one issuer, which is a text", first(value))
        elif value.text and all(value.text != known.issuer for known in self._mesh.issuers.values()):
            self.diagnostics.append(unknown_issuer(value, self._mesh))

    def _audience(self, value: Node, issuer: str) -> None:
        taken = [a for known in self._mesh.issuers.values() if known.issuer == issuer for a in known.audiences]
        given = _data(value)
        named = given if isinstance(given, list) else [given]
        if taken and not any(one in taken for one in named):
            message = "a token for this audience is not taken, so it has no claims"
            help = f"leave it out, or name one of {', '.join(f'`{one}`' for one in taken)}"
            self._add(WRONG_VALUE, message, first(value), help=help)

    def _add(self, code: str, message: str, span: Span, label: str = "", help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, span, label, help))

    @cached_property
    def _rules(self) -> dict[str, Span | None]:
        return {rule.id: rule.span for rule in self._policy.rules}


_SPOKEN = {"http": Protocol.HTTP, "grpc": Protocol.GRPC, "connect": Protocol.TCP}
_SUCH = {
    Protocol.HTTP: "http: GET /orders/42",
    Protocol.GRPC: "grpc: shop.payments.v1.Payments/Authorize",
    Protocol.TCP: "connect: true",
}
_NO_CALL = ("a gRPC call is `package.Service/Method`", "such as `shop.payments.v1.Payments/Authorize`")


def no_request(method: str, target: str) -> PatternError | None:
    """Why a method and a request target are not what one client would send, or None."""
    start, size = len(method) + 1, len(method)
    if not method or not target:
        return PatternError("an HTTP request is METHOD, one space and PATH", "such as `GET /orders/42`", 0, size)
    if method == "*" or "," in method:
        help = "a list of requests makes a test of each"
        return PatternError(f"`{method}` is more than one method", help, 0, size)
    if not _TOKEN.fullmatch(method) or method == "CONNECT":
        return PatternError(f"`{method}` is not the method of a request", f"one of {', '.join(METHODS)}", 0, size)
    if method not in METHODS and method.upper() in METHODS:
        return PatternError(f"`{method}` is not a method; case matters", f"did you mean `{method.upper()}`?", 0, size)
    if not target.startswith("/"):
        return PatternError("the path of a request starts with `/`", f"did you mean `/{target}`?", start, len(target))
    if unsendable := _UNSENDABLE.search(target):
        return PatternError("nobody can send a control character in a path", "", start + unsendable.start(), 1)
    if pattern := _PATTERN.search(target.partition("?")[0]):
        help = "write what a client would send, such as `/orders/42`"
        return PatternError(f"`{pattern[0]}` is a pattern, not a path", help, start + pattern.start(), len(pattern[0]))
    return None


def _data(node: Node) -> object:
    """A value as it would stand in a token."""
    match node:
        case Scalar():
            return value_of(node)
        case Sequence(items):
            return [_data(item) for item in items]
        case Mapping(entries):
            return {key.text: _data(value) for key, value in entries}
