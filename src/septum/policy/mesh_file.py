"""`septum.yaml` to a Mesh. Runs on a tree whose shape has been checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.mesh import Address, Limits, Mesh, Mode, Protocol, Segment, Timeouts, Workload
from septum.model.operation import PathPattern, PatternError
from septum.model.spiffe import TRUST_DOMAIN, WORKLOAD_NAME
from septum.policy.codes import (
    ADDRESS_CLASH,
    AUTHORITY_CLASH,
    EMPTY_SEGMENT,
    NOT_A_TARGET,
    PROTOCOL,
    UNKNOWN_NAME,
    WRONG_VALUE,
)
from septum.policy.shape import suggestion
from septum.policy.source import Mapping, Node, Scalar, Sequence

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)|0")
# `localhost` means this host everywhere, and `septum` is ours.
_RESERVED = ("localhost", "septum")

T = TypeVar("T")


@dataclass
class MeshReader:
    """Reads one mesh, collecting what is wrong with it."""

    diagnostics: list[Diagnostic] = field(default_factory=list)

    def read(self, root: Mapping) -> Mesh:
        """The mesh. It is only meant to be used when no diagnostic was added."""
        segments = {key.text: Segment(key.text, _text(value), key.span) for key, value in _entries(root, "segments")}
        for key, _ in _entries(root, "segments"):
            if not WORKLOAD_NAME.fullmatch(key.text):
                self._name(key)
        trust_domain = self._trust_domain(root)
        workloads = {
            key.text: self._workload(key, value)
            for key, value in _entries(root, "workloads")
            if isinstance(value, Mapping)
        }
        self._references(root, segments, workloads)
        mesh = Mesh(_text(root.get("mesh")), trust_domain, segments, workloads, self._enforced(root, segments))
        if not self.diagnostics:
            self._addresses(mesh)
            self._authorities(mesh)
            self._empty_segments(mesh)
        return mesh

    def _trust_domain(self, root: Mapping) -> str:
        node = root.get("trust_domain")
        text = _text(node)
        if node is not None and not TRUST_DOMAIN.fullmatch(text):
            help = "lower-case letters, digits, dots, dashes and underscores (SPIFFE-ID, 2.1)"
            self._add(WRONG_VALUE, "this is not a SPIFFE trust domain", node.span, help=help)
        return text

    def _name(self, key: Scalar) -> None:
        help = "lower-case letters, digits and inner dashes, at most 63: callers use it as a host name"
        self._add(WRONG_VALUE, f"`{key.text}` cannot be a name", key.span, help=help)

    def _workload(self, key: Scalar, node: Mapping) -> Workload:
        if not WORKLOAD_NAME.fullmatch(key.text):
            self._name(key)
        if key.text in _RESERVED:
            self._add(WRONG_VALUE, f"`{key.text}` cannot be a workload", key.span, help="choose another name")
        protocol = self._one_of(node.get("protocol"), Protocol, Protocol.HTTP)
        return Workload(
            name=key.text,
            segment=_text(node.get("segment")),
            at=self._address(node.get("at"), wildcard=False) or Address("127.0.0.1", 1),
            protocol=protocol,
            health=self._health(node.get("health"), protocol),
            websocket=self._flag(node, "websocket", protocol, (Protocol.HTTP,)),
            path_parameters=self._flag(node, "path_parameters", protocol, (Protocol.HTTP,)),
            ignore_case=self._flag(node, "ignore_case", protocol, (Protocol.HTTP,)),
            mode=self._one_of(node.get("mode"), Mode, None),
            outbound=self._address(node.get("outbound")),
            dials={
                name.text: at for name, value in _entries(node, "dials") if (at := self._address(value)) is not None
            },
            timeouts=self._timeouts(node.get("timeouts")),
            limits=_limits(node.get("limits")),
            span=key.span,
        )

    def _one_of(self, node: Node | None, kind: Callable[[str], T], default: T) -> T:
        try:
            return kind(_text(node)) if node is not None else default
        except ValueError:
            return default  # the shape check has said so

    def _address(self, node: Node | None, *, wildcard: bool = True) -> Address | None:
        if node is None:
            return None
        try:
            address = Address.parse(_text(node))
        except ValueError as error:
            self._add(WRONG_VALUE, "this is not an address", node.span, str(error))
            return None
        if not wildcard and address.host in ("0.0.0.0", "::"):  # noqa: S104 - it is refused here
            self._add(WRONG_VALUE, "a workload is at one address", node.span, "this means every address")
        return address

    def _health(self, node: Node | None, protocol: Protocol) -> str | None:
        if node is None:
            return None
        text = _text(node)
        if protocol is Protocol.TCP or (protocol is Protocol.GRPC) != (text == "grpc"):
            help = {Protocol.TCP: "leave it out", Protocol.GRPC: "write `grpc`: the standard health service is asked"}
            message = f"a {protocol} workload has no such health check"
            self._add(PROTOCOL, message, node.span, help=help.get(protocol, "write a path, such as /healthz"))
            return None
        if protocol is Protocol.GRPC:
            return "/grpc.health.v1.Health/Check"
        try:
            if PathPattern.parse(text).literal is None:
                self._add(WRONG_VALUE, "a health path is one path", node.span, help="without placeholders")
        except PatternError as error:
            self._add(WRONG_VALUE, error.message, node.span, help=error.help)
        return text

    def _flag(self, node: Mapping, key: str, protocol: Protocol, allowed: tuple[Protocol, ...]) -> bool:
        value = node.get(key)
        if value is not None and protocol not in allowed:
            self._add(PROTOCOL, f"`{key}` means nothing on a {protocol} workload", value.span, help="leave it out")
        return _text(value) == "true"

    def _timeouts(self, node: Node | None) -> Timeouts:
        given: dict[str, float] = {}
        for key, value in node.entries if isinstance(node, Mapping) else ():
            match = _DURATION.fullmatch(_text(value))
            if match is None:
                self._add(
                    WRONG_VALUE,
                    "this is not a duration",
                    value.span,
                    help="such as 250ms, 5s, 2m, 1h, or 0 for no limit",
                )
            elif key.text == "connect" and not match[1]:
                self._add(WRONG_VALUE, "a connection cannot be waited for without limit", value.span, help="such as 1s")
            elif match[2] in _UNITS or match[0] == "0":
                given[key.text] = float(match[1] or 0) * _UNITS.get(match[2] or "s", 1.0)
        return Timeouts(**{name: value for name, value in given.items() if name in ("connect", "request", "idle")})

    def _enforced(self, root: Mapping, segments: dict[str, Segment]) -> frozenset[str]:
        node = root.get("enforce")
        if node is None:
            return frozenset(segments)
        items = node.items if isinstance(node, Sequence) else ()
        for item in items:
            if _text(item) not in segments:
                self._unknown("segment", item, {name: s.span for name, s in segments.items()})
        return frozenset(_text(item) for item in items)

    def _references(self, root: Mapping, segments: dict[str, Segment], workloads: dict[str, Workload]) -> None:
        for key, node in _entries(root, "workloads"):
            segment = node.get("segment") if isinstance(node, Mapping) else None
            if segment is not None and _text(segment) not in segments:
                self._unknown("segment", segment, {name: s.span for name, s in segments.items()})
            for target, _ in _entries(node, "dials"):
                if target.text not in workloads:
                    self._unknown("workload", target, {name: w.span for name, w in workloads.items()})
                elif workloads[target.text].protocol is not Protocol.TCP:
                    message = f"`{target.text}` speaks {workloads[target.text].protocol}, and `dials` opens raw TCP"
                    self._add(
                        NOT_A_TARGET,
                        message,
                        target.span,
                        help=f"`{key.text}` reaches it through its outbound listener",
                    )

    def _unknown(self, kind: str, node: Node, known: dict[str, Span | None]) -> None:
        self.diagnostics.append(unknown_name(kind, _text(node), node.span, known))

    def _addresses(self, mesh: Mesh) -> None:
        seen: dict[Address, str] = {}
        for workload in mesh.workloads.values():
            for what, address in _listening(workload):
                if address in seen and workload.span is not None:
                    message = f"{what} of `{workload.name}` is {address}, and so is {seen[address]}"
                    self._add(ADDRESS_CLASH, message, workload.span, help="give one of them another port")
                seen.setdefault(address, f"{what} of `{workload.name}`")

    def _authorities(self, mesh: Mesh) -> None:
        for workload in mesh.workloads.values():
            for authority in mesh.authorities(workload):
                other = mesh.resolve(authority)
                if other != workload.name and workload.span is not None:
                    message = f"callers reach both `{workload.name}` and `{other}` as {authority}"
                    self._add(AUTHORITY_CLASH, message, workload.span)

    def _empty_segments(self, mesh: Mesh) -> None:
        for segment in mesh.segments.values():
            if not mesh.members(segment.name) and segment.span is not None:
                message = f"no workload is in segment `{segment.name}`"
                self.diagnostics.append(Diagnostic(EMPTY_SEGMENT, message, segment.span, severity=Severity.WARNING))

    def _add(self, code: str, message: str, span: Span, label: str = "", help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, span, label, help))


def unknown_name(kind: str, name: str, span: Span, known: dict[str, Span | None]) -> Diagnostic:
    """The diagnostic for a name that nothing has, with the nearest one and where it is defined."""
    help = suggestion(name, tuple(known))
    near = help.removeprefix("did you mean `").removesuffix("`?")
    if near != help and (where := known[near]) is not None:
        help += f" it is defined at {where.place}"
    return Diagnostic(UNKNOWN_NAME, f"unknown {kind} `{name}`", span, f"no {kind} has this name", help)


def _listening(workload: Workload) -> Iterator[tuple[str, Address]]:
    yield "`at`", workload.at
    if workload.outbound is not None:
        yield "`outbound`", workload.outbound
    for name, address in workload.dials.items():
        yield f"`dials: {name}`", address


def _limits(node: Node | None) -> Limits:
    given = {
        key.text: int(_text(value))
        for key, value in (node.entries if isinstance(node, Mapping) else ())
        if _text(value).isdigit()
    }
    return Limits(**{name: value for name, value in given.items() if name in ("connections", "pending", "requests")})


def _entries(node: Node | None, key: str) -> tuple[tuple[Scalar, Node], ...]:
    value = node.get(key) if isinstance(node, Mapping) else None
    return value.entries if isinstance(value, Mapping) else ()


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) else ""
