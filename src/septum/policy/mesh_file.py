"""`septum.yaml` to a Mesh. Runs on a tree whose shape has been checked, and says what that does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from septum.model.diagnostic import Diagnostic, Severity, Span
from septum.model.mesh import Address, Limits, Mesh, Mode, Protocol, Segment, Timeouts, Workload
from septum.model.operation import PathPattern, PatternError
from septum.model.spiffe import WORKLOAD_NAME
from septum.policy.clashes import Listening, address_clashes, authority_clashes, every_host, unused
from septum.policy.codes import NOT_A_TARGET, OPEN_IDENTITY, PROTOCOL, REPEATED, WRONG_VALUE
from septum.policy.fit import nearest
from septum.policy.names import unknown_name
from septum.policy.source import Mapping as MappingNode
from septum.policy.source import Node, Scalar, Sequence, part

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9.]+)(ms|s|m|h)")
# `localhost` means this host everywhere, and `septum` is ours.
RESERVED_NAMES = ("localhost", "septum")
_NOWHERE = Address("127.0.0.1", 1)


def read_mesh(root: MappingNode) -> tuple[Mesh, tuple[Diagnostic, ...]]:
    """The mesh and what is wrong with it. It is meant to be used only when no diagnostic of the file is an error."""
    reader = _Reader()
    mesh = reader.mesh(root)
    return mesh, tuple(reader.diagnostics)


@dataclass
class _Reader:
    """Reads one mesh, collecting what is wrong with it."""

    diagnostics: list[Diagnostic] = field(default_factory=list)
    listening: list[Listening] = field(default_factory=list)

    def mesh(self, root: MappingNode) -> Mesh:
        segments = {key.text: self._segment(key, value) for key, value in _entries(root, "segments")}
        workloads = {key.text: self._workload(key, value) for key, value in _entries(root, "workloads")}
        self._references(root, segments, workloads)
        enforced = self._enforced(root, segments)
        mesh = Mesh(_text(root.get("mesh")), _text(root.get("trust_domain")), segments, workloads, enforced)
        self.diagnostics += address_clashes(self.listening)
        if not self.diagnostics and all(workload.at != _NOWHERE for workload in workloads.values()):
            self.diagnostics += authority_clashes(mesh)
        self.diagnostics += unused(mesh, _key(root, "workloads"))
        return mesh

    def _segment(self, key: Scalar, value: Node) -> Segment:
        self._name(key)
        nothing = isinstance(value, Scalar) and value.plain and value.text in ("null", "~")
        return Segment(key.text, "" if nothing else _text(value), key.span)

    def _name(self, key: Scalar) -> None:
        if not WORKLOAD_NAME.fullmatch(key.text):
            help = "lower-case letters, digits and inner dashes, at most 63: callers use it as a host name"
            self._add(WRONG_VALUE, f"`{key.text}` cannot be a name", key.span, help=help)

    def _workload(self, key: Scalar, node: Node) -> Workload:
        self._name(key)
        if key.text in RESERVED_NAMES:
            self._add(WRONG_VALUE, f"`{key.text}` cannot be a workload", key.span, help="choose another name")
        protocol = _protocol(_get(node, "protocol"))
        return Workload(
            name=key.text,
            segment=_text(_get(node, "segment")),
            at=self._at(key, _get(node, "at")),
            protocol=protocol,
            health=self._health(_get(node, "health"), protocol),
            websocket=self._http_flag(node, "websocket", protocol),
            path_parameters=self._http_flag(node, "path_parameters", protocol),
            ignore_case=self._http_flag(node, "ignore_case", protocol),
            mode=_mode(_get(node, "mode")),
            outbound=self._identity(key, "outbound", _get(node, "outbound")),
            dials=dict(self._dials(key, node)),
            timeouts=self._timeouts(_get(node, "timeouts")),
            limits=_limits(_get(node, "limits")),
            span=key.span,
        )

    def _at(self, workload: Scalar, node: Node | None) -> Address:
        address = self._address(workload, "at", node)
        if address is not None and node is not None and every_host(address):
            help = "write the address at which the workload listens, such as 127.0.0.1:9101"
            self._add(WRONG_VALUE, "a workload is at one address", node.span, "this means every address", help)
        return address or _NOWHERE

    def _dials(self, workload: Scalar, node: Node) -> Iterator[tuple[str, Address]]:
        for target, value in _entries(node, "dials"):
            address = self._identity(workload, f"dials: {target.text}", value)
            yield target.text, address or _NOWHERE

    def _identity(self, workload: Scalar, what: str, node: Node | None) -> Address | None:
        """An address on which whoever connects is taken for the workload."""
        address = self._address(workload, what, node)
        if address is not None and node is not None and every_host(address):
            message = f"every host that reaches this one is taken for `{workload.text}`"
            help = "use a loopback address, or one that only the workload reaches"
            diagnostic = Diagnostic(
                OPEN_IDENTITY, message, node.span, "this means every address", help, Severity.WARNING
            )
            self.diagnostics.append(diagnostic)
        return address

    def _address(self, workload: Scalar, what: str, node: Node | None) -> Address | None:
        if not isinstance(node, Scalar):
            return None
        try:
            address = Address.parse(node.text)
        except ValueError as error:
            self._add(WRONG_VALUE, "this is not an address", node.span, help=str(error))
            return None
        self.listening.append(Listening(f"`{what}` of `{workload.text}`", address, node.span))
        return address

    def _health(self, node: Node | None, protocol: Protocol) -> str | None:
        if not isinstance(node, Scalar):
            return None
        if protocol is Protocol.TCP or (protocol is Protocol.GRPC) != (node.text == "grpc"):
            help = {Protocol.TCP: "leave it out", Protocol.GRPC: "write `grpc`: the standard health service is asked"}
            message = f"a {protocol} workload has no such health check"
            self._add(PROTOCOL, message, node.span, help=help.get(protocol, "write a path, such as /healthz"))
            return None
        if protocol is Protocol.GRPC:
            return "/grpc.health.v1.Health/Check"
        return self._health_path(node)

    def _health_path(self, node: Scalar) -> str:
        try:
            pattern = PathPattern.parse(node.text)
        except PatternError as error:
            self._add(WRONG_VALUE, error.message, part(node, error.offset, error.length), help=error.help)
            return node.text
        if pattern.literal is None:
            self._add(WRONG_VALUE, "a health path is one path", node.span, help="write it without `{…}` and `/**`")
        return node.text

    def _http_flag(self, node: Node, key: str, protocol: Protocol) -> bool:
        value = _get(node, key)
        if value is not None and protocol is not Protocol.HTTP:
            message = f"`{key}` means nothing on a {protocol} workload"
            self._add(PROTOCOL, message, value.span, help="leave it out")
        return _text(value) == "true"

    def _timeouts(self, node: Node | None) -> Timeouts:
        given: dict[str, float] = {}
        for key, value in node.entries if isinstance(node, MappingNode) else ():
            given[key.text] = _seconds(_text(value))
            if key.text == "connect" and _text(value) and given[key.text] == 0:
                message = "a connection cannot be waited for without limit"
                self._add(WRONG_VALUE, message, value.span, help="such as 1s")
        default = Timeouts()
        return Timeouts(
            connect=given.get("connect", default.connect),
            request=given.get("request", default.request),
            idle=given.get("idle", default.idle),
        )

    def _enforced(self, root: MappingNode, segments: Mapping[str, Segment]) -> frozenset[str]:
        node = root.get("enforce")
        if node is None:
            return frozenset(segments)
        names: set[str] = set()
        for item in node.items if isinstance(node, Sequence) else ():
            self._segment_reference(item, segments)
            if _text(item) in names:
                message = f"`{_text(item)}` is written twice"
                self.diagnostics.append(Diagnostic(REPEATED, message, item.span, severity=Severity.WARNING))
            names.add(_text(item))
        return frozenset(names)

    def _references(
        self, root: MappingNode, segments: Mapping[str, Segment], workloads: Mapping[str, Workload]
    ) -> None:
        for key, node in _entries(root, "workloads"):
            self._segment_reference(_get(node, "segment"), segments)
            for target, _ in _entries(node, "dials"):
                self._dialled(key, target, workloads)

    def _segment_reference(self, node: Node | None, segments: Mapping[str, Segment]) -> None:
        if isinstance(node, Scalar) and node.text and node.text not in segments:
            known = {name: segment.span for name, segment in segments.items()}
            self.diagnostics.append(unknown_name("segment", node.text, node.span, known))

    def _dialled(self, caller: Scalar, target: Scalar, workloads: Mapping[str, Workload]) -> None:
        if target.text not in workloads:
            known = {name: workload.span for name, workload in workloads.items()}
            self.diagnostics.append(unknown_name("workload", target.text, target.span, known))
        elif workloads[target.text].protocol is not Protocol.TCP:
            message = f"`{target.text}` speaks {workloads[target.text].protocol}, and `dials` opens raw TCP"
            help = f"`{caller.text}` reaches it through its outbound listener"
            self._add(NOT_A_TARGET, message, target.span, help=help)

    def _add(self, code: str, message: str, span: Span, label: str = "", help: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, span, label, help))


def _protocol(node: Node | None) -> Protocol:
    """The protocol, or the one that was most likely meant, so that one mistake does not bring others with it."""
    return Protocol(nearest(_text(node), tuple(Protocol)) or Protocol.HTTP)


def _mode(node: Node | None) -> Mode | None:
    return Mode(_text(node)) if _text(node) in tuple(Mode) else None


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _UNITS[match[2]] if match else 0.0


def _limits(node: Node | None) -> Limits:
    default = Limits()
    return Limits(
        connections=_count(_get(node, "connections"), default.connections),
        pending=_count(_get(node, "pending"), default.pending),
        requests=_count(_get(node, "requests"), default.requests),
    )


def _count(node: Node | None, default: int) -> int:
    text = _text(node)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else default


def _get(node: Node | None, key: str) -> Node | None:
    return node.get(key) if isinstance(node, MappingNode) else None


def _entries(node: Node | None, key: str) -> tuple[tuple[Scalar, Node], ...]:
    value = _get(node, key)
    return value.entries if isinstance(value, MappingNode) else ()


def _key(root: MappingNode, key: str) -> Span:
    return next((name.span for name, _ in root.entries if name.text == key), root.span)


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) else ""
